//! Our folder: PEFT's two files, and `llama_adapter.json` for what they cannot say.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use llama::weights::{Bytes, SafetensorsFile};
use llama::{Architecture, Llama};

use super::format::{Hints, read};
use super::keys::{self, Part};
use super::peft::{self, CONFIG_FILE, GATES, Method, PICKLE_FILE, TENSORS_FILE};
use super::settings::{LoraSettings, MixSettings, PromptSettings, Settings};
use super::tensors::{Array, Arrays, read_safetensors, to_safetensors};
use super::torch;
use crate::config::Gate;
use crate::data::{AdapterData, BaseInfo, LoraData, PromptData, PromptLayer, V2Data};
use crate::error::{Error, Result};
use crate::mix::{AnyAdapter, Mix, MixPart};
use crate::v2::Scale;
use crate::weights::AdapterWeights;

/// Reads the folder of a single adapter, ours or PEFT's, without a model.
///
/// # Errors
/// [`Error::NotAnAdapter`], [`Error::IsMix`], [`Error::ConfigFile`], [`Error::File`], or
/// [`Error::Tensors`] if the tensors are not those of the settings.
pub fn read_folder(folder: &Path) -> Result<AdapterData> {
    let settings = Settings::read(folder)?;
    if settings.as_ref().is_some_and(|settings| settings.mix.is_some()) {
        return Err(a_mix(folder));
    }
    let missing = |file: &str| Error::NotAnAdapter {
        path: folder.into(),
        reason: format!("{file} is missing"),
    };
    let config = peft::read(folder)?;
    if settings.is_none() && config.is_none() {
        return Err(missing(CONFIG_FILE));
    }
    let (path, pickle) = (folder.join(TENSORS_FILE), folder.join(PICKLE_FILE));
    let (path, arrays) = if path.exists() {
        let arrays = read_safetensors(&SafetensorsFile::new(Bytes::open(&path)?)?, &path)?;
        (path, arrays)
    } else if pickle.exists() {
        let arrays = torch::read(&pickle, |_| true)?;
        (pickle, arrays)
    } else {
        return Err(missing(TENSORS_FILE));
    };
    let mut base = BaseInfo::default();
    let mut expected = Expected::default();
    if let Some(config) = config {
        base.name = config.base;
        match config.method {
            Method::Prompts { adapter_len, adapter_layers } => {
                expected.prompts = Some(GATES);
                expected.prompt_shape = Some((adapter_len, adapter_layers));
            }
            Method::Lora { rank, alpha } => expected.lora = Some((rank, alpha)),
            Method::Ours if settings.is_none() => {
                return Err(missing(super::SETTINGS_FILE));
            }
            Method::Ours => {}
        }
    }
    if let Some(settings) = settings {
        let name = base.name.take();
        base = settings.base.info();
        base.name = base.name.or(name);
        let gates = |own: PromptSettings| (own.gate, own.activation);
        expected.prompts = settings.prompts.map(gates);
        expected.scale = settings.v2.map(|own| own.scale);
        expected.lora = settings.lora.map(|LoraSettings { rank, alpha }| (rank, alpha));
    }
    assemble(base, &expected, arrays, &path)
}

/// What the settings say should be among the tensors.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub prompts: Option<(Gate, crate::Activation)>,
    /// Length and number of layers.
    pub prompt_shape: Option<(usize, usize)>,
    pub scale: Option<Scale>,
    pub lora: Option<(usize, f64)>,
}

/// Named tensors ─► data, all that is wrong in one report.
pub(crate) fn assemble(
    mut base: BaseInfo,
    expected: &Expected,
    arrays: Arrays,
    path: &Path,
) -> Result<AdapterData> {
    let mut problems = Vec::new();
    let mut parts: BTreeMap<(usize, Part), Array> = BTreeMap::new();
    let last = base.sizes.as_ref().map(|sizes| sizes.n_layers);
    for (name, array) in arrays {
        let known = keys::parse(&name).filter(|(_, _, part)| expected.knows(*part));
        match known {
            Some((family, layer, part)) => {
                base.architecture = base.architecture.or(family);
                match layer.or(last) {
                    Some(layer) => {
                        parts.insert((layer, part), array);
                    }
                    None => problems.push(format!("{name} needs the base's sizes in the settings")),
                }
            }
            None => problems.push(format!("unexpected: {name}")),
        }
    }
    let family = base.architecture;
    let prompts = expected
        .prompts
        .map(|gates| prompts_of(&parts, gates, expected.prompt_shape, family, &mut problems));
    let v2 = expected.scale.map(|scale| v2_of(&parts, scale, &mut problems));
    let lora = expected.lora.map(|(rank, alpha)| lora_of(&parts, rank, alpha, &mut problems));
    if !problems.is_empty() {
        return Err(Error::Tensors { path: path.into(), problems });
    }
    Ok(AdapterData { base, prompts, v2, lora })
}

impl Expected {
    fn knows(&self, part: Part) -> bool {
        match part {
            Part::Prompt | Part::Gate | Part::Factor => self.prompts.is_some(),
            Part::Scale(_) | Part::Bias(_) | Part::NormWeight(_) | Part::NormBias(_) => {
                self.scale.is_some()
            }
            Part::LoraA(_) | Part::LoraB(_) => self.lora.is_some(),
        }
    }
}

fn prompts_of(
    parts: &BTreeMap<(usize, Part), Array>,
    (gate, activation): (Gate, crate::Activation),
    shape: Option<(usize, usize)>,
    family: Option<&Architecture>,
    problems: &mut Vec<String>,
) -> PromptData {
    let mut data =
        PromptData { adapter_len: 0, d_model: 0, gate, activation, layers: BTreeMap::new() };
    let of_layers =
        parts.keys().filter(|(_, part)| matches!(part, Part::Prompt | Part::Gate | Part::Factor));
    let mut layers = of_layers.map(|(layer, _)| *layer).collect::<Vec<_>>();
    layers.dedup();
    for layer in layers {
        let get = |part| parts.get(&(layer, part));
        let (Some(prompt), Some(gates)) = (get(Part::Prompt), get(Part::Gate)) else {
            for part in [Part::Prompt, Part::Gate] {
                if get(part).is_none() {
                    problems.push(format!("missing: {}", keys::key(family, layer, part)));
                }
            }
            continue;
        };
        let key = keys::key(family, layer, Part::Prompt);
        let (&[adapter_len, d_model] | &[1, adapter_len, d_model]) = &prompt.shape[..] else {
            problems.push(format!("{key}: expected [1, K, C], found {:?}", prompt.shape));
            continue;
        };
        let wanted = shape.map_or(adapter_len, |(len, _)| len);
        let first = data.layers.is_empty();
        if adapter_len != wanted
            || !first && (adapter_len, d_model) != (data.adapter_len, data.d_model)
        {
            let width = if first { d_model } else { data.d_model };
            problems
                .push(format!("{key}: expected [1, {wanted}, {width}], found {:?}", prompt.shape));
            continue;
        }
        if adapter_len == 0 || d_model == 0 {
            problems.push(format!("{key}: {:?} is empty", prompt.shape));
            continue;
        }
        let count = gates.values.len();
        if gates.squeezed().len() > 1 || count == 0 || gate == Gate::Scalar && count != 1 {
            let key = keys::key(family, layer, Part::Gate);
            problems.push(format!(
                "{key}: expected one gate a {}, found {:?}",
                if gate == Gate::Scalar { "layer" } else { "head" },
                gates.shape
            ));
            continue;
        }
        (data.adapter_len, data.d_model) = (adapter_len, d_model);
        let factor = get(Part::Factor).and_then(|factor| factor.values.first().copied());
        let own = PromptLayer { prompt: prompt.values.clone(), gate: gates.values.clone(), factor };
        data.layers.insert(layer, own);
    }
    if let Some((_, wanted)) = shape
        && data.layers.len() != wanted
        && problems.is_empty()
    {
        problems.push(format!("expected prompts of {wanted} layers, found {}", data.layers.len()));
    }
    if data.layers.is_empty() && problems.is_empty() {
        problems.push("no prompts".into());
    }
    data
}

fn v2_of(
    parts: &BTreeMap<(usize, Part), Array>,
    scale: Scale,
    problems: &mut Vec<String>,
) -> V2Data {
    let mut data = V2Data { scale, linears: BTreeMap::new(), norms: BTreeMap::new() };
    for ((layer, part), array) in parts {
        let values = array.values.clone();
        match *part {
            Part::Scale(name) => {
                data.linears.entry((*layer, name)).or_default().scale = Some(values);
            }
            Part::Bias(name) => data.linears.entry((*layer, name)).or_default().bias = Some(values),
            Part::NormWeight(name) => data.norms.entry((*layer, name)).or_default().weight = values,
            Part::NormBias(name) => {
                data.norms.entry((*layer, name)).or_default().bias = Some(values);
            }
            _ => {}
        }
    }
    if data.linears.is_empty() && data.norms.is_empty() && problems.is_empty() {
        problems.push("no scales, biases or norms".into());
    }
    data
}

fn lora_of(
    parts: &BTreeMap<(usize, Part), Array>,
    rank: usize,
    alpha: f64,
    problems: &mut Vec<String>,
) -> LoraData {
    let mut pairs = BTreeMap::new();
    if rank == 0 {
        problems.push("LoRA of rank 0".into());
    }
    for ((layer, part), a) in parts {
        let name = match *part {
            Part::LoraA(name) => name,
            Part::LoraB(name) => {
                if !parts.contains_key(&(*layer, Part::LoraA(name))) {
                    let key = keys::key(None, *layer, Part::LoraA(name));
                    problems.push(format!("missing: {key}"));
                }
                continue;
            }
            _ => continue,
        };
        let Some(b) = parts.get(&(*layer, Part::LoraB(name))) else {
            let key = keys::key(None, *layer, Part::LoraB(name));
            problems.push(format!("missing: {key}"));
            continue;
        };
        if a.shape.first() != Some(&rank) || b.shape.get(1) != Some(&rank) {
            let key = keys::key(None, *layer, Part::LoraA(name));
            let (a, b) = (&a.shape, &b.shape);
            problems.push(format!("{key}: expected rank {rank}, found {a:?} and {b:?}"));
        }
        pairs.insert((*layer, name), (a.values.clone(), b.values.clone()));
    }
    if pairs.is_empty() && problems.is_empty() {
        problems.push("no low-rank products".into());
    }
    LoraData { rank, alpha, pairs }
}

/// Every tensor of an adapter under its name.
pub(crate) fn arrays(data: &AdapterData) -> Arrays {
    let family = data.base.architecture;
    let mut arrays = Arrays::new();
    let mut put = |layer: usize, part: Part, shape: Vec<usize>, values: &[f32]| {
        arrays.insert(keys::key(family, layer, part), Array::new(shape, values.to_vec()));
    };
    if let Some(prompts) = &data.prompts {
        let PromptData { adapter_len, d_model, .. } = *prompts;
        for (&layer, own) in &prompts.layers {
            put(layer, Part::Prompt, vec![1, adapter_len, d_model], &own.prompt);
            put(layer, Part::Gate, vec![own.gate.len()], &own.gate);
            if let Some(factor) = own.factor {
                put(layer, Part::Factor, vec![1], &[factor]);
            }
        }
    }
    if let Some(v2) = &data.v2 {
        let mut vector = |layer, part, values: &[f32]| put(layer, part, vec![values.len()], values);
        for (&(layer, name), own) in &v2.linears {
            own.scale.iter().for_each(|values| vector(layer, Part::Scale(name), values));
            own.bias.iter().for_each(|values| vector(layer, Part::Bias(name), values));
        }
        for (&(layer, name), own) in &v2.norms {
            vector(layer, Part::NormWeight(name), &own.weight);
            own.bias.iter().for_each(|values| vector(layer, Part::NormBias(name), values));
        }
    }
    if let Some(lora) = &data.lora {
        for (&(layer, name), (a, b)) in &lora.pairs {
            put(layer, Part::LoraA(name), vec![lora.rank, a.len() / lora.rank], a);
            put(layer, Part::LoraB(name), vec![b.len() / lora.rank, lora.rank], b);
        }
    }
    arrays
}

/// Writes the folder of a single adapter.
pub(crate) fn write_folder(data: &AdapterData, folder: &Path) -> Result<()> {
    write_peft(data, folder, TENSORS_FILE)?;
    Settings::of(data).write(folder)
}

/// Writes PEFT's two files, the tensors into one of its two kinds.
pub(crate) fn write_peft(data: &AdapterData, folder: &Path, tensors: &str) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|source| llama::Error::Write { path: folder.into(), source })?;
    let path = folder.join(tensors);
    match tensors {
        PICKLE_FILE => torch::write(&path, arrays(data), None)?,
        _ => llama::files::write(&path, &to_safetensors(&arrays(data)))?,
    }
    llama::files::write(&folder.join(CONFIG_FILE), peft::to_json(data).as_bytes())?;
    Ok(())
}

fn a_mix(folder: &Path) -> Error {
    Error::IsMix { path: folder.into() }
}

/// What is known of a model that is at hand.
fn base_info(llama: &Llama, name: &str) -> BaseInfo {
    let fingerprint = Some(llama.fingerprint());
    BaseInfo { fingerprint, ..BaseInfo::of(llama.config(), Some(name.into())) }
}

impl AdapterWeights {
    /// Writes the adapter's files into `folder`, which is made if need be: PEFT's two, and
    /// `llama_adapter.json`. `base` is what the model shall be called.
    ///
    /// # Errors
    /// [`Error::File`]; files that were there stay whole.
    pub fn save(&self, folder: &Path, llama: &Llama, base: &str) -> Result<()> {
        write_folder(&self.to_data(base_info(llama, base)), folder)
    }

    /// Reads a single adapter of any [`Format`](super::Format), for the model it was made for.
    ///
    /// # Errors
    /// As [`AnyAdapter::load`], and [`Error::IsMix`].
    pub fn load(path: &Path, llama: &Llama, device: &Device) -> Result<Self> {
        match AnyAdapter::load(path, llama, device)? {
            AnyAdapter::Single(adapter) => Ok(adapter),
            AnyAdapter::Mix(_) => Err(a_mix(path)),
        }
    }
}

/// Refuses an adapter that says it was made for another model.
fn check_base(base: &BaseInfo, llama: &Llama, folder: &Path) -> Result<()> {
    let Some(fingerprint) = &base.fingerprint else { return Ok(()) };
    let differences = fingerprint.differences(&llama.fingerprint());
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::OtherBase { path: folder.into(), base: base.name.clone(), differences })
}

/// Parts of a mix as numbers: name, weight, adapter.
type DataParts = Vec<(String, f64, AdapterData)>;

/// Reads the parts of a mix's folder, or nothing if it holds a single adapter.
///
/// # Errors
/// As [`read_folder`]; [`Error::Config`] for a part whose name is no folder's.
pub fn read_mix(folder: &Path) -> Result<Option<DataParts>> {
    let Some(mix) = Settings::read(folder)?.and_then(|settings| settings.mix) else {
        return Ok(None);
    };
    let parts = mix.into_iter().map(|MixSettings { name, weight }| {
        folder_name(&name)?;
        let data = read_folder(&folder.join(&name))?;
        Ok((name, weight, data))
    });
    parts.collect::<Result<_>>().map(Some)
}

/// Writes a mix: a folder for each part, and the weights.
///
/// # Errors
/// [`Error::File`]; [`Error::Config`] for no parts, a name that is no folder's or comes twice, or a
/// weight that is no finite number.
pub fn write_mix(parts: &[(String, f64, AdapterData)], folder: &Path) -> Result<()> {
    let wrong = |field, found: String, expected| Error::Config { field, found, expected };
    let Some((_, _, first)) = parts.first() else {
        return Err(wrong("mix", "empty".into(), "at least one adapter"));
    };
    for (index, (name, weight, _)) in parts.iter().enumerate() {
        folder_name(name)?;
        if parts[..index].iter().any(|(other, _, _)| other == name) {
            return Err(Error::NameTaken { name: name.clone() });
        }
        if !weight.is_finite() {
            return Err(wrong("weight in a mix", weight.to_string(), "a finite number"));
        }
    }
    for (name, _, data) in parts {
        write_folder(data, &folder.join(name))?;
    }
    let names =
        parts.iter().map(|(name, weight, _)| MixSettings { name: name.clone(), weight: *weight });
    Settings::of_mix(names.collect(), &first.base).write(folder)?;
    // A single adapter that was here before is no part of the mix: PEFT would still read it.
    for file in [CONFIG_FILE, TENSORS_FILE].map(|file| folder.join(file)) {
        if file.exists() {
            std::fs::remove_file(&file)
                .map_err(|source| llama::Error::Write { path: file, source })?;
        }
    }
    Ok(())
}

impl AnyAdapter {
    /// Writes the adapter into `folder`; a mix gets a folder in it for each of its parts.
    ///
    /// # Errors
    /// As [`AdapterWeights::save`] and [`write_mix`].
    pub fn save(&self, folder: &Path, llama: &Llama, base: &str) -> Result<()> {
        let mix = match self {
            Self::Single(adapter) => return adapter.save(folder, llama, base),
            Self::Mix(mix) => mix,
        };
        let info = base_info(llama, base);
        let data =
            |part: &MixPart| (part.name.clone(), part.weight, part.adapter.to_data(info.clone()));
        write_mix(&mix.parts.iter().map(data).collect::<Vec<_>>(), folder)
    }

    /// Reads an adapter of any [`Format`](super::Format), or a mix, for the model it was made for.
    ///
    /// # Errors
    /// As [`read`] and [`AdapterWeights::from_data`]; [`Error::OtherBase`] for a model with another
    /// fingerprint than the adapter's.
    pub fn load(folder: &Path, llama: &Llama, device: &Device) -> Result<Self> {
        Self::load_with(folder, llama, device, true)
    }

    /// As [`load`](Self::load), on a model that may not be the one it was made for, if only its
    /// sizes fit.
    ///
    /// # Errors
    /// As [`load`](Self::load), but for [`Error::OtherBase`].
    pub fn load_unchecked(folder: &Path, llama: &Llama, device: &Device) -> Result<Self> {
        Self::load_with(folder, llama, device, false)
    }

    fn load_with(folder: &Path, llama: &Llama, device: &Device, checked: bool) -> Result<Self> {
        let weights = |data: AdapterData, folder: &Path| {
            if checked {
                check_base(&data.base, llama, folder)?;
            }
            AdapterWeights::from_data(&data, &llama.config().into(), folder, device)
        };
        let Some(mix) = read_mix(folder)? else {
            let base = BaseInfo::of(llama.config(), None);
            let hints = Hints { base, ..Hints::default() };
            return Ok(Self::Single(weights(read(folder, &hints)?, folder)?));
        };
        let parts = mix.into_iter().map(|(name, weight, data)| {
            let adapter = weights(data, &folder.join(&name))?;
            Ok(MixPart { name, weight, adapter })
        });
        Ok(Self::Mix(Mix { parts: parts.collect::<Result<Vec<_>>>()? }))
    }
}

/// Refuses names that lead anywhere but into the mix's own folder.
fn folder_name(name: &str) -> Result<()> {
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':']);
    if plain {
        return Ok(());
    }
    let found = format!("`{}`", name.escape_debug());
    Err(Error::Config { field: "name of a mix's part", found, expected: "a plain folder's name" })
}
