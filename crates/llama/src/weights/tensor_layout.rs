//! Where each of the model's tensors is in a file: its name there, its rows, whether it is transposed.
//!
//! ```text
//! h.0.attn.c_attn.weight [in, 3 out] ─► transposed ─► rows 0..out        ─► q_proj
//!                                                 ├─► rows out..2 out    ─► k_proj
//!                                                 └─► rows 2 out..3 out  ─► v_proj
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use burn::tensor::{DType, TensorData};
use checkpoint::TensorSpec;

use super::expected_tensors::expected_tensors;
use super::tied_head::{EMBEDDING, HEAD};
use crate::config::{LlamaConfig, NamingScheme, TensorNames};
use crate::error::Result;

/// Locations of a model's tensors in a file.
#[derive(Debug)]
pub(crate) struct TensorLayout {
    /// Shapes by canonical name; unknown tensors keep the file's name.
    pub(crate) shapes: BTreeMap<String, Vec<usize>>,
    locations: BTreeMap<String, TensorLocation>,
}

/// Location of one tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorLocation {
    /// Name in the file.
    pub(crate) name: String,
    /// Rows within the file's tensor, which may be fused.
    pub(crate) rows: Range<usize>,
    /// Whether the file holds it as `[in, out]`.
    pub(crate) transposed: bool,
}

impl TensorLayout {
    /// Finds the tensors of `config` among the shapes of a file.
    pub(crate) fn new(
        config: &LlamaConfig,
        scheme: NamingScheme,
        found: &BTreeMap<String, Vec<usize>>,
    ) -> Self {
        let names = &config.architecture.tensor_names;
        let specs = expected_tensors(config);
        let mut layout = Self { shapes: BTreeMap::new(), locations: BTreeMap::new() };
        let mut used = BTreeSet::new();
        for (full_name, parts) in fused_tensors(names, scheme, &specs) {
            let mut name = match scheme {
                NamingScheme::HuggingFace => names.strip_absent_prefix(found, full_name),
                NamingScheme::Gguf => full_name,
            };
            // As in transformers, a tied model may be stored with its head instead of its embedding.
            if config.tied_head && parts[0].name == EMBEDDING && !found.contains_key(&name) {
                let head = names.name_in(scheme, HEAD).filter(|head| found.contains_key(head));
                name = head.unwrap_or(name);
            }
            let transposed = names.is_transposed(scheme, &parts[0].name);
            let shape = found.get(&name).map(|shape| transposed_shape(shape, transposed));
            let expected_rows = parts.iter().map(|part| part.shape[0]).sum::<usize>();
            let mut first = 0;
            for part in parts {
                let rows = first..first + part.shape[0];
                first = rows.end;
                if let Some(shape) = &shape {
                    let fits =
                        shape.first() == Some(&expected_rows) && shape[1..] == part.shape[1..];
                    let shown = if fits { &part.shape } else { shape };
                    layout.shapes.insert(part.name.clone(), shown.clone());
                }
                let location = TensorLocation { name: name.clone(), rows, transposed };
                layout.locations.insert(part.name.clone(), location);
            }
            used.insert(name);
        }
        for (name, shape) in found {
            if used.contains(name) || names.is_ignored(scheme, name) {
                continue;
            }
            let name = match layout.locations.get(name) {
                Some(location) => format!("{name}, a duplicate of {}", location.name),
                None => name.clone(),
            };
            layout.shapes.insert(name, shape.clone());
        }
        layout
    }

    pub(crate) fn location(&self, canonical: &str) -> Option<&TensorLocation> {
        self.locations.get(canonical)
    }

    /// A canonical tensor's name in the file.
    pub(crate) fn name_in_file(&self, canonical: &str) -> String {
        let location = self.locations.get(canonical);
        location.map_or_else(|| canonical.to_owned(), |location| location.name.clone())
    }
}

impl TensorLocation {
    /// Whether it is the whole of the file's tensor, not transposed.
    pub(crate) fn is_whole(&self, shape_in_file: &[usize]) -> bool {
        !self.transposed && shape_in_file.first() == Some(&self.rows.len())
    }

    /// The tensor, extracted from the file's tensor.
    pub(crate) fn extract(&self, data: TensorData) -> TensorData {
        let shape = transposed_shape(data.shape(), self.transposed);
        let data = if self.transposed { transpose(data) } else { data };
        let all = shape.first().copied().unwrap_or(0);
        // If the rows do not match, the whole tensor shows the mismatch.
        if self.rows.len() == all || self.rows.end > all {
            return data;
        }
        let row = data.as_bytes().len() / all;
        let bytes = data.as_bytes()[self.rows.start * row..self.rows.end * row].to_vec();
        let shape = [&[self.rows.len()], &shape[1..]].concat();
        TensorData::from_bytes_vec(bytes, shape, data.dtype())
    }
}

/// A model's tensors under their names in Hugging Face's files, fused and transposed as there: the
/// inverse of [`TensorLayout`]. `read` gets a tensor by canonical name.
pub(crate) fn to_huggingface(
    config: &LlamaConfig,
    precision: DType,
    read: impl Fn(&str) -> Result<TensorData>,
) -> Result<Vec<(String, TensorData)>> {
    let (names, specs) = (&config.architecture.tensor_names, expected_tensors(config));
    let fused =
        fused_tensors(names, NamingScheme::HuggingFace, &specs).into_iter().map(|(name, parts)| {
            let rows = parts.iter().map(|part| part.shape[0]).sum::<usize>();
            let shape = [&[rows], &parts[0].shape[1..]].concat();
            let mut bytes = Vec::with_capacity(shape.iter().product::<usize>() * precision.size());
            for part in &parts {
                bytes.extend_from_slice(read(&part.name)?.convert_dtype(precision).as_bytes());
            }
            let data = TensorData::from_bytes_vec(bytes, shape, precision);
            let is_transposed = names.is_transposed(NamingScheme::HuggingFace, &parts[0].name);
            Ok((name, if is_transposed { transpose(data) } else { data }))
        });
    fused.collect()
}

/// The canonical tensors of each tensor of a file, in the order of their rows. Names that the family does
/// not list are unchanged.
fn fused_tensors<'a>(
    names: &TensorNames,
    scheme: NamingScheme,
    specs: &'a [TensorSpec],
) -> Vec<(String, Vec<&'a TensorSpec>)> {
    let mut fused: Vec<(String, Vec<&TensorSpec>)> = Vec::new();
    let mut index = BTreeMap::new();
    for spec in specs {
        let name = names.name_in(scheme, &spec.name).unwrap_or_else(|| spec.name.clone());
        let at = *index.entry(name.clone()).or_insert_with(|| {
            fused.push((name, Vec::new()));
            fused.len() - 1
        });
        fused[at].1.push(spec);
    }
    fused
}

/// Shape of a matrix after transposition; that of a vector is unchanged.
fn transposed_shape(shape: &[usize], transposed: bool) -> Vec<usize> {
    match shape {
        [rows, columns] if transposed => vec![*columns, *rows],
        _ => shape.to_vec(),
    }
}

fn transpose(data: TensorData) -> TensorData {
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
        let layout = TensorLayout::new(&gpt2(), NamingScheme::HuggingFace, found);
        compare(&gpt2(), &layout.shapes)
    }

    #[test]
    fn names_with_and_without_the_prefix_are_found_and_masks_are_ignored() {
        for prefix in ["transformer.", ""] {
            assert_eq!(report(&file(prefix)), LoadReport::default(), "{prefix:?}");
        }
    }

    #[test]
    fn a_tied_model_may_be_stored_with_its_head_only() {
        let mut found = file("transformer.");
        let embedding = found.remove("transformer.wte.weight").unwrap();
        assert_eq!(report(&found).missing, [EMBEDDING]);
        found.insert(HEAD.into(), embedding);
        assert_eq!(report(&found), LoadReport::default());
        let layout = TensorLayout::new(&gpt2(), NamingScheme::HuggingFace, &found);
        assert_eq!(layout.name_in_file(EMBEDDING), HEAD);
    }

    #[test]
    fn mismatches_are_reported() {
        let mut found = file("");
        found.insert("h.0.attn.c_attn.weight".into(), vec![6, 2]);
        found.insert("h.1.ln_1.weight".into(), vec![2]);
        let report = report(&found);
        assert_eq!(report.wrong_shape.len(), 3, "{report}");
        assert_eq!(report.unexpected, ["h.1.ln_1.weight"]);
    }

    #[test]
    fn fused_and_transposed_tensors_round_trip() {
        let numbers = |range: Range<i32>| range.map(|x| x as f32).collect::<Vec<_>>();
        let fused = TensorData::new(numbers(0..12), [2, 6]);
        let layout = TensorLayout::new(&gpt2(), NamingScheme::HuggingFace, &file("transformer."));
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
            let part = layout.location(&name).unwrap().extract(fused.clone());
            assert_eq!(part, TensorData::new(expected.to_vec(), [2, 2]));
            parts.insert(name, part);
        }
        let read = |name: &str| Ok(parts[name].clone());
        let file = to_huggingface(&gpt2(), DType::F32, read).unwrap();
        let (_, saved) =
            file.iter().find(|(name, _)| name == "transformer.h.0.attn.c_attn.weight").unwrap();
        assert_eq!(*saved, fused);
    }
}
