//! Where each of the model's tensors lies in a file: under which name, in which rows, which way
//! round.
//!
//! ```text
//! h.0.attn.c_attn.weight [in, 3 out] ─► turned ─► rows 0..out        ─► q_proj
//!                                             ├─► rows out..2 out    ─► k_proj
//!                                             └─► rows 2 out..3 out  ─► v_proj
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use burn::tensor::{DType, TensorData};
use checkpoint::TensorSpec;

use super::expected::expected_tensors;
use super::head::{EMBEDDING, HEAD};
use crate::config::{Format, LlamaConfig, Names};
use crate::error::Result;

/// Where the tensors of one model lie.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Shapes by our names; what is not ours keeps the file's name.
    pub(crate) shapes: BTreeMap<String, Vec<usize>>,
    places: BTreeMap<String, Place>,
}

/// Where one tensor lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file's name for it.
    pub(crate) name: String,
    /// Its rows, out of those of everything under that name.
    pub(crate) rows: Range<usize>,
    /// Whether the file holds it as `[in, out]`.
    pub(crate) transposed: bool,
}

impl Layout {
    /// Finds the tensors of `config` among the shapes of a file.
    pub(crate) fn new(
        config: &LlamaConfig,
        format: Format,
        found: &BTreeMap<String, Vec<usize>>,
    ) -> Self {
        let names = config.architecture.names();
        let specs = expected_tensors(config);
        let mut layout = Self { shapes: BTreeMap::new(), places: BTreeMap::new() };
        let mut used = BTreeSet::new();
        for (full_name, parts) in stacks(names, format, &specs) {
            let mut name = match format {
                Format::HuggingFace => names.as_in(found, full_name),
                Format::Gguf => full_name,
            };
            // As in transformers, a tied model may be stored with its head alone.
            if config.tied_head && parts[0].name == EMBEDDING && !found.contains_key(&name) {
                let head = names.in_file(format, HEAD).filter(|head| found.contains_key(head));
                name = head.unwrap_or(name);
            }
            let transposed = names.is_transposed(format, &parts[0].name);
            let shape = found.get(&name).map(|shape| turned(shape, transposed));
            let rows_asked = parts.iter().map(|part| part.shape[0]).sum::<usize>();
            let mut first = 0;
            for part in parts {
                let rows = first..first + part.shape[0];
                first = rows.end;
                if let Some(shape) = &shape {
                    let fits = shape.first() == Some(&rows_asked) && shape[1..] == part.shape[1..];
                    let shown = if fits { &part.shape } else { shape };
                    layout.shapes.insert(part.name.clone(), shown.clone());
                }
                let place = Place { name: name.clone(), rows, transposed };
                layout.places.insert(part.name.clone(), place);
            }
            used.insert(name);
        }
        for (name, shape) in found {
            if used.contains(name) || names.is_ignored(format, name) {
                continue;
            }
            let name = match layout.places.get(name) {
                Some(place) => format!("{name}, beside {}", place.name),
                None => name.clone(),
            };
            layout.shapes.insert(name, shape.clone());
        }
        layout
    }

    pub(crate) fn place(&self, ours: &str) -> Option<&Place> {
        self.places.get(ours)
    }

    /// What the file calls one of our tensors.
    pub(crate) fn name_in_file(&self, ours: &str) -> String {
        self.places.get(ours).map_or_else(|| ours.to_owned(), |place| place.name.clone())
    }
}

impl Place {
    /// Whether it is all that the file has under its name, as it lies there.
    pub(crate) fn is_whole(&self, shape_in_file: &[usize]) -> bool {
        !self.transposed && shape_in_file.first() == Some(&self.rows.len())
    }

    /// The tensor out of all that the file has under its name.
    pub(crate) fn take(&self, data: TensorData) -> TensorData {
        let shape = turned(data.shape(), self.transposed);
        let data = if self.transposed { transposed(data) } else { data };
        let all = shape.first().copied().unwrap_or(0);
        // Where the rows do not fit, the whole shows what is wrong.
        if self.rows.len() == all || self.rows.end > all {
            return data;
        }
        let row = data.as_bytes().len() / all;
        let bytes = data.as_bytes()[self.rows.start * row..self.rows.end * row].to_vec();
        let shape = [&[self.rows.len()], &shape[1..]].concat();
        TensorData::from_bytes_vec(bytes, shape, data.dtype())
    }
}

/// Tensors of ours as Hugging Face's files hold them: the way back of [`Layout`]. `read` gives a
/// tensor by our name; only those of one name in the file are there beside the result.
pub(crate) fn to_huggingface(
    config: &LlamaConfig,
    precision: DType,
    read: impl Fn(&str) -> Result<TensorData>,
) -> Result<Vec<(String, TensorData)>> {
    let (names, specs) = (config.architecture.names(), expected_tensors(config));
    let stacked = stacks(names, Format::HuggingFace, &specs).into_iter().map(|(name, parts)| {
        let rows = parts.iter().map(|part| part.shape[0]).sum::<usize>();
        let shape = [&[rows], &parts[0].shape[1..]].concat();
        let mut bytes = Vec::with_capacity(shape.iter().product::<usize>() * precision.size());
        for part in &parts {
            bytes.extend_from_slice(read(&part.name)?.convert_dtype(precision).as_bytes());
        }
        let data = TensorData::from_bytes_vec(bytes, shape, precision);
        let turn = names.is_transposed(Format::HuggingFace, &parts[0].name);
        Ok((name, if turn { transposed(data) } else { data }))
    });
    stacked.collect()
}

/// The tensors under each name of a file, in the order in which they are stacked there. A name
/// that the family does not know stands for itself.
fn stacks<'a>(
    names: &Names,
    format: Format,
    specs: &'a [TensorSpec],
) -> Vec<(String, Vec<&'a TensorSpec>)> {
    let mut stacks: Vec<(String, Vec<&TensorSpec>)> = Vec::new();
    let mut index = BTreeMap::new();
    for spec in specs {
        let name = names.in_file(format, &spec.name).unwrap_or_else(|| spec.name.clone());
        let at = *index.entry(name.clone()).or_insert_with(|| {
            stacks.push((name, Vec::new()));
            stacks.len() - 1
        });
        stacks[at].1.push(spec);
    }
    stacks
}

/// Rows and columns change places; a vector has no other way round.
fn turned(shape: &[usize], transposed: bool) -> Vec<usize> {
    match shape {
        [rows, columns] if transposed => vec![*columns, *rows],
        _ => shape.to_vec(),
    }
}

fn transposed(data: TensorData) -> TensorData {
    let [rows, columns] = data.shape()[..] else { return data };
    let size = data.dtype().size();
    let from = data.as_bytes();
    let mut bytes = Vec::with_capacity(from.len());
    for column in 0..columns {
        for row in 0..rows {
            let at = (row * columns + column) * size;
            bytes.extend_from_slice(&from[at..at + size]);
        }
    }
    TensorData::from_bytes_vec(bytes, vec![columns, rows], data.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Architecture;
    use crate::weights::compare;
    use checkpoint::LoadReport;

    fn gpt2() -> LlamaConfig {
        LlamaConfig {
            n_layers: 1,
            n_heads: 1,
            n_kv_heads: 1,
            head_dim: 2,
            d_model: 2,
            d_ff: 3,
            vocab_size: 5,
            max_positions: 4,
            ..Architecture::by_model_type("gpt2").unwrap().defaults()
        }
    }

    /// Shapes of a GPT-2 file, with or without the prefix.
    fn file(prefix: &str) -> BTreeMap<String, Vec<usize>> {
        [
            ("wte.weight", &[5, 2][..]),
            ("wpe.weight", &[4, 2]),
            ("h.0.ln_1.weight", &[2]),
            ("h.0.ln_1.bias", &[2]),
            ("h.0.attn.c_attn.weight", &[2, 6]),
            ("h.0.attn.c_attn.bias", &[6]),
            ("h.0.attn.c_proj.weight", &[2, 2]),
            ("h.0.attn.c_proj.bias", &[2]),
            ("h.0.attn.bias", &[1, 1, 4, 4]),
            ("h.0.ln_2.weight", &[2]),
            ("h.0.ln_2.bias", &[2]),
            ("h.0.mlp.c_fc.weight", &[2, 3]),
            ("h.0.mlp.c_fc.bias", &[3]),
            ("h.0.mlp.c_proj.weight", &[3, 2]),
            ("h.0.mlp.c_proj.bias", &[2]),
            ("ln_f.weight", &[2]),
            ("ln_f.bias", &[2]),
        ]
        .map(|(name, shape)| (format!("{prefix}{name}"), shape.to_vec()))
        .into()
    }

    fn report(found: &BTreeMap<String, Vec<usize>>) -> LoadReport {
        let layout = Layout::new(&gpt2(), Format::HuggingFace, found);
        compare(&gpt2(), &layout.shapes)
    }

    #[test]
    fn names_with_and_without_the_prefix_are_found_and_masks_are_ignored() {
        for prefix in ["transformer.", ""] {
            assert_eq!(report(&file(prefix)), LoadReport::default(), "{prefix:?}");
        }
    }

    #[test]
    fn a_tied_model_may_be_stored_with_its_head_alone() {
        let mut found = file("transformer.");
        let embedding = found.remove("transformer.wte.weight").unwrap();
        assert_eq!(report(&found).missing, [EMBEDDING]);
        found.insert(HEAD.into(), embedding);
        assert_eq!(report(&found), LoadReport::default());
        let layout = Layout::new(&gpt2(), Format::HuggingFace, &found);
        assert_eq!(layout.name_in_file(EMBEDDING), HEAD);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let mut found = file("");
        found.insert("h.0.attn.c_attn.weight".into(), vec![6, 2]);
        found.insert("h.1.ln_1.weight".into(), vec![2]);
        let report = report(&found);
        assert_eq!(report.wrong_shape.len(), 3, "{report}");
        assert_eq!(report.unexpected, ["h.1.ln_1.weight"]);
    }

    #[test]
    fn stacked_and_turned_tensors_come_apart_and_together_again() {
        let numbers = |range: Range<i32>| range.map(|x| x as f32).collect::<Vec<_>>();
        let stack = TensorData::new(numbers(0..12), [2, 6]);
        let layout = Layout::new(&gpt2(), Format::HuggingFace, &file("transformer."));
        let mut parts = BTreeMap::new();
        for spec in expected_tensors(&gpt2()) {
            let len = spec.shape.iter().product::<usize>();
            parts.insert(spec.name, TensorData::new(vec![0.0_f32; len], spec.shape));
        }
        for (name, expected) in [
            ("q", [0.0_f32, 6.0, 1.0, 7.0]),
            ("k", [2.0, 8.0, 3.0, 9.0]),
            ("v", [4.0, 10.0, 5.0, 11.0]),
        ] {
            let name = format!("model.layers.0.self_attn.{name}_proj.weight");
            let part = layout.place(&name).unwrap().take(stack.clone());
            assert_eq!(part, TensorData::new(expected.to_vec(), [2, 2]));
            parts.insert(name, part);
        }
        let read = |name: &str| Ok(parts[name].clone());
        let file = to_huggingface(&gpt2(), DType::F32, read).unwrap();
        let (_, again) =
            file.iter().find(|(name, _)| name == "transformer.h.0.attn.c_attn.weight").unwrap();
        assert_eq!(*again, stack);
    }
}
