//! Element types of tensors: all types of the formats, also those that are not supported.

use std::fmt;

use burn::tensor::{BoolStore, DType, TensorData};

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names that safetensors has for them")]
#[expect(non_camel_case_types, reason = "the names that safetensors has for them")]
pub enum ElementType {
    F32,
    F16,
    BF16,
    F64,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    BOOL,
    F8_E4M3,
    F8_E5M2,
    F8_E8M0,
    F8_E4M3FNUZ,
    F8_E5M2FNUZ,
    F6_E2M3,
    F6_E3M2,
    F4,
    C64,
}

impl ElementType {
    /// The supported types, for messages.
    pub const SUPPORTED: &str = "F32, F16, BF16 or F64";

    /// Burn's data type, if it has one.
    pub fn dtype(self) -> Option<DType> {
        Some(match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::BF16 => DType::BF16,
            Self::F64 => DType::F64,
            Self::I64 => DType::I64,
            Self::I32 => DType::I32,
            Self::I16 => DType::I16,
            Self::I8 => DType::I8,
            Self::U64 => DType::U64,
            Self::U32 => DType::U32,
            Self::U16 => DType::U16,
            Self::U8 => DType::U8,
            Self::BOOL => DType::Bool(BoolStore::Native),
            _ => return None,
        })
    }

    /// Bytes per element, at least one.
    pub fn size(self) -> usize {
        match self {
            Self::C64 => 8,
            _ => self.dtype().map_or(1, |dtype| dtype.size()),
        }
    }

    /// Whether tensors of this type are read as floats.
    pub fn is_supported(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::F64)
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Converts f64 to f32, the widest precision of a model; larger values become infinite. Other types are kept.
pub fn f64_to_f32(data: TensorData) -> TensorData {
    match data.as_slice::<f64>() {
        Ok(wide) if data.dtype() == DType::F64 => {
            let narrow = wide.iter().map(|&x| x as f32).collect::<Vec<_>>();
            TensorData::new(narrow, data.shape().clone())
        }
        _ => data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f64_becomes_f32_or_infinite() {
        let wide = TensorData::new(vec![0.1_f64, -1e300], [2]);
        let narrow = f64_to_f32(wide);
        assert_eq!(narrow.as_slice::<f32>().unwrap(), [0.1, f32::NEG_INFINITY]);
        let half = TensorData::new(vec![half::f16::ONE], [1]);
        assert_eq!(f64_to_f32(half.clone()), half);
    }
}
