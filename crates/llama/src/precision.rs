//! Precision of a model's large matrices.
//!
//! Activations, norms, softmax, loss, adapters and optimizer state are always f32. A [`Precision`] chooses
//! what the large matrices are stored in: f32, bf16, f16, or quantized blocks of 8 or 4 bits
//! ([`crate::quantized`]). A GGUF's blocks are kept as stored if their width allows (5 and 6 bits take 8);
//! anything else is quantized while it is loaded.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{DType, Device};
use diagnostic::{Advice, Diagnostic};
use kernels::has_packed_weights;

use checkpoint::BitWidth;

/// Precision of a model's large matrices. Norms, biases and activations are always f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    F32,
    /// bfloat16: 16 bits with an 8-bit exponent.
    BF16,
    /// IEEE half precision: 16 bits with a 5-bit exponent.
    F16,
    /// Blocks of at most 8 bits per weight with scales; multiplied in f32.
    Bits8,
    /// Blocks of 4 bits per weight with scales; multiplied in f32.
    Bits4,
}

impl Precision {
    /// All precisions, with the names of [`Display`](fmt::Display) and [`FromStr`].
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::F32, "f32"),
        (Self::BF16, "bf16"),
        (Self::F16, "f16"),
        (Self::Bits8, "q8"),
        (Self::Bits4, "q4"),
    ];

    /// Bit width of quantized weights; `None` if they are not quantized.
    pub fn bits(self) -> Option<BitWidth> {
        match self {
            Self::Bits8 => Some(BitWidth::Eight),
            Self::Bits4 => Some(BitWidth::Four),
            Self::F32 | Self::BF16 | Self::F16 => None,
        }
    }

    /// Whether a device supports it. Every device supports f32 and quantized weights; devices with packed
    /// weights, such as GPUs, support all.
    pub fn is_supported(self, device: &Device) -> bool {
        has_packed_weights(device) || device.supports_dtype(self.dense_dtype())
    }

    /// Element type of weights that are not quantized.
    pub(crate) fn dense_dtype(self) -> DType {
        match self {
            Self::BF16 => DType::BF16,
            Self::F16 => DType::F16,
            Self::F32 | Self::Bits8 | Self::Bits4 => DType::F32,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name) =
            Self::ALL.iter().find(|(known, _)| known == self).expect("ALL has every precision");
        f.write_str(name)
    }
}

/// A name that is not a precision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a precision, expected f32, bf16, f16, q8 or q4")]
#[non_exhaustive]
pub struct UnknownPrecision {
    /// The name.
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
    fn every_device_supports_f32_and_quantized_weights() {
        for device in testing::devices() {
            for precision in [Precision::F32, Precision::Bits8, Precision::Bits4] {
                assert!(precision.is_supported(&device), "{precision} on {device:?}");
            }
        }
    }

    #[test]
    fn devices_with_packed_weights_support_every_precision() {
        for device in testing::devices().into_iter().filter(has_packed_weights) {
            for &(precision, name) in Precision::ALL {
                assert!(precision.is_supported(&device), "{name} on {device:?}");
            }
        }
    }

    #[test]
    fn names_round_trip() {
        for &(precision, name) in Precision::ALL {
            assert_eq!(precision.to_string(), name);
            assert_eq!(name.parse(), Ok(precision));
        }
        let error = "q5".parse::<Precision>().unwrap_err();
        assert_eq!(error.to_string(), "`q5` is not a precision, expected f32, bf16, f16, q8 or q4");
    }
}
