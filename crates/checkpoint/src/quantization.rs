//! Detection of weights in another program's quantization format, which is not supported.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};

/// Names of methods in `config.json`, and their usual names.
const METHODS: [(&str, &str); 13] = [
    ("aqlm", "AQLM"),
    ("awq", "AWQ"),
    ("bitnet", "BitNet"),
    ("eetq", "EETQ"),
    ("fbgemm_fp8", "FBGEMM's FP8"),
    ("fp8", "FP8"),
    ("gptq", "GPTQ"),
    ("higgs", "HIGGS"),
    ("hqq", "HQQ"),
    ("mxfp4", "MXFP4"),
    ("quanto", "Quanto"),
    ("spqr", "SpQR"),
    ("vptq", "VPTQ"),
];

/// Suffixes of the names of tensors that only quantized models have, and the method.
const SUFFIXES: [(&str, &str); 14] = [
    (".weight.absmax", "bitsandbytes (4 bits)"),
    (".weight.quant_map", "bitsandbytes (4 bits)"),
    (".SCB", "bitsandbytes (8 bits)"),
    (".g_idx", "GPTQ"),
    (".qweight", "GPTQ or AWQ"),
    (".weight_packed", "compressed-tensors"),
    (".weight_scale_inv", "FP8"),
    (".weight_scale_2", "ModelOpt"),
    (".weight_scale", "FP8 or compressed-tensors"),
    (".W_q", "HQQ"),
    (".codebooks", "AQLM"),
    (".weight._data", "Quanto"),
    ("_proj_blocks", "MXFP4"),
    (".weight.quant_state.bitsandbytes__nf4", "bitsandbytes (4 bits)"),
];

/// Rejects a `config.json` with a quantization config, of the weights or to apply when loading.
///
/// # Errors
/// [`Error::Quantized`]. Invalid JSON is ignored: the parser of the config rejects it.
pub fn reject_quantized_config(path: &Path, text: &str) -> Result<()> {
    let Ok(json) = serde_json::from_str::<Value>(text) else { return Ok(()) };
    let settings = ["quantization_config", "compression_config"].map(|key| json.get(key));
    // An empty object has no effect.
    let settings = settings.into_iter().flatten().filter_map(Value::as_object);
    match settings.filter(|fields| !fields.is_empty()).find_map(method) {
        Some(method) => Err(Error::Quantized { path: path.into(), method }),
        None => Ok(()),
    }
}

/// The method of a `quantization_config`; `None` if it is disabled.
fn method(fields: &serde_json::Map<String, Value>) -> Option<String> {
    let is_on = |key: &str| fields.get(key).and_then(Value::as_bool);
    let [eight, four] = [is_on("load_in_8bit"), is_on("load_in_4bit")];
    let name = fields.get("quant_method").and_then(Value::as_str);
    // As in transformers, these take precedence over the name.
    if eight == Some(true) || four == Some(true) {
        let bits = if four == Some(true) { 4 } else { 8 };
        return Some(format!("bitsandbytes ({bits} bits)"));
    }
    if (eight, four) != (None, None) && matches!(name, None | Some("bitsandbytes")) {
        return None;
    }
    let name = name.unwrap_or("a method that config.json does not name").to_lowercase();
    let usual = METHODS.iter().find(|(known, _)| *known == name).map(|(_, usual)| *usual);
    let name = usual.map_or_else(|| name.escape_debug().to_string(), str::to_owned);
    let bits = ["bits", "w_bit", "nbits"].iter().find_map(|key| fields.get(*key)?.as_u64());
    Some(bits.map_or(name.clone(), |bits| format!("{name} ({bits} bits)")))
}

/// Rejects weights with tensors that only quantized models have, independent of the config.
///
/// # Errors
/// [`Error::Quantized`]
pub fn reject_quantized_tensors(path: &Path, shapes: &BTreeMap<String, Vec<usize>>) -> Result<()> {
    let found = |(end, _): &&(&str, &str)| shapes.keys().any(|name| name.ends_with(end));
    match SUFFIXES.iter().find(found) {
        Some((_, method)) => Err(Error::Quantized { path: path.into(), method: (*method).into() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_names_or_disables_the_method() {
        let method = |settings: &str| {
            let text = format!(r#"{{"model_type": "llama", "quantization_config": {settings}}}"#);
            match reject_quantized_config(Path::new("model"), &text) {
                Err(Error::Quantized { method, .. }) => Some(method),
                other => other.map(|()| None).unwrap(),
            }
        };
        for (settings, expected) in [
            (r#"{"quant_method": "bitsandbytes", "load_in_8bit": true}"#, "bitsandbytes (8 bits)"),
            (r#"{"load_in_4bit": true, "load_in_8bit": false}"#, "bitsandbytes (4 bits)"),
            (r#"{"quant_method": "gptq", "bits": 4}"#, "GPTQ (4 bits)"),
            (r#"{"quant_method": "awq", "w_bit": 4}"#, "AWQ (4 bits)"),
            (r#"{"quant_method": "fp8"}"#, "FP8"),
            (r#"{"quant_method": "compressed-tensors"}"#, "compressed-tensors"),
            (r#"{"quant_method": "new"}"#, "new"),
            (r#"{"group_size": 128}"#, "a method that config.json does not name"),
        ] {
            assert_eq!(method(settings).as_deref(), Some(expected), "{settings}");
        }
        for settings in ["null", "{}", r#"{"quant_method": "bitsandbytes", "load_in_4bit": false}"#]
        {
            assert_eq!(method(settings), None, "{settings}");
        }
    }

    #[test]
    fn tensor_names_identify_the_method() {
        let method = |name: &str| {
            let shapes = BTreeMap::from([(format!("model.layers.0.mlp.up_proj{name}"), vec![1])]);
            match reject_quantized_tensors(Path::new("model"), &shapes) {
                Err(Error::Quantized { method, .. }) => Some(method),
                other => other.map(|()| None).unwrap(),
            }
        };
        assert_eq!(method(".weight.absmax").as_deref(), Some("bitsandbytes (4 bits)"));
        assert_eq!(method(".qweight").as_deref(), Some("GPTQ or AWQ"));
        assert_eq!(method(".weight_scale_inv").as_deref(), Some("FP8"));
        assert_eq!(method(".weight"), None);
    }
}
