//! Encoders with random parameters: seeds, gradients, save and load.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use testing::{assert_close, count_params_with_gradient, values};
use vision::{Encoder, EncoderConfig, EncoderSource, Preprocessing};

const SIZE: usize = 16;

const PLAIN: &str = r#"{"model_type": "dinov2", "hidden_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 3, "mlp_ratio": 2.5, "image_size": 16, "patch_size": 8}"#;
const GATED: &str = r#"{"model_type": "dinov2", "hidden_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 2, "mlp_ratio": 3, "image_size": 32, "patch_size": 4, "use_swiglu_ffn": true}"#;
const CLIP: &str = r#"{"model_type": "clip_vision_model", "hidden_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 12, "image_size": 16, "patch_size": 8}"#;

fn config(text: &str) -> EncoderConfig {
    EncoderConfig::parse(Path::new("config.json"), text).unwrap()
}

fn preprocessing() -> Preprocessing {
    Preprocessing::new(18, SIZE, [0.485, 0.5, 0.1], [0.3, 0.225, 1.0])
}

/// Two images that differ in every pixel.
fn pixels(device: &Device) -> Tensor<4> {
    let count = 2 * 3 * SIZE * SIZE;
    let values = (0..count).map(|at| (at as f32 * 0.37).sin()).collect::<Vec<_>>();
    Tensor::<1>::from_floats(values.as_slice(), device).reshape([2, 3, SIZE, SIZE])
}

#[test]
fn saved_encoder_reloads_equal() {
    for device in testing::devices() {
        for text in [PLAIN, GATED] {
            let encoder = Encoder::init(&config(text), SIZE, 4, &device);
            let expected = encoder.forward(pixels(&device), &[1]);
            for (precision, tolerance) in [(DType::F32, 1e-5), (DType::F16, 5e-3)] {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("new");
                encoder.save(&path, &preprocessing(), precision).unwrap();
                let source = EncoderSource::open(&path).unwrap();
                assert_eq!(source.preprocessing(), &preprocessing());
                // The saved config has the image size of the encoder.
                let mut expected_config = config(text);
                expected_config.image_size = SIZE;
                assert_eq!(source.config(), &expected_config);
                let loaded = source.load(SIZE, &device).unwrap();
                let found = loaded.forward(pixels(&device), &[1]);
                assert_close("normed", found.normed, expected.normed.clone(), tolerance);
                let [found, expected] =
                    [&found.hidden_states[0], &expected.hidden_states[0]].map(Clone::clone);
                assert_close("output of the first block", found, expected, tolerance);
            }
        }
    }
}

#[test]
fn embedded_encoder_equals_its_folder() {
    let device = testing::flex();
    let folder = tempfile::tempdir().unwrap();
    let encoder = Encoder::init(&config(PLAIN), SIZE, 4, &device);
    encoder.save(folder.path(), &preprocessing(), DType::F32).unwrap();
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let text = |name: &str| String::from_utf8(read(name)).unwrap();
    let weights: &'static [u8] = read("model.safetensors").leak();
    let (config, settings) = (text("config.json"), text("preprocessor_config.json"));
    let source = EncoderSource::from_embedded(&config, weights, &settings).unwrap();
    assert_eq!(source.preprocessing(), &preprocessing());
    let found = source.load(SIZE, &device).unwrap().forward(pixels(&device), &[]);
    let expected = encoder.forward(pixels(&device), &[]);
    assert_close("normed", found.normed, expected.normed, 1e-5);

    let error = EncoderSource::from_embedded("{}", weights, &settings).err().unwrap().to_string();
    assert!(error.starts_with("the built-in encoder: no image encoder here"), "{error}");
    let error = EncoderSource::from_embedded(&config, &weights[..90], &settings).err().unwrap();
    assert!(error.to_string().starts_with("the built-in encoder: "), "{error}");
    let quantized = r#"{"quantization_config": {"quant_method": "fp8"}}"#;
    let header = r#"{"a.qweight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}"#;
    let packed = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
    for (config, weights) in [(quantized, weights), (&*config, &*packed.leak())] {
        let error =
            EncoderSource::from_embedded(config, weights, &settings).err().unwrap().to_string();
        let expected = "the built-in encoder: the weights are quantized by";
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn same_seed_initializes_the_same_encoder() {
    let device = testing::flex();
    let encode = |seed| {
        let encoder = Encoder::init(&config(PLAIN), SIZE, seed, &device);
        values(encoder.forward(pixels(&device), &[]).normed)
    };
    assert_eq!(encode(1), encode(1));
    assert_ne!(encode(1), encode(2));
}

#[test]
fn every_parameter_has_a_gradient() {
    for device in testing::devices() {
        for text in [PLAIN, GATED, CLIP] {
            let encoder = Encoder::init(&config(text), SIZE, 4, &device.clone().autodiff());
            let class_token = encoder.forward(pixels(&device), &[]).class_token();
            // The sum of a normed vector is constant, so a plain sum would have no gradient.
            let gradients = class_token.exp().sum().backward();
            let parameters = burn::module::list_param_ids(&encoder).len();
            assert_eq!(count_params_with_gradient(&encoder, &gradients), parameters, "{text}");
            assert!(encoder.num_params() > 1000, "{text}");
        }
    }
}

#[test]
fn unsupported_configs_are_not_saved() {
    let device = testing::flex();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new");
    let refused = |config: &EncoderConfig, precision| {
        let encoder = Encoder::init(config, SIZE, 4, &device);
        let error = encoder.save(&path, &preprocessing(), precision).unwrap_err();
        assert!(!path.exists(), "nothing was written");
        error.to_string()
    };
    let error = refused(&config(CLIP), DType::F32);
    assert!(error.contains("family of the encoder to save is Clip, expected Dinov2"), "{error}");
    let error = refused(&config(PLAIN), DType::BF16);
    assert!(error.contains("precision is BF16, expected F32 or F16"), "{error}");
    let mut odd_width = config(GATED);
    odd_width.d_ff = 13;
    assert!(refused(&odd_width, DType::F32).contains("d_ff is 13"));
}
