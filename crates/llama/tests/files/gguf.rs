//! Parity: GGUF files compared with gguf-py, SentencePiece and tokenizers.
//!
//! See `tests/golden/README.md` for how the files are made.

use burn::tensor::Device;
use checkpoint::ByteSource;
use checkpoint::gguf::GgufFile;
use llama::gguf::{GgufSource, parse_config};
use llama::weights::load;
use llama::{Llama, LlamaConfig, ModelSource, NoAdapter, Precision};
use testing::{Golden, assert_close, assert_values_close, flex, golden_folder};

fn open(name: &str) -> GgufFile {
    let path = golden_folder().join("gguf").join(name);
    let bytes = ByteSource::open(&path).unwrap_or_else(|error| {
        panic!("{error}\nmake it with: python3 tests/golden/make.py (see its README)")
    });
    GgufFile::open(bytes).unwrap()
}

fn model(name: &str, device: &Device) -> Llama {
    let file = open(name);
    load(parse_config(&file).unwrap(), &GgufSource::new(file).unwrap(), Precision::F32, device)
        .unwrap()
}

#[test]
fn every_block_type_equals_gguf_py() {
    let golden = Golden::open("gguf/quants.safetensors");
    let file = open("quants.gguf");
    assert_eq!(file.tensors().len(), 11);
    for name in golden.names() {
        let (shape, expected) = golden.floats(&name);
        let found = file.read(&name).unwrap();
        assert_eq!(found.shape().to_vec(), shape, "{name}");
        let found = found.iter::<f32>().collect::<Vec<_>>();
        assert_values_close(&name, &found, &expected, &shape, 1e-6);
    }
}

#[test]
fn every_block_type_is_kept_without_loss() {
    let file = open("quants.gguf");
    let mut kept = Vec::new();
    for (name, info) in file.tensors() {
        let expected = file.read(name).unwrap().iter::<f32>().collect::<Vec<_>>();
        let Some(blocks) = file.read_blocks(name).unwrap() else { continue };
        assert_eq!(blocks.dequantize(), expected, "{name}");
        for device in testing::devices() {
            let quantized = llama::quantized::QuantizedWeight::new(blocks.clone(), &device);
            let [rows, columns] = quantized.dims();
            assert_eq!([rows, columns].to_vec(), info.shape, "{name}");
            assert_eq!(testing::values(quantized.dequantize_rows(0, rows)), expected, "{name}");
        }
        kept.push((info.block_type.name(), blocks.bits.count()));
    }
    kept.sort_unstable();
    let expected = [
        ("Q4_0", 4),
        ("Q4_1", 4),
        ("Q4_K", 4),
        ("Q5_0", 8),
        ("Q5_1", 8),
        ("Q5_K", 8),
        ("Q6_K", 8),
        ("Q8_0", 8),
    ];
    assert_eq!(kept, expected);
}

#[test]
fn tied_model_has_the_logits_of_its_safetensors() {
    let device = flex();
    let golden = Golden::open("llama-gqa-tied/golden.safetensors");
    let model = model("tiny-llama.gguf", &device);
    assert!(model.config().tied_head);
    let tokens = golden.int_tensor("input_ids", &device);
    let logits = model.logits(model.forward(tokens, None, &NoAdapter).unwrap(), &NoAdapter);
    assert_close("logits", logits, golden.tensor("base_logits", &device), 2e-4);
}

#[test]
fn half_precision_model_has_the_logits_of_the_reference() {
    let device = flex();
    let golden = Golden::open("gguf/tiny-llama-spm.safetensors");
    let model = model("tiny-llama-spm.gguf", &device);
    assert!(!model.config().tied_head);
    let tokens = golden.int_tensor("input_ids", &device);
    let logits = model.logits(model.forward(tokens, None, &NoAdapter).unwrap(), &NoAdapter);
    assert_close("logits", logits, golden.tensor("logits", &device), 2e-4);
}

#[test]
fn other_families_have_the_logits_and_the_config_of_their_safetensors() {
    for device in testing::devices() {
        for name in ["gpt2", "phi3", "qwen3"] {
            let golden = Golden::open(&format!("{name}/golden.safetensors"));
            let model = model(&format!("tiny-{name}.gguf"), &device);
            let source = ModelSource::open(golden_folder().join(name).join("base")).unwrap();
            // GGUF keeps the epsilon in f32.
            let norm_eps = source.config().norm_eps;
            assert_eq!(LlamaConfig { norm_eps, ..model.config().clone() }, *source.config());
            let tokens = golden.int_tensor("input_ids", &device);
            let logits = model.logits(model.forward(tokens, None, &NoAdapter).unwrap(), &NoAdapter);
            assert_close(name, logits, golden.tensor("base_logits", &device), 2e-4);
        }
    }
}
