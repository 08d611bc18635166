//! Parity: the forms in which a folder may have its weights, against the logits of one model.
//!
//! `tests/golden/weight_files.py` holds transformers against the same forms of the same models.

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

/// A folder with the config of a golden model, and its tensors.
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

/// Holds the model of a folder against the logits of a golden one, and gives whether its head is
/// the embedding.
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
fn a_head_that_differs_from_the_embedding_is_not_tied_whatever_the_config_says() {
    let (folder, tensors) = model("llama-mha", true);
    safetensors(&folder.path().join("model.safetensors"), &tensors);
    assert!(!check("own head", folder.path(), "llama-mha"));
    // What is saved of it says so.
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
    // The same numbers in another precision are the same.
    let wide = tensors[EMBEDDING].iter::<f64>().collect::<Vec<_>>();
    tensors.insert(HEAD.into(), TensorData::new(wide, tensors[EMBEDDING].shape().clone()));
    safetensors(&folder.path().join("model.safetensors"), &tensors);
    assert!(check("wide copy", folder.path(), "llama-gqa-tied"));
    // In one element.
    let mut other = tensors[EMBEDDING].iter::<f32>().collect::<Vec<_>>();
    *other.last_mut().unwrap() += 1.0;
    tensors.insert(HEAD.into(), TensorData::new(other, tensors[EMBEDDING].shape().clone()));
    safetensors(&folder.path().join("model.safetensors"), &tensors);
    assert!(!ModelSource::open(folder.path()).unwrap().config().tied_head);
}

#[test]
fn a_tied_model_may_have_its_head_alone() {
    let (folder, mut tensors) = model("llama-gqa-tied", true);
    let embedding = tensors.remove(EMBEDDING).unwrap();
    tensors.insert(HEAD.into(), embedding);
    safetensors(&folder.path().join("model.safetensors"), &tensors);
    assert!(check("head alone", folder.path(), "llama-gqa-tied"));
}

#[test]
fn pickles_hold_the_same_model_in_one_file_or_several() {
    let case = "llama-gqa-tied";
    let (folder, mut tensors) = model(case, true);
    shards(folder.path(), "pytorch_model", "bin", halves(&tensors).each_ref());
    assert!(check("two pickles", folder.path(), case));
    // One file comes first, as in transformers, and may have the tied head too.
    tensors.insert(HEAD.into(), tensors[EMBEDDING].clone());
    pickle(&folder.path().join("pytorch_model.bin"), &tensors);
    fs::remove_file(folder.path().join("pytorch_model-00001-of-00002.bin")).unwrap();
    assert!(check("one pickle", folder.path(), case));
}

#[test]
fn safetensors_come_before_pickles() {
    let case = "llama-gqa-tied";
    let (folder, tensors) = model(case, true);
    fs::write(folder.path().join("pytorch_model.bin"), "not even a pickle").unwrap();
    shards(folder.path(), "model", "safetensors", halves(&tensors).each_ref());
    assert!(check("shards", folder.path(), case));
}

#[test]
fn a_shard_that_is_missing_is_named() {
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
    let expected = "it has pytorch_model-00001-of-00002.bin, and no index of such parts";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_tensor_may_be_in_two_shards_if_it_is_the_same() {
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
    // Beyond f32.
    let norm = tensors.get_mut("model.norm.weight").unwrap();
    *norm = TensorData::new(vec![1e300_f64; 32], [32]);
    safetensors(&folder.path().join("model.safetensors"), &tensors);
    let source = ModelSource::open(folder.path()).unwrap();
    let error = source.load(Precision::F32, &flex()).unwrap_err();
    assert!(error.to_string().contains("not finite"), "{error}");
}

#[test]
fn quantized_weights_are_told_by_their_tensors_where_the_config_is_silent() {
    let (folder, mut tensors) = model("llama-mha", false);
    let name = "model.layers.0.mlp.up_proj.SCB".to_owned();
    tensors.insert(name, TensorData::from([1.0_f32]));
    safetensors(&folder.path().join("model.safetensors"), &tensors);
    let source = ModelSource::open(folder.path()).unwrap();
    let error = source.load(Precision::F32, &flex()).unwrap_err();
    assert!(matches!(error, Error::Checkpoint(checkpoint::Error::Quantized { .. })), "{error}");
}

#[test]
fn a_folder_of_the_hubs_cache_is_its_snapshot() {
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
    // A name that leads elsewhere is none.
    fs::write(folder.join("refs/main"), "../snapshots/decaf").unwrap();
    assert!(ModelSource::open(&folder).is_err());
}

#[test]
fn a_gguf_is_known_by_its_first_bytes_and_may_be_alone_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let gguf = golden_folder().join("gguf/tiny-llama.gguf");
    let anyhow = folder.path().join("model");
    fs::copy(&gguf, &anyhow).unwrap();
    check("without an end", &anyhow, "llama-gqa-tied");
    fs::rename(&anyhow, folder.path().join("some.gguf")).unwrap();
    check("folder", folder.path(), "llama-gqa-tied");
    // As repositories of GGUFs have it.
    fs::write(folder.path().join("config.json"), r#"{"model_type": "llama"}"#).unwrap();
    check("folder with a config", folder.path(), "llama-gqa-tied");
}

#[test]
fn parts_of_a_gguf_are_one_model() {
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
