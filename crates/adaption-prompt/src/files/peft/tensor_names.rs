//! Variants of LoRA's tensor names ─► the names that current PEFT writes.
//!
//! ```text
//! base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight            PEFT
//! base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight    a state dict in memory
//! model.layers.0.self_attn.q_proj.lora_A.weight                             transformers, without PEFT's wrapper
//! ```

use std::collections::BTreeSet;

use crate::tensors::host_tensor::HostTensors;
use crate::tensors::names::PEFT_PREFIX;

/// Renames LoRA's tensors. Other names stay unchanged.
///
/// # Errors
/// Every problem: tensors of several adapters, or two tensors of one name.
pub(in crate::files) fn normalize_lora_names(
    tensors: HostTensors,
) -> Result<HostTensors, Vec<String>> {
    let mut normalized = HostTensors::new();
    let mut problems = Vec::new();
    let mut adapters = BTreeSet::new();
    for (name, tensor) in tensors {
        let Some((module, matrix, adapter)) = split_lora_name(&name) else {
            normalized.insert(name, tensor);
            continue;
        };
        adapters.insert(adapter.unwrap_or_default().to_owned());
        let prefix = if module.starts_with("base_model.") { "" } else { PEFT_PREFIX };
        let short = format!("{prefix}{module}.lora_{matrix}.weight");
        if normalized.insert(short.clone(), tensor).is_some() {
            problems.push(format!("two tensors are called {short}"));
        }
    }
    if adapters.len() > 1 {
        let named = |name: &String| match name.as_str() {
            "" => "one without a name".to_owned(),
            name => format!("`{}`", name.escape_debug()),
        };
        let names = adapters.iter().take(8).map(named).collect::<Vec<_>>().join(", ");
        problems.push(format!("tensors of {} adapters: {names}", adapters.len()));
    }
    if problems.is_empty() { Ok(normalized) } else { Err(problems) }
}

/// Module, matrix (`A` or `B`), and the adapter's name, if the tensor's name has one.
fn split_lora_name(name: &str) -> Option<(&str, &str, Option<&str>)> {
    let (module, rest) = name.strip_suffix(".weight")?.rsplit_once(".lora_")?;
    let (matrix, adapter) = match rest.split_once('.') {
        Some((matrix, adapter)) => (matrix, Some(adapter)),
        None => (rest, None),
    };
    (["A", "B"].contains(&matrix) && !adapter.is_some_and(|own| own.contains('.')))
        .then_some((module, matrix, adapter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::host_tensor::HostTensor;

    fn normalize(names: &[&str]) -> Result<Vec<String>, Vec<String>> {
        let tensors =
            names.iter().map(|name| ((*name).to_owned(), HostTensor::new([1], vec![0.0])));
        normalize_lora_names(tensors.collect()).map(|tensors| tensors.into_keys().collect())
    }

    #[test]
    fn adapter_name_and_missing_prefix_are_normalized() {
        let expected = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
        for name in [
            expected,
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.sql.weight",
            "model.layers.0.self_attn.q_proj.lora_A.weight",
        ] {
            assert_eq!(normalize(&[name]).unwrap(), [expected], "{name}");
        }
    }

    #[test]
    fn other_names_are_unchanged() {
        for name in [
            "base_model.model.model.embed_tokens.lora_embedding_A",
            "base_model.model.lm_head.weight",
            "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
            "model.layers.0.self_attn.adaption_gate",
            "x.lora_A.a.b.weight",
        ] {
            assert_eq!(normalize(&[name]).unwrap(), [name]);
        }
    }

    #[test]
    fn tensors_of_several_adapters_are_refused() {
        let problems = normalize(&["x.lora_A.a.weight", "x.lora_A.b.weight", "y.lora_A.weight"]);
        let problems = problems.unwrap_err();
        assert_eq!(problems[0], "two tensors are called base_model.model.x.lora_A.weight");
        assert_eq!(problems[1], "tensors of 3 adapters: one without a name, `a`, `b`");
    }
}
