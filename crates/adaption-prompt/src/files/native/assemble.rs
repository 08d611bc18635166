//! Named tensors and settings ─► an adapter in host memory.

use std::collections::BTreeMap;
use std::path::Path;

use super::settings::Settings;
use crate::adapter::data::AdapterData;
use crate::base::BaseInfo;
use crate::error::{Error, Result};
use crate::part::{AssembleContext, Part, PartTensors};
use crate::parts::{PartKind, with_parts};
use crate::tensors::host_tensor::HostTensors;
use crate::tensors::names::parse_tensor_name;

/// Assembles the parts of `settings` from their tensors. `n_layers` is used if the base's sizes are
/// unknown.
///
/// # Errors
/// [`Error::TensorMismatch`] with every mismatch.
pub(super) fn assemble(
    mut base: BaseInfo,
    settings: Settings,
    n_layers: Option<usize>,
    tensors: HostTensors,
    path: &Path,
) -> Result<AdapterData> {
    let mut problems = Vec::new();
    let mut parts: BTreeMap<PartKind, PartTensors> = BTreeMap::new();
    let n_layers = base.sizes.as_ref().map(|sizes| sizes.n_layers).or(n_layers);
    for (name, tensor) in tensors {
        let address = parse_tensor_name(&name);
        let Some(kind) = settings.claimant(&name, address.as_ref()) else {
            problems.push(format!("unexpected: {name}"));
            continue;
        };
        let own = parts.entry(kind).or_default();
        let Some(address) = address else {
            own.by_name.insert(name, tensor);
            continue;
        };
        base.architecture = base.architecture.or(address.family);
        match address.layer.or(n_layers) {
            Some(layer) => {
                let key = (layer, address.module, address.suffix.to_owned());
                own.by_address.insert(key, tensor);
            }
            None => problems.push(format!("{name} needs the base's sizes in the settings")),
        }
    }
    let context = AssembleContext { family: base.architecture, n_layers };
    let data = parts_from_tensors(base, settings, parts, &context, &mut problems);
    if !problems.is_empty() {
        return Err(Error::TensorMismatch { path: path.into(), problems });
    }
    Ok(data)
}

macro_rules! define {
    ($($(#[$doc:meta])* $kind:ident { field: $field:ident, weights: $weights:ident, $($rest:tt)* })+) => {
        fn parts_from_tensors(
            base: BaseInfo,
            settings: Settings,
            mut tensors: BTreeMap<PartKind, PartTensors>,
            context: &AssembleContext,
            problems: &mut Vec<String>,
        ) -> AdapterData {
            AdapterData {
                base,
                prompt_format: None,
                $($field: match settings.$field {
                    Some(own) => {
                        let tensors = tensors.remove(&PartKind::$kind).unwrap_or_default();
                        Some(<$crate::parts::$weights as Part>::from_tensors(own, tensors, context, problems))
                    }
                    None => None,
                },)+
            }
        }
    };
}
with_parts!(define);
