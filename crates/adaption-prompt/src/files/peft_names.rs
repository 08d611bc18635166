//! Names of LoRA's tensors as they are met ─► as PEFT writes them today.
//!
//! ```text
//! base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight            PEFT
//! base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight    a state dict as it is in memory
//! model.layers.0.self_attn.q_proj.lora_A.weight                             transformers, without PEFT's model
//! ```

use std::collections::BTreeSet;

use super::keys::PEFT_PREFIX;
use super::tensors::HostTensors;

/// # Errors
/// Everything that is wrong: tensors of several adapters, or two that come to the same name.
pub(super) fn normalize_lora_names(arrays: HostTensors) -> Result<HostTensors, Vec<String>> {
    let mut plain = HostTensors::new();
    let mut problems = Vec::new();
    let mut adapters = BTreeSet::new();
    for (name, array) in arrays {
        let Some((module, which, adapter)) = split_lora_name(&name) else {
            plain.insert(name, array);
            continue;
        };
        adapters.insert(adapter.unwrap_or_default().to_owned());
        let wrapper = if module.starts_with("base_model.") { "" } else { PEFT_PREFIX };
        let short = format!("{wrapper}{module}.lora_{which}.weight");
        if plain.insert(short.clone(), array).is_some() {
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
    if problems.is_empty() { Ok(plain) } else { Err(problems) }
}

/// Module, which matrix, and the adapter's name, if a tensor's name has one.
fn split_lora_name(name: &str) -> Option<(&str, &str, Option<&str>)> {
    let (module, rest) = name.strip_suffix(".weight")?.rsplit_once(".lora_")?;
    let (which, adapter) = match rest.split_once('.') {
        Some((which, adapter)) => (which, Some(adapter)),
        None => (rest, None),
    };
    (["A", "B"].contains(&which) && !adapter.is_some_and(|own| own.contains('.')))
        .then_some((module, which, adapter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tensors::HostTensor;

    fn plain(names: &[&str]) -> Result<Vec<String>, Vec<String>> {
        let arrays = names.iter().map(|name| ((*name).to_owned(), HostTensor::new([1], vec![0.0])));
        normalize_lora_names(arrays.collect()).map(|arrays| arrays.into_keys().collect())
    }

    #[test]
    fn an_adapters_name_and_a_missing_wrapper_make_no_difference() {
        let expected = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
        for name in [
            expected,
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.sql.weight",
            "model.layers.0.self_attn.q_proj.lora_A.weight",
        ] {
            assert_eq!(plain(&[name]).unwrap(), [expected], "{name}");
        }
    }

    #[test]
    fn other_names_stay_as_they_are() {
        for name in [
            "base_model.model.model.embed_tokens.lora_embedding_A",
            "base_model.model.lm_head.weight",
            "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
            "model.layers.0.self_attn.adaption_gate",
            "x.lora_A.a.b.weight",
        ] {
            assert_eq!(plain(&[name]).unwrap(), [name]);
        }
    }

    #[test]
    fn tensors_of_several_adapters_are_no_adapter() {
        let problems = plain(&["x.lora_A.a.weight", "x.lora_A.b.weight", "y.lora_A.weight"]);
        let problems = problems.unwrap_err();
        assert_eq!(problems[0], "two tensors are called base_model.model.x.lora_A.weight");
        assert_eq!(problems[1], "tensors of 3 adapters: one without a name, `a`, `b`");
    }
}
