//! PyTorch's element types, by the names of storages and dtypes.

use burn::tensor::DType;

use crate::element_type::ElementType;

/// Storage class, `torch.dtype`, element type. Types without a class are in untyped storages.
const TYPES: [(&str, &str, ElementType); 19] = [
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

/// Element type of a storage class such as `torch.FloatStorage`.
pub(super) fn of_storage(class: &str) -> Option<ElementType> {
    let name = class.strip_prefix("torch.")?;
    // Old files have the device in the name.
    let name = name.strip_prefix("cuda.").unwrap_or(name);
    let known = TYPES.iter().find(|(storage, ..)| !name.is_empty() && *storage == name);
    known.map(|(.., element)| *element)
}

/// Whether a storage is untyped: the tensor has the element type.
pub(super) fn is_untyped(class: &str) -> bool {
    matches!(class, "torch.storage.UntypedStorage" | "torch.UntypedStorage")
}

/// Element type of a `torch.dtype` such as `torch.float32`.
pub(super) fn of_dtype(name: &str) -> Option<ElementType> {
    let name = name.strip_prefix("torch.")?;
    TYPES.iter().find(|(_, known, _)| *known == name).map(|(.., element)| *element)
}

/// Storage class of a data type.
pub(super) fn storage(dtype: DType) -> Option<&'static str> {
    let known = TYPES
        .iter()
        .find(|(storage, _, element)| !storage.is_empty() && element.dtype() == Some(dtype));
    known.map(|(storage, ..)| *storage)
}
