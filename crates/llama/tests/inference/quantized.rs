//! Quantized models: logits equal those of the dequantized model; stored blocks are kept.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use checkpoint::TensorSource;
use checkpoint::{BitWidth, QuantizedBlocks};
use llama::model::Weight;
use llama::weights::{self, huggingface};
use llama::{
    Error, GenerationConfig, KvCache, Llama, LlamaConfig, ModelSource, NoAdapter, Precision,
    Result, generate,
};
use testing::tiny_model::{self, SeededWeights, model_with_precision};
use testing::{assert_close, devices, flex};

const QUANTIZED: [Precision; 2] = [Precision::Bits8, Precision::Bits4];

/// With a separate head and with a tied one.
fn configs() -> [LlamaConfig; 2] {
    [tiny_model::config(), LlamaConfig { tied_head: true, ..tiny_model::config() }]
}

fn logits(llama: &Llama) -> Tensor<3> {
    let tokens = llama.tokens(&[tiny_model::tokens(1, 12), tiny_model::tokens(2, 12)]).unwrap();
    llama.logits(llama.forward(tokens, None, &NoAdapter).unwrap(), &NoAdapter)
}

/// Every large matrix of a model.
fn matrices(llama: &mut Llama) -> Vec<&mut Weight> {
    let mut all = vec![&mut llama.embedding];
    for layer in &mut llama.layers {
        let (attention, feed_forward) = (&mut layer.attention, &mut layer.feed_forward);
        for linear in [&mut attention.query, &mut attention.key, &mut attention.value] {
            all.push(&mut linear.weight);
        }
        all.push(&mut attention.output.weight);
        all.extend(feed_forward.gate.iter_mut().map(|linear| &mut linear.weight));
        all.extend([&mut feed_forward.up.weight, &mut feed_forward.down.weight]);
    }
    all.extend(llama.head.as_mut().map(|head| &mut head.weight));
    all
}

/// The same model with its matrices in f32.
fn dense(mut llama: Llama) -> Llama {
    for weight in matrices(&mut llama) {
        *weight = weight.to_dense().into();
    }
    llama
}

#[test]
fn quantized_logits_match_the_dequantized_model() {
    for device in devices() {
        for precision in QUANTIZED {
            for config in configs() {
                let quantized = model_with_precision(precision, config, &device);
                assert_eq!(quantized.precision(), precision);
                let expected = logits(&dense(quantized.clone()));
                assert_close(&format!("{precision} logits"), logits(&quantized), expected, 1e-5);
            }
        }
    }
}

/// Root mean square of a tensor.
fn root_mean_square(tensor: Tensor<3>) -> f32 {
    testing::values(tensor.square().mean().sqrt())[0]
}

#[test]
fn quantized_logits_are_close_to_f32() {
    let source =
        ModelSource::open(testing::golden_folder().join("../../crates/built-in/assets/tiny-llama"));
    let source = source.unwrap();
    let tokenizer = source.tokenizer().unwrap();
    let tokens = tokenizer.encode("Ada lives in Oakham. She has a cat.").unwrap();
    let logits = |precision| {
        let llama = source.load(precision, &flex()).unwrap();
        let tokens = llama.tokens(std::slice::from_ref(&tokens)).unwrap();
        llama.logits(llama.forward(tokens, None, &NoAdapter).unwrap(), &NoAdapter)
    };
    let expected = logits(Precision::F32);
    for (precision, allowed) in [(Precision::Bits8, 0.01), (Precision::Bits4, 0.12)] {
        let difference = root_mean_square(logits(precision) - expected.clone());
        let relative_error = difference / root_mean_square(expected.clone());
        // No difference at all would mean that nothing was quantized.
        let in_range = relative_error > allowed / 100.0 && relative_error < allowed;
        assert!(in_range, "{precision}: relative error {relative_error}");
    }
}

#[test]
fn cached_logits_equal_uncached_logits() {
    for device in devices() {
        for config in tiny_model::configs() {
            let llama = model_with_precision(Precision::Bits4, config.clone(), &device);
            let text = tiny_model::tokens(1, 24);
            let logits = |part: &[u32], cache: Option<&mut KvCache>| {
                let tokens = llama.tokens(&[part.to_vec()]).unwrap();
                llama.logits(llama.forward(tokens, cache, &NoAdapter).unwrap(), &NoAdapter)
            };
            let expected = logits(&text, None);
            let mut cache = KvCache::new(&config, vec![0], 24, &device).unwrap();
            let parts = [&text[..1], &text[1..20], &text[20..21], &text[21..]];
            let parts = parts.map(|part| logits(part, Some(&mut cache)));
            assert_close("logits", Tensor::cat(parts.to_vec(), 1), expected, 1e-4);
        }
    }
}

#[test]
fn a_row_alone_equals_the_row_in_a_batch() {
    let llama = model_with_precision(Precision::Bits4, tiny_model::config(), &flex());
    let config = GenerationConfig { max_new_tokens: 8, ..GenerationConfig::default() };
    let prompts = [4, 9, 6].map(|len| tiny_model::tokens(len as u64, len)).to_vec();
    let batched = generate(&llama, &NoAdapter, &prompts, &config).unwrap();
    for (prompt, expected) in prompts.into_iter().zip(batched) {
        let alone = generate(&llama, &NoAdapter, &[prompt], &config).unwrap();
        assert_eq!(alone[0].tokens, expected.tokens);
    }
}

#[test]
fn weight_bytes_are_counted() {
    let device = flex();
    let n_weights = |config: &LlamaConfig| {
        let specs = weights::expected_tensors(config);
        let matrices = specs.iter().filter(|spec| spec.shape.len() > 1);
        matrices.map(|spec| spec.shape.iter().product::<usize>()).sum::<usize>()
    };
    for config in configs() {
        let n_weights = n_weights(&config);
        let bytes =
            |precision| model_with_precision(precision, config.clone(), &device).weight_bytes();
        assert_eq!(bytes(Precision::F32), n_weights * 4);
        assert_eq!(bytes(Precision::BF16), n_weights * 2);
        // Blocks of 32, or of 16 where rows have d_ff weights; 4 bytes per block for scale and minimum.
        let down = config.n_layers * config.d_model * config.d_ff;
        let scales = (n_weights - down) / 32 * 4 + down / 16 * 4;
        assert_eq!(bytes(Precision::Bits8), n_weights + scales);
        assert_eq!(bytes(Precision::Bits4), n_weights / 2 + scales);
    }
}

#[test]
fn saving_a_quantized_model_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let llama = model_with_precision(Precision::Bits8, tiny_model::config(), &flex());
    let error = huggingface::save(&llama, folder.path(), DType::F32).unwrap_err();
    assert_eq!(
        error.to_string(),
        "model config: the precision of a model to save is q8, expected f32, f16 or bf16: \
         quantized weights cannot be saved in Hugging Face's format"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Weights stored in blocks of `bits`. `corrupt_tensor` has an infinite scale.
struct PrequantizedSource {
    inner: SeededWeights,
    bits: BitWidth,
    corrupt_tensor: Option<&'static str>,
}

impl PrequantizedSource {
    fn new(bits: BitWidth) -> Self {
        Self { inner: SeededWeights::new(&tiny_model::config()), bits, corrupt_tensor: None }
    }

    fn load(&self, precision: Precision, device: &Device) -> Result<Llama> {
        weights::load(tiny_model::config(), self, precision, device)
    }
}

impl TensorSource for PrequantizedSource {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        self.inner.shapes()
    }

    fn read(&self, name: &str) -> checkpoint::Result<TensorData> {
        match self.read_blocks(name)? {
            Some(blocks) => Ok(TensorData::new(blocks.dequantize(), blocks.shape)),
            None => self.inner.read(name),
        }
    }

    fn read_blocks(&self, name: &str) -> checkpoint::Result<Option<QuantizedBlocks>> {
        let data = self.inner.read(name)?;
        let &[rows, columns] = &data.shape().to_vec()[..] else { return Ok(None) };
        let blocks =
            QuantizedBlocks::quantize(data.as_slice().unwrap(), [rows, columns], self.bits);
        let mut blocks = blocks.expect("whole blocks");
        if self.corrupt_tensor == Some(name) {
            blocks.scales[3] = f32::INFINITY;
        }
        Ok(Some(blocks))
    }
}

#[test]
fn stored_blocks_are_kept_if_their_bit_width_fits() {
    for device in devices() {
        for (stored, precision, bits) in [
            (BitWidth::Four, Precision::Bits4, 4),
            (BitWidth::Four, Precision::Bits8, 4),
            (BitWidth::Eight, Precision::Bits8, 8),
            (BitWidth::Eight, Precision::Bits4, 4),
        ] {
            let source = PrequantizedSource::new(stored);
            let mut dense = source.load(Precision::F32, &device).unwrap();
            let mut found = source.load(precision, &device).unwrap();
            for (found, dense) in matrices(&mut found).into_iter().zip(matrices(&mut dense)) {
                assert!(!matches!(found, Weight::Dense(_)), "{found:?}");
                assert_eq!(found.bits(), bits);
                let same = testing::values(found.to_dense()) == testing::values(dense.to_dense());
                assert_eq!(same, stored.count() == bits, "{stored:?} as {precision}");
            }
        }
    }
}

#[test]
fn a_non_finite_scale_is_reported() {
    const NAME: &str = "model.layers.1.mlp.up_proj.weight";
    let source = PrequantizedSource {
        corrupt_tensor: Some(NAME),
        ..PrequantizedSource::new(BitWidth::Eight)
    };
    for precision in [Precision::F32, Precision::Bits8, Precision::Bits4] {
        let error = source.load(precision, &flex()).unwrap_err();
        let Error::Weights { report, .. } = error else { panic!("{error}") };
        assert_eq!(report.not_finite, [NAME], "{precision}");
    }
}
