//! PyTorch's kinds of numbers, by the names of its storages.

use burn::tensor::{BoolStore, DType};

/// Storage class, name as a `torch.dtype`, and what it is here.
const KINDS: [(&str, &str, DType); 10] = [
    ("FloatStorage", "float32", DType::F32),
    ("HalfStorage", "float16", DType::F16),
    ("BFloat16Storage", "bfloat16", DType::BF16),
    ("DoubleStorage", "float64", DType::F64),
    ("LongStorage", "int64", DType::I64),
    ("IntStorage", "int32", DType::I32),
    ("ShortStorage", "int16", DType::I16),
    ("CharStorage", "int8", DType::I8),
    ("ByteStorage", "uint8", DType::U8),
    ("BoolStorage", "bool", DType::Bool(BoolStore::Native)),
];

/// The numbers in a storage of a class such as `torch.FloatStorage`.
pub(super) fn of_storage(class: &str) -> Option<DType> {
    let name = class.strip_prefix("torch.")?;
    // What old files call a storage that was on a GPU.
    let name = name.strip_prefix("cuda.").unwrap_or(name);
    KINDS.iter().find(|(storage, ..)| *storage == name).map(|(.., dtype)| *dtype)
}

/// Whether a storage is of bytes whose meaning the tensor tells.
pub(super) fn is_untyped(class: &str) -> bool {
    matches!(class, "torch.storage.UntypedStorage" | "torch.UntypedStorage")
}

/// What a `torch.dtype` such as `torch.float32` is.
pub(super) fn of_dtype(name: &str) -> Option<DType> {
    let name = name.strip_prefix("torch.")?;
    KINDS.iter().find(|(_, known, _)| *known == name).map(|(.., dtype)| *dtype)
}

/// The storage class of some numbers.
pub(super) fn storage(dtype: DType) -> Option<&'static str> {
    KINDS.iter().find(|(.., known)| *known == dtype).map(|(storage, ..)| *storage)
}
