//! What the large matrices of a model are kept in.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{DType, Device};
use diagnostic::{Advice, Diagnostic};

use checkpoint::Bits;

/// What a model's large matrices are kept in. Norms, biases and everything between the products
/// are f32 always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32 bits a weight.
    #[default]
    F32,
    /// 16 bits, 8 of them the exponent.
    BF16,
    /// 16 bits, 5 of them the exponent.
    F16,
    /// At most 8 bits, and a scale and a minimum for each block; multiplied in f32.
    Bits8,
    /// 4 bits, and a scale and a minimum for each block; multiplied in f32.
    Bits4,
}

impl Precision {
    /// All of them with their names, as [`Display`](fmt::Display) and [`FromStr`] have them.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::F32, "f32"),
        (Self::BF16, "bf16"),
        (Self::F16, "f16"),
        (Self::Bits8, "q8"),
        (Self::Bits4, "q4"),
    ];

    /// The width of quantized weights; `None` for the others.
    pub fn bits(self) -> Option<Bits> {
        match self {
            Self::Bits8 => Some(Bits::Eight),
            Self::Bits4 => Some(Bits::Four),
            Self::F32 | Self::BF16 | Self::F16 => None,
        }
    }

    /// Whether a device computes in it. All do in f32, and unpack quantized weights to it.
    pub fn is_supported(self, device: &Device) -> bool {
        device.supports_dtype(self.dense())
    }

    /// The type of weights that are not quantized.
    pub(crate) fn dense(self) -> DType {
        match self {
            Self::BF16 => DType::BF16,
            Self::F16 => DType::F16,
            Self::F32 | Self::Bits8 | Self::Bits4 => DType::F32,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name) = Self::ALL.iter().find(|(known, _)| known == self).expect("all are listed");
        f.write_str(name)
    }
}

/// A name that is no precision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no precision, expected f32, bf16, f16, q8 or q4")]
pub struct UnknownPrecision {
    /// What was given.
    pub found: String,
}

impl Diagnostic for UnknownPrecision {
    fn advice(&self) -> Option<Advice> {
        None
    }

    fn is_usage(&self) -> bool {
        true
    }
}

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, UnknownPrecision> {
        let known = Self::ALL.iter().find(|(_, known)| *known == name);
        known
            .map(|(precision, _)| *precision)
            .ok_or_else(|| UnknownPrecision { found: name.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_computes_in_f32_and_unpacks_blocks() {
        for device in testing::devices() {
            for precision in [Precision::F32, Precision::Bits8, Precision::Bits4] {
                assert!(precision.is_supported(&device), "{precision} on {device:?}");
            }
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for (precision, name) in Precision::ALL {
            assert_eq!(precision.to_string(), name);
            assert_eq!(name.parse(), Ok(precision));
        }
        let error = "q5".parse::<Precision>().unwrap_err();
        assert_eq!(error.to_string(), "`q5` is no precision, expected f32, bf16, f16, q8 or q4");
    }
}
