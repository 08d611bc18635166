//! Parity with PyTorch, in both directions.
//!
//! `tests/golden/README.md` has the commands that make the files.

use std::collections::BTreeMap;

use burn::tensor::TensorData;
use testing::golden_folder;

use super::{TensorInfo, TorchFile, Value, to_bytes};
use crate::byte_source::ByteSource;
use crate::element_type::ElementType;
use crate::error::Error;

/// The same values in every format.
const FILES: [&str; 4] = ["zip.pth", "legacy.pth", "protocol4.pth", "deflated.pth"];

fn open(name: &str) -> TorchFile {
    let bytes =
        ByteSource::open(golden_folder().join("torch").join(name)).unwrap_or_else(|error| {
            panic!("{error}\nmake it with: python3 tests/golden/make.py (see its README)")
        });
    TorchFile::open(bytes).unwrap()
}

/// Name, kind, shape and bytes of every tensor, by safetensors.
fn expected() -> BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)> {
    let bytes = std::fs::read(golden_folder().join("torch/values.safetensors")).unwrap();
    let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = parsed
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())));
    tensors.collect()
}

#[test]
fn every_tensor_equals_pytorchs() {
    let expected = expected();
    assert_eq!(expected.len(), 20);
    for name in FILES {
        let file = open(name);
        assert!(file.tensors().keys().eq(expected.keys()), "{name}");
        for (tensor, (kind, shape, bytes)) in &expected {
            let info = &file.tensors()[tensor];
            assert_eq!((&info.shape, info.dtype.size()), (shape, kind.bitsize() / 8), "{tensor}");
            let found = file.read(tensor).unwrap();
            assert_eq!(found.shape().to_vec(), *shape, "{name}: {tensor}");
            assert_eq!(found.as_bytes(), bytes, "{name}: {tensor}");
        }
        assert_eq!(file.tensors()["kinds.bf16"].dtype, ElementType::BF16);
        let flags = file.read("kinds.bool").unwrap();
        assert_eq!(flags.as_slice::<bool>().unwrap(), [true, false, true]);
    }
}

#[test]
fn plain_values_are_read() {
    for name in FILES {
        let file = open(name);
        let config = file.root().get("config").unwrap();
        let get = |key: &str| config.get(key).unwrap();
        assert_eq!(get("w_bias").as_bool(), Some(true));
        assert_eq!(get("lora_rank").as_int(), Some(16));
        assert_eq!(get("negative").as_int(), Some(-70_000));
        assert_eq!(get("large").as_int(), Some(1 << 50));
        assert_eq!(get("rate").as_float(), Some(1e-3));
        assert_eq!(get("name").as_text(), Some("café"));
        assert_eq!(*get("nothing"), Value::None);
        assert_eq!(*get("betas"), Value::List(vec![Value::Float(0.9), Value::Float(0.95)]));
        assert_eq!(get("3").as_text(), Some("three"));
        let args = file.root().get("args").unwrap();
        assert!(matches!(args, Value::Object { class, .. } if class == "argparse.Namespace"));
        assert_eq!(args.get("lr").and_then(Value::as_float), Some(0.009), "{name}");
        let counts = file.root().get("counts").unwrap();
        assert!(matches!(counts, Value::Object { class, .. } if class == "collections.Counter"));
    }
}

#[test]
fn calls_of_unknown_functions_are_names() {
    let file = open("hostile.pth");
    let Some(Value::Object { class, fields }) = file.root().get("bait") else {
        panic!("{:?}", file.root())
    };
    assert!(class.ends_with(".system") && fields.is_empty(), "{class}");
    assert_eq!(file.read("weight").unwrap().as_slice::<f32>().unwrap(), [1.0, 1.0]);
}

/// The values of a file with the numbers in them, without the objects.
fn whole(file: &TorchFile, value: &Value<TensorInfo>, path: &str) -> Option<Value<TensorData>> {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    Some(match value {
        Value::None => Value::None,
        Value::Bool(flag) => Value::Bool(*flag),
        Value::Int(number) => Value::Int(*number),
        Value::Float(number) => Value::Float(*number),
        Value::Text(text) => Value::Text(text.clone()),
        Value::Bytes(bytes) => Value::Bytes(bytes.clone()),
        Value::Tensor(_) => Value::Tensor(file.read(path).unwrap()),
        Value::Object { .. } => return None,
        Value::List(values) => Value::List(
            values
                .iter()
                .enumerate()
                .filter_map(|(index, value)| whole(file, value, &below(&index.to_string())))
                .collect(),
        ),
        Value::Dict(entries) => Value::Dict(
            entries
                .iter()
                .filter(|(key, _)| key != "views")
                .filter_map(|(key, value)| Some((key.clone(), whole(file, value, &below(key))?)))
                .collect(),
        ),
    })
}

/// `make.py torch` loads `written.pth` with `weights_only=True` and compares every value.
#[test]
fn written_files_equal_the_one_that_pytorch_has_checked() {
    let file = open("zip.pth");
    let value = whole(&file, file.root(), "").unwrap();
    let bytes = to_bytes(&value).unwrap();
    let golden = golden_folder().join("torch/written.pth");
    if std::fs::read(&golden).ok().as_ref() != Some(&bytes) {
        let new = std::env::temp_dir().join("written.pth");
        std::fs::write(&new, &bytes).unwrap();
        panic!(
            "{} differs: copy {} there, and run `python3 tests/golden/make.py torch`, which holds \
             it against PyTorch",
            golden.display(),
            new.display()
        );
    }
    let again = TorchFile::open(ByteSource::memory("again", bytes)).unwrap();
    assert_eq!(whole(&again, again.root(), "").unwrap(), value);
    let written = again.tensors().keys();
    let expected = expected();
    assert!(written.eq(expected.keys().filter(|name| !name.starts_with("views"))));
}

#[test]
fn unsupported_values_are_not_written() {
    let object = Value::Object { class: "argparse.Namespace".into(), fields: Vec::new() };
    for value in [object, Value::Bytes(vec![1])] {
        let error = to_bytes(&Value::List(vec![value])).unwrap_err();
        assert!(matches!(error, Error::UnsupportedPickleValue { .. }), "{error}");
        assert!(error.to_string().contains("cannot be written into a PyTorch file"), "{error}");
    }
}

#[test]
fn damaged_files_are_rejected_with_the_reason() {
    let path = golden_folder().join("torch/zip.pth");
    let whole = std::fs::read(path).unwrap();
    let message = |bytes: Vec<u8>| {
        TorchFile::open(ByteSource::memory("x.pth", bytes)).unwrap_err().to_string()
    };
    assert!(message(whole[..whole.len() / 2].to_vec()).contains("zip archive: "));
    assert!(message(Vec::new()).contains("neither a zip archive nor a pickle"));
    assert!(message(b"\x80\x02K\x01.".to_vec()).contains("not one of PyTorch's"));
    let legacy = std::fs::read(golden_folder().join("torch/legacy.pth")).unwrap();
    let cut = message(legacy[..legacy.len() - 4].to_vec());
    assert!(cut.contains("it was cut short"), "{cut}");
    let mut renamed = whole;
    while let Some(at) = renamed.windows(8).position(|window| window == b"data.pkl") {
        renamed[at] = b'D';
    }
    assert!(message(renamed).contains("the archive has no data.pkl"));
}
