//! Hidden states as bytes in f32, bf16 or f16.

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use super::disk_store::CHECKSUM_LEN;

/// Precision of stored hidden states.
///
/// bf16 keeps 8 significant bits of each value, f16 11. f16 has no value above 65504: larger ones become
/// that, with their sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CachePrecision {
    /// Exact.
    #[default]
    F32,
    /// Half the size, 8 significant bits.
    BF16,
    /// Half the size, 11 significant bits.
    F16,
}

impl CachePrecision {
    /// Every precision.
    pub const ALL: [Self; 3] = [Self::F32, Self::BF16, Self::F16];

    /// Its name: `f32`, `bf16` or `f16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::BF16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Bytes of a value.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::BF16 | Self::F16 => 2,
        }
    }

    /// Bytes of an example with `len` hidden states of `d_model` values each: the values and a checksum.
    pub fn example_bytes(self, len: usize, d_model: usize) -> u64 {
        let values = (len as u64).saturating_mul(d_model as u64);
        values.saturating_mul(self.size() as u64).saturating_add(CHECKSUM_LEN as u64)
    }

    /// Appends values to bytes, little-endian.
    pub(super) fn encode(self, values: &[f32], bytes: &mut Vec<u8>) {
        match self {
            Self::F32 => bytes.extend(values.iter().flat_map(|x| x.to_le_bytes())),
            Self::BF16 => {
                bytes.extend(values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()));
            }
            Self::F16 => {
                let max = f16::MAX.to_f32();
                // NaN stays NaN.
                let half = |x: f32| f16::from_f32(x.clamp(-max, max)).to_le_bytes();
                bytes.extend(values.iter().flat_map(|&x| half(x)));
            }
        }
    }

    /// Replaces `values` by those of the bytes.
    pub(super) fn decode(self, bytes: &[u8], values: &mut Vec<f32>) {
        values.clear();
        let (words, _rest) = bytes.as_chunks::<4>();
        let (halves, _rest) = bytes.as_chunks::<2>();
        match self {
            Self::F32 => values.extend(words.iter().map(|&x| f32::from_le_bytes(x))),
            Self::BF16 => values.extend(halves.iter().map(|&x| bf16::from_le_bytes(x).to_f32())),
            Self::F16 => values.extend(halves.iter().map(|&x| f16::from_le_bytes(x).to_f32())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(precision: CachePrecision, values: &[f32]) -> Vec<f32> {
        let (mut bytes, mut found) = (Vec::new(), vec![7.0]);
        precision.encode(values, &mut bytes);
        assert_eq!(bytes.len(), values.len() * precision.size());
        precision.decode(&bytes, &mut found);
        found
    }

    #[test]
    fn f32_is_exact_and_halves_are_rounded() {
        let values = [1.0 / 3.0, -2.5, 1e-40, 70_000.0];
        assert_eq!(round_trip(CachePrecision::F32, &values), values);
        for (precision, error) in
            [(CachePrecision::BF16, 1.0 / 256.0), (CachePrecision::F16, 1.0 / 2048.0)]
        {
            let found = round_trip(precision, &values[..2]);
            assert!((found[0] - values[0]).abs() < values[0] * error && found[1] == values[1]);
        }
    }

    #[test]
    fn values_that_f16_cannot_hold_become_its_largest() {
        assert_eq!(round_trip(CachePrecision::F16, &[1e9, -1e9]), [65_504.0, -65_504.0]);
        assert!(round_trip(CachePrecision::F16, &[f32::NAN])[0].is_nan());
    }
}
