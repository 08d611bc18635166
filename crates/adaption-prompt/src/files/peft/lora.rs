//! PEFT's LoRA ─► LoRA of this crate: one scaling for all pairs, and a pair for each linear layer.
//!
//! ```text
//! transformer.h.0.attn.c_attn.lora_A  [r, in]    ─► query, key and value: the same A for each
//! transformer.h.0.attn.c_attn.lora_B  [3 out, r] ─► query, key and value: a third of the rows for each
//! ```
//!
//! A module with another scaling, by its own rank or alpha, has its B multiplied by the ratio.

use std::collections::BTreeMap;

use llama::LinearName;
use llama::config::{Architecture, ModelShape};
use serde_json::{Map, Value};

use super::module_patterns::PatternMap;
use super::target_modules::TargetModules;
use crate::error::{Error, Result};
use crate::files::read_purpose::ReadPurpose;
use crate::parts::{LoraSettings, is_lora_pair};
use crate::tensors::host_tensor::{HostTensor, HostTensors};
use crate::tensors::names::{
    LinearModule, PEFT_PREFIX, linears_of_module, llama_module_name, parse_module,
};

/// LoRA's settings in PEFT's config.
#[derive(Debug, Clone)]
pub(in crate::files) struct PeftLoraConfig {
    rank: usize,
    alpha: f64,
    /// Whether the scaling is `alpha / sqrt(rank)`, not `alpha / rank`.
    rslora: bool,
    ranks: PatternMap<usize>,
    alphas: PatternMap<f64>,
    targets: TargetModules,
}

/// LoRA in this crate's form.
pub(in crate::files) struct NormalizedLora {
    /// Every tensor of the file, those of LoRA with this crate's names.
    pub tensors: HostTensors,
    pub settings: LoraSettings,
    /// Family of the base, if the module names determine it.
    pub family: Option<&'static Architecture>,
    /// The model's number of layers, if LoRA is on the head.
    pub n_layers: Option<usize>,
}

/// Rank and scaling of a module.
#[derive(Clone, Copy)]
struct Scaling {
    rank: usize,
    factor: f64,
}

impl PeftLoraConfig {
    /// # Errors
    /// The setting and the reason.
    pub fn parse(config: &Map<String, Value>) -> Result<Self, String> {
        let alpha = config.get("lora_alpha").and_then(Value::as_f64);
        let rank = config.get("r").and_then(Value::as_u64);
        Ok(Self {
            rank: rank.ok_or("`r`: expected a non-negative integer")? as usize,
            alpha: alpha.ok_or("`lora_alpha`: expected a number")?,
            rslora: match config.get("use_rslora") {
                None | Some(Value::Null) => false,
                Some(value) => value.as_bool().ok_or("`use_rslora`: expected true or false")?,
            },
            ranks: parse_pattern_map(config, "rank_pattern", |value| {
                value.as_u64().map(|rank| rank as usize)
            })?,
            alphas: parse_pattern_map(config, "alpha_pattern", Value::as_f64)?,
            targets: TargetModules::parse(config)?,
        })
    }

    fn scaling(&self, rank: usize, alpha: f64) -> f64 {
        let rank = rank as f64;
        alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// Mismatches of tensors are added to `problems`.
    ///
    /// # Errors
    /// [`Error::MissingBaseInfo`] if the base's sizes are needed.
    pub fn normalize(
        &self,
        tensors: HostTensors,
        purpose: ReadPurpose<'_>,
        problems: &mut Vec<String>,
    ) -> Result<NormalizedLora> {
        let (mut pairs, tensors) = take_lora_pairs(tensors);
        let modules = self.resolve_modules(&pairs, problems);
        let common = self.scaling(self.rank, self.alpha);
        // No B gives another factor from a factor of 0.
        let common = if common.is_finite() && common != 0.0 { common } else { 1.0 };
        let alpha = common * self.rank as f64;
        if !alpha.is_finite() || !(common as f32).is_finite() {
            problems.push(format!("the scaling of {common} gives infinite values"));
        }
        let settings = LoraSettings { rank: self.rank, alpha, ranks: BTreeMap::new() };
        let mut normalized = NormalizedLora { tensors, settings, family: None, n_layers: None };
        let highest = pairs.keys().filter_map(|name| parse_module(name)?.layer).max();
        for (name, Scaling { rank, factor }) in modules {
            let Some((a, mut b)) = pairs.remove(&name) else { continue };
            let ratio = factor / common;
            if ratio != 1.0 {
                b.values.iter_mut().for_each(|x| *x = (f64::from(*x) * ratio) as f32);
            }
            if !b.values.iter().all(|x| x.is_finite()) {
                problems.push(format!("{name}: its scaling of {factor} gives infinite values"));
            }
            // Modules that are not linear layers keep their names, which are unexpected.
            let Some(module) = parse_module(&name) else {
                normalized.insert_pair(&name, a, b);
                continue;
            };
            if let (Some(_), ReadPurpose::Load(Some(sizes))) = (module.layer, purpose)
                && linears_of_module(sizes.architecture, &name).is_none()
            {
                let family = sizes.architecture.name;
                problems
                    .push(format!("unexpected: {name}, which is no module of a {family} model"));
                continue;
            }
            normalized.family = normalized.family.or(module.family);
            if module.layer.is_none() {
                normalized.n_layers = Some(match purpose {
                    ReadPurpose::Load(sizes) => head_layer_index(sizes)?,
                    ReadPurpose::Summarize => highest.map_or(1, |layer| layer.saturating_add(1)),
                });
            }
            let Some(rows) = split_fused_rows(&module, b, rank, purpose)? else {
                let linears = &module.linears;
                problems
                    .push(format!("{name}: its rows are not those of {linears:?} in the model"));
                continue;
            };
            let layer = module.layer.or(normalized.n_layers).unwrap_or(0);
            for (linear, b) in module.linears.iter().zip(rows) {
                let name = llama_module_name(layer, *linear);
                normalized.insert_pair(&name, a.clone(), b);
                if rank != self.rank {
                    normalized.settings.ranks.insert(name, rank);
                }
            }
        }
        Ok(normalized)
    }

    /// Rank and scaling of each module that the config targets and whose tensors have that rank.
    fn resolve_modules(
        &self,
        pairs: &BTreeMap<String, (HostTensor, HostTensor)>,
        problems: &mut Vec<String>,
    ) -> Vec<(String, Scaling)> {
        let names = || pairs.keys().map(String::as_str);
        let patterns = self.ranks.lookup(names()).and_then(|ranks| {
            Ok((ranks, self.alphas.lookup(names())?, self.targets.matches(names())?))
        });
        let (ranks, alphas, targeted) = match patterns {
            Ok(found) => found,
            Err(reason) => {
                problems.push(reason);
                return Vec::new();
            }
        };
        let mut found = Vec::new();
        let settings = ranks.into_iter().zip(alphas).zip(targeted);
        for ((name, (a, b)), ((rank, alpha), is_targeted)) in pairs.iter().zip(settings) {
            if !is_targeted {
                problems.push(format!(
                    "{name}: not in `target_modules`: PEFT would ignore its tensors"
                ));
                continue;
            }
            let rank = rank.unwrap_or(self.rank);
            if rank == 0 || !is_lora_pair(a, b, rank) {
                let (a, b) = (&a.shape, &b.shape);
                problems.push(format!("{name}: expected rank {rank}, found {a:?} and {b:?}"));
                continue;
            }
            let factor = self.scaling(rank, alpha.unwrap_or(self.alpha));
            found.push((name.clone(), Scaling { rank, factor }));
        }
        found
    }
}

impl NormalizedLora {
    fn insert_pair(&mut self, module: &str, a: HostTensor, b: HostTensor) {
        let [name_a, name_b] = ["A", "B"].map(|matrix| lora_tensor_name(module, matrix));
        self.tensors.insert(name_a, a);
        self.tensors.insert(name_b, b);
    }
}

fn lora_tensor_name(module: &str, matrix: &str) -> String {
    format!("{PEFT_PREFIX}{module}.lora_{matrix}.weight")
}

/// A setting with values for module patterns.
fn parse_pattern_map<T: Copy>(
    config: &Map<String, Value>,
    setting: &str,
    number: impl Fn(&Value) -> Option<T>,
) -> Result<PatternMap<T>, String> {
    let pairs = match config.get(setting).unwrap_or(&Value::Null) {
        Value::Null => Vec::new(),
        Value::Object(pairs) => {
            let pair = |(pattern, value): (&String, &Value)| {
                let value = number(value);
                let value = value.ok_or_else(|| {
                    format!("`{setting}`: the value of `{}` is no number", pattern.escape_debug())
                })?;
                Ok((pattern.clone(), value))
            };
            pairs.iter().map(pair).collect::<Result<_, String>>()?
        }
        _ => return Err(format!("`{setting}` is not a map of patterns")),
    };
    PatternMap::new(pairs).map_err(|reason| format!("`{setting}`: {reason}"))
}

/// The two matrices of each module that has both, and all other tensors.
fn take_lora_pairs(
    mut tensors: HostTensors,
) -> (BTreeMap<String, (HostTensor, HostTensor)>, HostTensors) {
    let module = |name: &String| {
        let module = name.strip_prefix(PEFT_PREFIX)?.strip_suffix(".lora_A.weight")?;
        Some(module.to_owned())
    };
    let modules = tensors.keys().filter_map(module).collect::<Vec<_>>();
    let mut pairs = BTreeMap::new();
    for module in modules {
        let [name_a, name_b] = ["A", "B"].map(|matrix| lora_tensor_name(&module, matrix));
        if let Some(b) = tensors.remove(&name_b)
            && let Some(a) = tensors.remove(&name_a)
        {
            pairs.insert(module, (a, b));
        }
    }
    (pairs, tensors)
}

fn head_layer_index(sizes: Option<&ModelShape>) -> Result<usize> {
    let (to, required) = ("reading LoRA on the output head", "the model's number of layers");
    Ok(sizes.ok_or(Error::MissingBaseInfo { to, required })?.n_layers)
}

/// The rows of each linear layer of a module; `None` if they are not the model's.
fn split_fused_rows(
    module: &LinearModule,
    b: HostTensor,
    rank: usize,
    purpose: ReadPurpose<'_>,
) -> Result<Option<Vec<HostTensor>>> {
    let rows = b.values.len() / rank;
    let n_linears = module.linears.len();
    let counts = match (&module.linears[..], purpose.shapes()) {
        ([_one], _) => return Ok(Some(vec![b])),
        (linears, Some(shapes)) => {
            linears.iter().map(|&name| shapes.linear_shape(name)[0]).collect::<Vec<_>>()
        }
        // With grouped-query attention there are fewer key and value rows than query rows.
        (linears, None)
            if linears.contains(&LinearName::Key)
                && matches!(purpose, ReadPurpose::Load(_))
                && !module.family.is_some_and(|family| family.multi_head_only) =>
        {
            let to = "reading LoRA on query, key and value in one";
            return Err(Error::MissingBaseInfo { to, required: "the model's heads" });
        }
        // Equal shares, which are right for multi-head attention and sufficient for a summary.
        (_, None) => {
            let extra = |index| usize::from(index < rows % n_linears);
            (0..n_linears).map(|index| rows / n_linears + extra(index)).collect()
        }
    };
    if counts.iter().try_fold(0_usize, |sum, &count| sum.checked_add(count)) != Some(rows) {
        return Ok(None);
    }
    let mut values = b.values.into_iter();
    let take =
        |rows: usize| HostTensor::new([rows, rank], values.by_ref().take(rows * rank).collect());
    Ok(Some(counts.into_iter().map(take).collect()))
}
