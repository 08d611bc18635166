//! Parity: Meta's folders compared with the same model in another format.
//!
//! See `tests/golden/README.md` for how the files are made.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use checkpoint::ByteSource;
use checkpoint::torch::{TorchFile, Value, to_bytes};
use llama::{Error, ModelSource, NoAdapter, Precision};
use testing::{Golden, assert_close, flex, golden_folder};

fn golden() -> PathBuf {
    golden_folder().join("meta")
}

/// A copy of the golden files that `keep` selects.
fn copy(keep: impl Fn(&str) -> bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if keep(name) {
            fs::copy(&path, folder.path().join(name)).unwrap();
        }
    }
    folder
}

fn check_logits(folder: &Path) {
    let device = flex();
    let golden = Golden::open("gguf/tiny-llama-spm.safetensors");
    let model = ModelSource::open(folder).unwrap().load(Precision::F32, &device).unwrap();
    let tokens = golden.int_tensor("input_ids", &device);
    let logits = model.logits(model.forward(tokens, None, &NoAdapter).unwrap(), &NoAdapter);
    assert_close("logits", logits, golden.tensor("logits", &device), 2e-4);
}

#[test]
fn two_shards_have_the_logits_of_the_whole_model() {
    let config = ModelSource::open(golden()).unwrap().config().clone();
    assert_eq!((config.d_ff, config.vocab_size, config.n_kv_heads), (48, 320, 2));
    assert!(!config.tied_head);
    check_logits(&golden());
}

/// The tensors of a shard.
fn tensors(shard: &Path) -> Vec<(String, TensorData)> {
    let file = TorchFile::open(ByteSource::open(shard).unwrap()).unwrap();
    file.tensors().keys().map(|name| (name.clone(), file.read(name).unwrap())).collect()
}

fn write(shard: &Path, tensors: Vec<(String, TensorData)>) {
    let entries = tensors.into_iter().map(|(name, data)| (name, Value::Tensor(data)));
    fs::write(shard, to_bytes(&Value::Dict(entries.collect())).unwrap()).unwrap();
}

/// Llama 3 splits the embedding by rows, earlier versions by columns.
#[test]
fn an_embedding_split_by_rows_is_the_same_model() {
    let folder = copy(|_| true);
    let shards = ["consolidated.00.pth", "consolidated.01.pth"].map(|n| folder.path().join(n));
    let mut parts = shards.each_ref().map(|shard| tensors(shard));
    let name = "tok_embeddings.weight";
    let columns = parts.each_ref().map(|part| {
        let (_, data) = part.iter().find(|(other, _)| other == name).unwrap();
        data.as_slice::<half::f16>().unwrap().to_vec()
    });
    let mut whole = Vec::new();
    for (left, right) in columns[0].chunks(16).zip(columns[1].chunks(16)) {
        whole.extend_from_slice(left);
        whole.extend_from_slice(right);
    }
    for (part, rows) in parts.iter_mut().zip(whole.chunks(160 * 32)) {
        let (_, data) = part.iter_mut().find(|(other, _)| other == name).unwrap();
        *data = TensorData::new(rows.to_vec(), [160, 32]);
    }
    for (shard, part) in shards.iter().zip(parts) {
        write(shard, part);
    }
    check_logits(folder.path());
}

#[test]
fn missing_shards_are_named() {
    let missing = |folder: tempfile::TempDir| match ModelSource::open(folder.path()) {
        Err(Error::Checkpoint(checkpoint::Error::NotAModel { reason, .. })) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        missing(copy(|name| name != "consolidated.01.pth")),
        "the model has 2 shards, and consolidated.01.pth is missing"
    );
    for keep in ["params.json", "params.json consolidated.01.pth"] {
        let reason = missing(copy(|name| keep.contains(name)));
        assert_eq!(reason, "consolidated.00.pth is missing");
    }
}

#[test]
fn inconsistent_shards_are_errors() {
    let folder = copy(|_| true);
    let shard = folder.path().join("consolidated.01.pth");
    let mut other = tensors(&shard);
    let (_, data) = other.iter_mut().find(|(name, _)| name == "output.weight").unwrap();
    *data = TensorData::zeros::<half::f16, _>([32, 32]);
    write(&shard, other);
    let message = ModelSource::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("output.weight is [32, 32] of F16, in"), "{message}");

    let params = fs::read_to_string(golden().join("params.json")).unwrap();
    let folder = copy(|_| true);
    let wide = params.replace("0.5", "1.0");
    fs::write(folder.path().join("params.json"), wide).unwrap();
    let source = ModelSource::open(folder.path()).unwrap();
    let error = source.load(Precision::F32, &flex()).unwrap_err();
    assert!(matches!(error, Error::Weights { .. }), "{error}");
}
