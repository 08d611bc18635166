//! PyTorch's kinds of numbers, by the names of its storages.

use burn::tensor::DType;

use crate::element_type::ElementType;

/// Storage class, name as a `torch.dtype`, and what it is here. Kinds without a class of their own
/// lie in untyped storages.
const KINDS: [(&str, &str, ElementType); 19] = [
    ("FloatStorage", "float32", ElementType::F32),
    ("HalfStorage", "float16", ElementType::F16),
    ("BFloat16Storage", "bfloat16", ElementType::BF16),
    ("DoubleStorage", "float64", ElementType::F64),
    ("LongStorage", "int64", ElementType::I64),
    ("IntStorage", "int32", ElementType::I32),
    ("ShortStorage", "int16", ElementType::I16),
    ("CharStorage", "int8", ElementType::I8),
    ("ByteStorage", "uint8", ElementType::U8),
    ("BoolStorage", "bool", ElementType::BOOL),
    ("ComplexFloatStorage", "complex64", ElementType::C64),
    ("", "float8_e4m3fn", ElementType::F8_E4M3),
    ("", "float8_e5m2", ElementType::F8_E5M2),
    ("", "float8_e8m0fnu", ElementType::F8_E8M0),
    ("", "float8_e4m3fnuz", ElementType::F8_E4M3FNUZ),
    ("", "float8_e5m2fnuz", ElementType::F8_E5M2FNUZ),
    ("", "uint16", ElementType::U16),
    ("", "uint32", ElementType::U32),
    ("", "uint64", ElementType::U64),
];

/// The numbers in a storage of a class such as `torch.FloatStorage`.
pub(super) fn of_storage(class: &str) -> Option<ElementType> {
    let name = class.strip_prefix("torch.")?;
    // What old files call a storage that was on a GPU.
    let name = name.strip_prefix("cuda.").unwrap_or(name);
    let known = KINDS.iter().find(|(storage, ..)| !name.is_empty() && *storage == name);
    known.map(|(.., element)| *element)
}

/// Whether a storage is of bytes whose meaning the tensor tells.
pub(super) fn is_untyped(class: &str) -> bool {
    matches!(class, "torch.storage.UntypedStorage" | "torch.UntypedStorage")
}

/// What a `torch.dtype` such as `torch.float32` is.
pub(super) fn of_dtype(name: &str) -> Option<ElementType> {
    let name = name.strip_prefix("torch.")?;
    KINDS.iter().find(|(_, known, _)| *known == name).map(|(.., element)| *element)
}

/// The storage class of some numbers.
pub(super) fn storage(dtype: DType) -> Option<&'static str> {
    let known = KINDS
        .iter()
        .find(|(storage, _, element)| !storage.is_empty() && element.dtype() == Some(dtype));
    known.map(|(storage, ..)| *storage)
}
