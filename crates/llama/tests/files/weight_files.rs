//! Parity: all formats of weight files compared with the logits of one model.
//!
//! `tests/golden/weight_files.py` compares transformers with the same files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::{DType, TensorData};
use checkpoint::TensorSource;
use checkpoint::folder::open_weights;
use checkpoint::torch::{Value, to_bytes};
use llama::weights::huggingface::save;
use llama::{Error, ModelSource, NoAdapter, Precision};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use testing::{Golden, assert_close, flex, golden_folder};

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

type Tensors = BTreeMap<String, TensorData>;

/// A folder with the config of a golden model, and the model's tensors.
fn model(case: &str, tied: bool) -> (tempfile::TempDir, Tensors) {
    let base = golden_folder().join(case).join("base");
    let text = fs::read_to_string(base.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["tie_word_embeddings"] = tied.into();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let weights = open_weights(&base).unwrap();
    let names = weights.shapes().keys();
    (folder, names.map(|name| (name.clone(), weights.read(name).unwrap())).collect())
}

fn safetensors(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, data)| {
        let dtype = match data.dtype() {
            DType::F32 => Dtype::F32,
            DType::F64 => Dtype::F64,
            other => panic!("{other:?}"),
        };
        (name, TensorView::new(dtype, data.shape().to_vec(), data.as_bytes()).unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn pickle(path: &Path, tensors: &Tensors) {
    let entries = tensors.iter().map(|(name, data)| (name.clone(), Value::Tensor(data.clone())));
    fs::write(path, to_bytes(&Value::Dict(entries.collect())).unwrap()).unwrap();
}

/// Two shards and their index, such as `pytorch_model-00001-of-00002.bin`.
fn shards(folder: &Path, stem: &str, end: &str, parts: [&Tensors; 2]) {
    let mut map = serde_json::Map::new();
    for (tensors, number) in parts.into_iter().zip(1..) {
        let name = format!("{stem}-{number:05}-of-00002.{end}");
        let path = folder.join(&name);
        if end == "bin" {
            pickle(&path, tensors);
        } else {
            safetensors(&path, tensors);
        }
        map.extend(tensors.keys().map(|tensor| (tensor.clone(), name.clone().into())));
    }
    let index = serde_json::json!({"metadata": {}, "weight_map": map});
    fs::write(folder.join(format!("{stem}.{end}.index.json")), index.to_string()).unwrap();
}

/// Every second tensor, and the others.
fn halves(tensors: &Tensors) -> [Tensors; 2] {
    let take = |rest: usize| {
        let numbered = tensors.iter().enumerate().filter(move |(index, _)| index % 2 == rest);
        numbered.map(|(_, (name, data))| (name.clone(), data.clone())).collect()
    };
    [take(0), take(1)]
}

/// Compares the logits of a folder's model with a golden model. Returns whether its head is tied.
fn check(what: &str, folder: &Path, case: &str) -> bool {
    let golden = Golden::open(&format!("{case}/golden.safetensors"));
    let device = flex();
    let source = ModelSource::open(folder).unwrap();
    let model = source.load(Precision::F32, &device).unwrap();
    let tokens = golden.int_tensor("input_ids", &device);
    let logits = model.logits(model.forward(tokens, None, &NoAdapter).unwrap(), &NoAdapter);
    assert_close(what, logits, golden.tensor("base_logits", &device), 2e-4);
    assert_eq!(model.config(), source.config(), "{what}");
    source.config().tied_head
}

#[test]
fn a_head_that_differs_from_the_embedding_is_not_tied() {
    let (folder, tensors) = model("llama-mha", true);
    safetensors(&folder.path().join("model.safetensors"), &tensors);
    assert!(!check("own head", folder.path(), "llama-mha"));
    // Saving keeps the result.
    let llama = ModelSource::open(folder.path()).unwrap().load(Precision::F32, &flex()).unwrap();
    let copy = tempfile::tempdir().unwrap();
    save(&llama, copy.path(), DType::F32).unwrap();
    let config = fs::read_to_string(copy.path().join("config.json")).unwrap();
    assert!(config.contains("\"tie_word_embeddings\": false"), "{config}");
    assert!(!check("saved", copy.path(), "llama-mha"));
}

#[test]
fn a_head_that_equals_the_embedding_is_tied() {
    let (folder, mut tensors) = model("llama-gqa-tied", true);
    tensors.insert(HEAD.into(), tensors[EMBEDDING].clone());
    safetensors(&folder.path().join("model.safetensors"), &tensors);
    assert!(check("copy", folder.path(), "llama-gqa-tied"));
    // Equal values in another precision are tied too.
    let wide = tensors[EMBEDDING].iter::<f64>().collect::<Vec<_>>();
    tensors.insert(HEAD.into(), TensorData::new(wide, tensors[EMBEDDING].shape().clone()));
    safetensors(&folder.path().join("model.safetensors"), &tensors);
    assert!(check("wide copy", folder.path(), "llama-gqa-tied"));
    // A difference in one element.
    let mut other = tensors[EMBEDDING].iter::<f32>().collect::<Vec<_>>();
    *other.last_mut().unwrap() += 1.0;
    tensors.insert(HEAD.into(), TensorData::new(other, tensors[EMBEDDING].shape().clone()));
    safetensors(&folder.path().join("model.safetensors"), &tensors);
    assert!(!ModelSource::open(folder.path()).unwrap().config().tied_head);
}

#[test]
fn a_tied_model_may_be_stored_with_its_head_only() {
    let (folder, mut tensors) = model("llama-gqa-tied", true);
    let embedding = tensors.remove(EMBEDDING).unwrap();
    tensors.insert(HEAD.into(), embedding);
    safetensors(&folder.path().join("model.safetensors"), &tensors);
    assert!(check("head alone", folder.path(), "llama-gqa-tied"));
}

#[test]
fn pickles_load_from_one_or_several_files() {
    let case = "llama-gqa-tied";
    let (folder, mut tensors) = model(case, true);
    shards(folder.path(), "pytorch_model", "bin", halves(&tensors).each_ref());
    assert!(check("two pickles", folder.path(), case));
    // A single file is preferred, as in transformers, and may contain the tied head.
    tensors.insert(HEAD.into(), tensors[EMBEDDING].clone());
    pickle(&folder.path().join("pytorch_model.bin"), &tensors);
    fs::remove_file(folder.path().join("pytorch_model-00001-of-00002.bin")).unwrap();
    assert!(check("one pickle", folder.path(), case));
}

#[test]
fn safetensors_are_preferred_to_pickles() {
    let case = "llama-gqa-tied";
    let (folder, tensors) = model(case, true);
    fs::write(folder.path().join("pytorch_model.bin"), "not even a pickle").unwrap();
    shards(folder.path(), "model", "safetensors", halves(&tensors).each_ref());
    assert!(check("shards", folder.path(), case));
}

#[test]
fn a_missing_shard_is_named() {
    let (folder, tensors) = model("llama-gqa-tied", true);
    shards(folder.path(), "pytorch_model", "bin", halves(&tensors).each_ref());
    fs::remove_file(folder.path().join("pytorch_model-00002-of-00002.bin")).unwrap();
    let source = ModelSource::open(folder.path()).unwrap();
    let error = source.load(Precision::F32, &flex()).unwrap_err().to_string();
    let expected =
        "pytorch_model-00002-of-00002.bin is missing, which pytorch_model.bin.index.json";
    assert!(error.contains(expected), "{error}");
    fs::remove_file(folder.path().join("pytorch_model.bin.index.json")).unwrap();
    let error = source.load(Precision::F32, &flex()).unwrap_err().to_string();
    let expected = "it has pytorch_model-00001-of-00002.bin, but no index of shards";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_tensor_in_two_shards_must_be_equal() {
    let case = "llama-gqa-tied";
    for (stem, end) in [("model", "safetensors"), ("pytorch_model", "bin")] {
        let (folder, tensors) = model(case, true);
        let [first, mut second] = halves(&tensors);
        let (name, data) = first.first_key_value().unwrap();
        second.insert(name.clone(), data.clone());
        shards(folder.path(), stem, end, [&first, &second]);
        assert!(check(end, folder.path(), case));
        let zeros = TensorData::zeros::<f32, _>(data.shape().clone());
        second.insert(name.clone(), zeros);
        shards(folder.path(), stem, end, [&first, &second]);
        let source = ModelSource::open(folder.path()).unwrap();
        let error = source.load(Precision::F32, &flex()).unwrap_err().to_string();
        assert!(error.contains("00001-of-00002") && error.contains("00002-of-00002"), "{error}");
        assert!(error.ends_with("and differs"), "{error}");
    }
}

#[test]
fn weights_of_f64_are_read() {
    let case = "llama-mha";
    let (folder, mut tensors) = model(case, false);
    for data in tensors.values_mut() {
        let wide = data.iter::<f64>().collect::<Vec<_>>();
        *data = TensorData::new(wide, data.shape().clone());
    }
    safetensors(&folder.path().join("model.safetensors"), &tensors);
    check("f64", folder.path(), case);
    // Outside the range of f32.
    let norm = tensors.get_mut("model.norm.weight").unwrap();
    *norm = TensorData::new(vec![1e300_f64; 32], [32]);
    safetensors(&folder.path().join("model.safetensors"), &tensors);
    let source = ModelSource::open(folder.path()).unwrap();
    let error = source.load(Precision::F32, &flex()).unwrap_err();
    assert!(error.to_string().contains("not finite"), "{error}");
}

#[test]
fn quantized_weights_are_detected_by_their_tensors() {
    let (folder, mut tensors) = model("llama-mha", false);
    let name = "model.layers.0.mlp.up_proj.SCB".to_owned();
    tensors.insert(name, TensorData::from([1.0_f32]));
    safetensors(&folder.path().join("model.safetensors"), &tensors);
    let source = ModelSource::open(folder.path()).unwrap();
    let error = source.load(Precision::F32, &flex()).unwrap_err();
    assert!(matches!(error, Error::Checkpoint(checkpoint::Error::Quantized { .. })), "{error}");
}

#[test]
fn a_folder_of_the_hub_cache_resolves_to_its_snapshot() {
    let case = "llama-mha";
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("models--owner--name");
    let snapshot = |name: &str| {
        let to = folder.join("snapshots").join(name);
        fs::create_dir_all(&to).unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(golden_folder().join(case).join("base").join(file), to.join(file)).unwrap();
        }
        to
    };
    let only = snapshot("c0ffee");
    fs::write(folder.join("snapshots/.DS_Store"), "x").unwrap();
    assert_eq!(ModelSource::open(&folder).unwrap().path(), only);
    check("cache", &folder, case);
    let other = snapshot("decaf");
    let error = ModelSource::open(&folder).unwrap_err().to_string();
    assert!(error.contains("several snapshots"), "{error}");
    fs::create_dir(folder.join("refs")).unwrap();
    fs::write(folder.join("refs/main"), "decaf\n").unwrap();
    assert_eq!(ModelSource::open(&folder).unwrap().path(), other);
    // A path is not a valid reference.
    fs::write(folder.join("refs/main"), "../snapshots/decaf").unwrap();
    assert!(ModelSource::open(&folder).is_err());
}

#[test]
fn a_gguf_is_detected_by_its_magic_and_as_the_only_file_of_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let gguf = golden_folder().join("gguf/tiny-llama.gguf");
    let unnamed = folder.path().join("model");
    fs::copy(&gguf, &unnamed).unwrap();
    check("without an extension", &unnamed, "llama-gqa-tied");
    fs::rename(&unnamed, folder.path().join("some.gguf")).unwrap();
    check("folder", folder.path(), "llama-gqa-tied");
    // As in repositories of GGUFs.
    fs::write(folder.path().join("config.json"), r#"{"model_type": "llama"}"#).unwrap();
    check("folder with a config", folder.path(), "llama-gqa-tied");
}

#[test]
fn a_split_gguf_is_one_model() {
    let golden = Golden::open("gguf/tiny-split.safetensors");
    let parts = [1, 2].map(|n| format!("tiny-split-0000{n}-of-00002.gguf"));
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = parts.each_ref().map(|name| {
        let to = folder.path().join(name);
        fs::copy(golden_folder().join("gguf").join(name), &to).unwrap();
        to
    });
    for device in testing::devices() {
        for path in [&first, folder.path()] {
            let model = ModelSource::open(path).unwrap().load(Precision::F32, &device).unwrap();
            let tokens = golden.int_tensor("input_ids", &device);
            let logits = model.logits(model.forward(tokens, None, &NoAdapter).unwrap(), &NoAdapter);
            assert_close("logits", logits, golden.tensor("logits", &device), 2e-4);
        }
    }
    let error = ModelSource::open(&second).unwrap_err().to_string();
    assert!(error.contains(&format!("give the first, {}", first.display())), "{error}");
    fs::remove_file(&second).unwrap();
    for path in [&first, folder.path()] {
        let error = ModelSource::open(path).unwrap_err().to_string();
        let expected = format!("part 2 of 2 is missing: {}", second.display());
        assert!(error.ends_with(&expected), "{error}");
    }
}
