//! Other programs' formats: detection, reading, and parity with these programs.

use std::path::{Path, PathBuf};

use adaption_prompt::files::{AdapterReadOptions, Format, read, write};
use adaption_prompt::parts::{PromptData, PromptLayerData};
use adaption_prompt::{
    AdapterData, AdapterSummary, AdapterWeights, AnyAdapter, BaseInfo, Error, Gate, GateActivation,
    PromptProjection,
};
use burn::tensor::Tensor;
use checkpoint::torch::{Value, to_bytes};
use llama::config::ModelShape;
use llama::{Llama, LlamaConfig, NoAdapter};
use testing::{Golden, assert_close};

use crate::fixtures::read_options;
use crate::golden_models::open_base;

/// File, its base, its format.
const FILES: [(&str, &str, Format); 8] = [
    ("original.pth", "llama-mha", Format::Original),
    ("original-scalar.pth", "llama-mha", Format::Original),
    ("lit-llama.pth", "llama-mha", Format::LitLlama),
    ("lit-llama-v2.pth", "llama-mha", Format::LitLlama),
    ("litgpt.pth.adapter", "llama-headdim16", Format::Litgpt),
    ("litgpt-v2.pth.adapter_v2", "llama-headdim16", Format::Litgpt),
    ("litgpt-v2-old.pth", "llama-headdim16", Format::Litgpt),
    ("peft-bin", "llama-gqa-tied", Format::PeftBin),
];

fn golden_file(name: &str) -> PathBuf {
    testing::golden_folder().join("formats").join(name)
}

fn logits(llama: &Llama, adapter: &AnyAdapter) -> Tensor<3> {
    let golden = Golden::open("formats/logits.safetensors");
    let adapter = adapter.prepare(llama);
    let tokens = golden.int_tensor("input_ids", &llama.device());
    llama.logits(llama.forward(tokens, None, &adapter).unwrap(), &adapter)
}

fn from_data(data: &AdapterData, llama: &Llama) -> AnyAdapter {
    let sizes = ModelShape::from(llama.config());
    let path = Path::new("data");
    AdapterWeights::from_data(data, &sizes, path, &llama.device()).unwrap().into()
}

#[test]
fn every_format_gives_the_logits_of_its_reference() {
    let golden = Golden::open("formats/logits.safetensors");
    for device in testing::devices() {
        for (name, base, _) in FILES {
            let llama = open_base(base, &device);
            let adapter = AnyAdapter::load(&golden_file(name), &llama, &device).unwrap();
            let key =
                if name.starts_with("original") { format!("{name}.tanh") } else { name.into() };
            assert_close(name, logits(&llama, &adapter), golden.tensor(&key, &device), 2e-4);
        }
    }
}

#[test]
fn original_gates_without_tanh_if_requested() {
    let golden = Golden::open("formats/logits.safetensors");
    let device = testing::flex();
    let llama = open_base("llama-mha", &device);
    for name in ["original.pth", "original-scalar.pth"] {
        let options =
            AdapterReadOptions { original_gates: GateActivation::Identity, ..read_options(&llama) };
        let data = read(&golden_file(name), &options).unwrap();
        let expected = golden.tensor(&format!("{name}.plain"), &device);
        assert_close(name, logits(&llama, &from_data(&data, &llama)), expected, 2e-4);
    }
}

#[test]
fn formats_are_detected_and_summarized_without_a_model() {
    for (name, _, format) in FILES {
        assert_eq!(Format::detect(&golden_file(name)).unwrap(), format, "{name}");
        let summary = AdapterSummary::read(&golden_file(name)).unwrap();
        let prompts = summary.prompts.unwrap();
        let layers = prompts.layers.iter().map(|layer| layer.layer);
        assert_eq!((prompts.adapter_len, layers.collect::<Vec<_>>()), (5, vec![1, 2]), "{name}");
        // Three layers of seven linear layers and two norms, the head and the last norm.
        let v2 = summary.v2.map(|v2| (v2.linears, v2.norms));
        assert_eq!(v2, name.contains("v2").then_some((22, 7)), "{name}");
    }
}

#[test]
fn lit_v2_needs_the_heads_of_the_model() {
    for name in ["lit-llama-v2.pth", "litgpt-v2.pth.adapter_v2", "litgpt-v2-old.pth"] {
        let error = read(&golden_file(name), &AdapterReadOptions::default()).unwrap_err();
        assert!(matches!(error, Error::MissingBaseInfo { .. }), "{name}: {error}");
        assert_eq!(
            error.to_string(),
            "reading Adapter V2 needs the model's heads, which the adapter file does not contain"
        );
        // A model with 4 key and value heads; the file has 2.
        let llama = open_base("llama-gqa-tied", &testing::flex());
        let error = read(&golden_file(name), &read_options(&llama)).unwrap_err();
        assert!(error.to_string().contains("is not the model's query, key and value"), "{error}");
    }
}

#[test]
fn conversion_between_formats_keeps_the_logits() {
    let device = testing::flex();
    let folder = tempfile::tempdir().unwrap();
    for (name, base, _) in FILES {
        let llama = open_base(base, &device);
        let data = read(&golden_file(name), &read_options(&llama)).unwrap();
        let expected = logits(&llama, &from_data(&data, &llama));
        for &format in Format::ALL {
            let path = folder.path().join(format!("{name} as {format}"));
            match write(&data, &path, format, GateActivation::Tanh, false) {
                Ok(losses) => assert!(losses.is_empty()),
                Err(Error::Lossy { losses, .. }) => {
                    let per_head = data.prompts.as_ref().unwrap().gate == Gate::PerHead;
                    let peft = matches!(format, Format::Peft | Format::PeftBin);
                    let v2 = data.v2.is_some() && !matches!(format, Format::LlamaAdapter);
                    assert!(peft && per_head || v2, "{name} as {format}: {losses:?}");
                    assert!(!path.exists());
                    continue;
                }
                Err(error) => panic!("{name} as {format}: {error}"),
            }
            let again = AnyAdapter::load(&path, &llama, &device).unwrap();
            assert_close(
                &format!("{name} as {format}"),
                logits(&llama, &again),
                expected.clone(),
                1e-5,
            );
        }
    }
}

/// Sizes of the 7B model.
fn sizes_7b() -> BaseInfo {
    let config = LlamaConfig {
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: 32,
        head_dim: 128,
        d_model: 4096,
        d_ff: 11008,
        vocab_size: 32_000,
        ..LlamaConfig::default()
    };
    BaseInfo::from_config(&config, None)
}

#[test]
fn released_7b_layout_round_trips() {
    let folder = tempfile::tempdir().unwrap();
    let layer = |layer: usize| {
        let prompt = (0..10 * 4096).map(|at| (layer * 1000 + at % 997) as f32 * 1e-3).collect();
        (layer, PromptLayerData { prompt, gate: vec![0.01 * layer as f32; 32], factor: None })
    };
    let prompts = PromptData {
        adapter_len: 10,
        d_model: 4096,
        gate: Gate::PerHead,
        activation: GateActivation::Tanh,
        projection: PromptProjection::Adapted,
        layers: (2..32).map(layer).collect(),
    };
    let data = AdapterData { base: sizes_7b(), prompts: Some(prompts), ..Default::default() };
    let released = folder.path().join("llama_adapter_len10_layer30_release.pth");
    write(&data, &released, Format::Original, GateActivation::Tanh, false).unwrap();

    let file = checkpoint::torch::TorchFile::open(checkpoint::ByteSource::open(&released).unwrap());
    let file = file.unwrap();
    let shapes = file.tensors().iter().map(|(name, info)| (name.as_str(), info.shape.clone()));
    let shapes = shapes.collect::<std::collections::BTreeMap<_, _>>();
    assert_eq!(shapes.len(), 33);
    assert_eq!(shapes["adapter_query.weight"], [300, 4096]);
    assert_eq!(shapes["layers.0.attention.gate"], [1, 32, 1, 1]);
    assert_eq!(shapes["layers.31.attention.gate"], [1, 32, 1, 1]);

    let options = AdapterReadOptions { base: sizes_7b(), ..AdapterReadOptions::default() };
    let again = read(&released, &options).unwrap();
    assert_eq!(again, data);
    assert_eq!(again.n_parameters(), 1_229_760);

    // The gates of each layer are equal, so PEFT's format holds them; then back.
    let peft = folder.path().join("peft");
    write(&again, &peft, Format::Peft, GateActivation::Tanh, false).unwrap();
    let from_peft = read(&peft, &options).unwrap();
    let prompts = from_peft.prompts.as_ref().unwrap();
    assert_eq!((prompts.gate, prompts.activation), (Gate::Scalar, GateActivation::Identity));
    let back = folder.path().join("back.pth");
    write(&from_peft, &back, Format::Original, GateActivation::Tanh, false).unwrap();
    let back = read(&back, &options).unwrap().prompts.unwrap();
    for (index, own) in &data.prompts.unwrap().layers {
        assert_eq!(back.layers[index].prompt, own.prompt);
        for (found, expected) in back.layers[index].gate.iter().zip(&own.gate) {
            assert!((found - expected).abs() < 1e-6, "layer {index}: {found} and {expected}");
        }
    }
}

/// A PyTorch file of constant tensors: name, shape, value.
fn torch_file(path: &Path, tensors: &[(&str, &[usize], f32)]) {
    let tensors = tensors.iter().map(|(name, shape, value)| {
        let values = vec![*value; shape.iter().product()];
        let data = burn::tensor::TensorData::new(values, shape.to_vec());
        ((*name).to_owned(), Value::Tensor(data))
    });
    std::fs::write(path, to_bytes(&Value::Dict(tensors.collect())).unwrap()).unwrap();
}

#[test]
fn zero_gate_of_the_lowest_layer_does_not_hide_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pth");
    // Prompts of layers 1 to 3, with a zero gate in layer 1: 6 rows may be 2 layers of 3 or 3 layers
    // of 2, 15 rows are 3 layers of 5.
    let file = |rows: usize| {
        torch_file(
            &path,
            &[
                ("adapter_query.weight", &[rows, 8], 1.0),
                ("layers.0.attention.gate", &[1, 2, 1, 1], 0.0),
                ("layers.1.attention.gate", &[1, 2, 1, 1], 0.0),
                ("layers.2.attention.gate", &[1, 2, 1, 1], 0.5),
                ("layers.3.attention.gate", &[1, 2, 1, 1], 0.5),
            ],
        );
        read(&path, &AdapterReadOptions::default())
    };
    let prompts = file(15).unwrap().prompts.unwrap();
    assert_eq!(prompts.adapter_len, 5);
    assert_eq!(prompts.layers.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(file(6).unwrap().prompts.unwrap().adapter_len, 3);
    let error = file(7).unwrap_err().to_string();
    assert!(
        error.contains("[7, 8] cannot be divided evenly among the model's 4 layers"),
        "{error}"
    );
}

#[test]
fn unrecoverable_prompts_of_the_original_format_are_reported() {
    let llama = open_base("llama-mha", &testing::flex());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pth");
    let mut data = read(&golden_file("original.pth"), &read_options(&llama)).unwrap();
    data.prompts.as_mut().unwrap().layers.get_mut(&1).unwrap().gate = vec![0.0; 4];
    let expected = logits(&llama, &from_data(&data, &llama));
    let error = write(&data, &path, Format::Original, GateActivation::Tanh, false).unwrap_err();
    assert!(error.to_string().contains("prompts of layers 1: their gates are 0"), "{error}");
    assert!(!path.exists());
    let losses = write(&data, &path, Format::Original, GateActivation::Tanh, true).unwrap();
    assert_eq!(losses.len(), 1);
    let again = read(&path, &read_options(&llama)).unwrap();
    assert_close("layer 2 alone", logits(&llama, &from_data(&again, &llama)), expected, 1e-6);
    // With zero gates in every layer nothing is convertible.
    data.prompts.as_mut().unwrap().layers.get_mut(&2).unwrap().gate = vec![0.0; 4];
    let error = write(&data, &path, Format::Original, GateActivation::Tanh, true).unwrap_err();
    assert!(matches!(error, Error::NothingConvertible { .. }), "{error}");
}

#[test]
fn model_file_is_not_an_adapter_and_its_norms_are_not_v2() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lit_model.pth");
    let model: [(&str, &[usize], f32); 3] = [
        ("transformer.h.0.norm_1.weight", &[8], 1.0),
        ("transformer.h.0.attn.qkv.weight", &[24, 8], 1.0),
        ("transformer.ln_f.weight", &[8], 1.0),
    ];
    torch_file(&path, &model);
    let error = Format::detect(&path).unwrap_err();
    assert!(error.to_string().contains("no tensor in it has an adapter's name"), "{error}");
    let prompts: [(&str, &[usize], f32); 2] = [
        ("transformer.h.0.attn.adapter_wte.weight", &[3, 8], 1.0),
        ("transformer.h.0.attn.gating_factor", &[1, 1, 2, 1], 0.5),
    ];
    torch_file(&path, &[&model[..], &prompts[..]].concat());
    let data = read(&path, &AdapterReadOptions::default()).unwrap();
    assert!(data.v2.is_none() && data.prompts.is_some());
}

#[test]
fn prompts_for_another_number_of_layers_are_refused() {
    // Prompts in layers 1 and 2 belong to a model of three layers, not of four.
    let llama = open_base("llama-mha", &testing::flex());
    let mut options = read_options(&llama);
    options.base.sizes.as_mut().unwrap().n_layers = 4;
    for name in ["lit-llama.pth", "original.pth"] {
        let error = read(&golden_file(name), &options).unwrap_err();
        assert!(matches!(error, Error::TensorMismatch { .. }), "{name}: {error}");
        let found = "expected prompts in the last 2 of 4 layers, found them in [1, 2]";
        assert!(error.to_string().contains(found), "{name}: {error}");
    }
}

#[test]
fn golden_logits_differ_from_the_base() {
    // The golden logits are those of the adapters, not of the bases.
    let golden = Golden::open("formats/logits.safetensors");
    let llama = open_base("llama-mha", &testing::flex());
    let tokens = golden.int_tensor("input_ids", &llama.device());
    let base = llama.logits(llama.forward(tokens, None, &NoAdapter).unwrap(), &NoAdapter);
    let adapted = golden.tensor::<3>("lit-llama.pth", &llama.device());
    assert!((base - adapted).abs().max().into_scalar::<f32>() > 0.1);
}
