//! Hidden states against transformers, for the layers and patch sizes of every released model.

use std::path::PathBuf;

use burn::tensor::{DType, Device, Tensor, TensorData};
use checkpoint::TensorSource;
use checkpoint::folder::open_weights;
use checkpoint::torch::{Value, to_bytes};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use testing::{Golden, assert_close, golden_folder};
use vision::{EncoderFamily, EncoderSource, read_image};

fn folder(case: &str) -> PathBuf {
    golden_folder().join("vision").join(case)
}

fn check(case: &str, source: &EncoderSource, device: &Device) {
    let golden = Golden::open(&format!("vision/{case}/golden.safetensors"));
    let pixels = golden.tensor::<4>("pixels", device);
    let [_batch, _channels, size, _width] = pixels.dims();
    let encoder = source.load(size, device).unwrap();
    let names = golden.names();
    let layers = names.iter().filter_map(|name| name.strip_prefix("hidden.")?.parse().ok());
    let layers = layers.collect::<Vec<usize>>();
    assert!(layers.len() >= 4, "{case}: {layers:?}");
    let output = encoder.forward(pixels, &layers);
    for (layer, found) in layers.iter().zip(output.hidden_states) {
        let expected = golden.tensor::<3>(&format!("hidden.{layer}"), device);
        assert_close(&format!("{case}, layer {layer}"), found, expected, 3e-4);
    }
    let expected = golden.tensor::<3>("normed", device);
    assert_close(&format!("{case}, normed"), output.normed, expected, 3e-4);
    match output.projected {
        Some(found) => {
            assert_eq!(source.config().family, EncoderFamily::Clip);
            let expected = golden.tensor::<3>("projected", device);
            assert_close(&format!("{case}, projected"), found, expected, 3e-4);
        }
        None => assert_eq!(source.config().family, EncoderFamily::Dinov2, "{case}"),
    }
}

#[test]
fn hidden_states_equal_transformers() {
    for device in testing::devices() {
        for case in
            ["clip-b32", "clip-b16", "clip-l14", "dinov2-small", "dinov2-large", "dinov2-giant"]
        {
            check(case, &EncoderSource::open(folder(case)).unwrap(), &device);
        }
    }
}

/// CLIP with the `position_ids` buffers that OpenAI's checkpoints on the Hub contain.
fn with_position_ids() -> (tempfile::TempDir, Vec<(String, TensorData)>) {
    let from = folder("clip-b16");
    let to = tempfile::tempdir().unwrap();
    std::fs::copy(from.join("config.json"), to.path().join("config.json")).unwrap();
    let weights = open_weights(&from).unwrap();
    let read = |name: &String| (name.clone(), weights.read(name).unwrap());
    let mut tensors = weights.shapes().keys().map(read).collect::<Vec<_>>();
    for part in ["vision_model", "text_model"] {
        let ids = TensorData::from([[0_i64, 1, 2, 3]]);
        tensors.push((format!("{part}.embeddings.position_ids"), ids));
    }
    (to, tensors)
}

#[test]
fn unused_tensors_may_have_any_dtype() {
    let (to, tensors) = with_position_ids();
    let views = tensors.iter().map(|(name, data)| {
        let dtype = if data.dtype() == DType::I64 { Dtype::I64 } else { Dtype::F32 };
        (name, TensorView::new(dtype, data.shape().to_vec(), data.as_bytes()).unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(to.path().join("model.safetensors"), bytes).unwrap();
    check("clip-b16", &EncoderSource::open(to.path()).unwrap(), &testing::flex());
}

#[test]
fn pytorch_pickle_loads_equal() {
    let (to, tensors) = with_position_ids();
    let entries = tensors.into_iter().map(|(name, data)| (name, Value::Tensor(data)));
    let bytes = to_bytes(&Value::Dict(entries.collect())).unwrap();
    std::fs::write(to.path().join("pytorch_model.bin"), bytes).unwrap();
    check("clip-b16", &EncoderSource::open(to.path()).unwrap(), &testing::flex());
}

#[test]
fn non_finite_weights_are_reported() {
    let (to, mut tensors) = with_position_ids();
    let bias = "vision_model.post_layernorm.bias";
    let (_, data) = tensors.iter_mut().find(|(name, _)| name == bias).unwrap();
    *data = TensorData::new(vec![f32::NAN; data.shape().num_elements()], data.shape().clone());
    let entries = tensors.into_iter().map(|(name, data)| (name, Value::Tensor(data)));
    let bytes = to_bytes(&Value::Dict(entries.collect())).unwrap();
    std::fs::write(to.path().join("pytorch_model.bin"), bytes).unwrap();
    let source = EncoderSource::open(to.path()).unwrap();
    let error = source.load(48, &testing::flex()).unwrap_err().to_string();
    assert!(error.contains("not finite") && error.contains(bias), "{error}");
}

/// `cargo test --workspace --features ndarray,wgpu --test encoders -- --ignored`
#[test]
#[ignore = "needs real weights: python3 bench/images/prepare.py"]
fn real_weights_equal_transformers() {
    let folder = golden_folder().join("../../target/images/dinov2-small");
    let source = EncoderSource::open(folder).expect("made by bench/images/prepare.py");
    let golden = Golden::open("dinov2-small.safetensors");
    let photo = read_image(&golden_folder().join("vision/photos/astronaut.png")).unwrap();
    for device in testing::devices() {
        let encoder = source.load(224, &device).unwrap();
        let pixels = source.preprocessing().pixels(std::slice::from_ref(&photo), &device);
        let layers = [1, 6, 12];
        let output = encoder.forward(pixels, &layers);
        let first = |tokens: Tensor<3>| tokens.narrow(1, 0, 8);
        for (layer, found) in layers.iter().zip(output.hidden_states) {
            let expected = golden.tensor::<3>(&format!("hidden.{layer}"), &device);
            assert_close(&format!("layer {layer}"), first(found), expected, 1e-3);
        }
        assert_close("normed", first(output.normed), golden.tensor("normed", &device), 1e-3);
    }
}

#[test]
fn openai_layout_equals_transformers() {
    let source = EncoderSource::open(folder("openai/model.pt")).unwrap();
    let config = source.config();
    assert_eq!((config.n_layers, config.n_heads, config.image_size), (3, 2, 24));
    for device in testing::devices() {
        check("openai", &source, &device);
    }
}

#[test]
fn image_size_not_a_multiple_of_the_patch_size_is_refused() {
    let source = EncoderSource::open(folder("dinov2-small")).unwrap();
    let error = source.load(50, &testing::flex()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the image size 50 is not a multiple of the patch size 14: use for example 42"
    );
}

#[test]
fn non_encoder_files_are_refused() {
    let refused = |path: PathBuf| EncoderSource::open(path).err().unwrap().to_string();
    let language = golden_folder().join("llama-mha/base");
    assert!(refused(language).contains("`model_type` is `llama`"));
    let empty = tempfile::tempdir().unwrap();
    assert!(refused(empty.path().into()).contains("it has no config.json"));
    let adapter = golden_folder().join("formats/original.pth");
    assert!(refused(adapter).contains("there is no tensor `conv1.weight`"));
}

#[test]
fn mismatched_weights_are_listed() {
    let broken = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(folder("clip-b16").join("config.json")).unwrap();
    let config = config.replace("\"num_hidden_layers\": 12", "\"num_hidden_layers\": 13");
    std::fs::write(broken.path().join("config.json"), config).unwrap();
    std::fs::copy(
        folder("clip-b16").join("model.safetensors"),
        broken.path().join("model.safetensors"),
    )
    .unwrap();
    let source = EncoderSource::open(broken.path()).unwrap();
    let error = source.load(48, &testing::flex()).unwrap_err().to_string();
    assert!(error.contains("missing (16):"), "{error}");
    assert!(error.contains("vision_model.encoder.layers.12.layer_norm1.weight"), "{error}");
}
