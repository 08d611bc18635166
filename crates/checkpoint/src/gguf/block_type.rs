//! Storage types of tensors: floats, or blocks of few bits per weight.

use crate::byte_reader::ByteReader;
use crate::error::Error;

/// Storage type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "ggml's names")]
#[expect(non_camel_case_types, reason = "ggml's names")]
pub enum BlockType {
    F32,
    F16,
    BF16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q4_K,
    Q5_K,
    Q6_K,
}

/// Type, ggml's id, name, weights per block, bytes per block.
const TABLE: [(BlockType, u32, &str, usize, usize); 11] = [
    (BlockType::F32, 0, "F32", 1, 4),
    (BlockType::F16, 1, "F16", 1, 2),
    (BlockType::BF16, 30, "BF16", 1, 2),
    (BlockType::Q8_0, 8, "Q8_0", 32, 34),
    (BlockType::Q4_0, 2, "Q4_0", 32, 18),
    (BlockType::Q4_1, 3, "Q4_1", 32, 20),
    (BlockType::Q5_0, 6, "Q5_0", 32, 22),
    (BlockType::Q5_1, 7, "Q5_1", 32, 24),
    (BlockType::Q4_K, 12, "Q4_K", 256, 144),
    (BlockType::Q5_K, 13, "Q5_K", 256, 176),
    (BlockType::Q6_K, 14, "Q6_K", 256, 210),
];

impl BlockType {
    /// The type with ggml's id.
    pub(super) fn from_id(id: u32) -> Result<Self, UnsupportedType> {
        let row = TABLE.iter().find(|row| row.1 == id);
        row.map(|row| row.0).ok_or(UnsupportedType { id, name: unsupported_name(id) })
    }

    fn row(self) -> (Self, u32, &'static str, usize, usize) {
        TABLE[self as usize]
    }

    /// ggml's name, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Weights per block.
    pub fn block_len(self) -> usize {
        self.row().3
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        self.row().4
    }
}

/// A type that is not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnsupportedType {
    id: u32,
    /// ggml's name, if it is known.
    name: Option<&'static str>,
}

impl UnsupportedType {
    /// The error for a tensor of the type. An unknown id means a damaged file, or a newer format.
    pub(super) fn error(self, reader: &ByteReader<'_>, tensor: String) -> Error {
        let Some(name) = self.name else {
            let id = self.id;
            return reader.fail(format!("tensor {tensor} has type {id}, which ggml does not have"));
        };
        Error::tensor_type(reader.path(), &tensor, name, TABLE.map(|row| row.2).join(", "))
    }
}

/// Names of types that are not supported.
fn unsupported_name(id: u32) -> Option<&'static str> {
    Some(match id {
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        40 => "NVFP4",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_types() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, index, "{}", row.2);
            assert_eq!(BlockType::from_id(row.1), Ok(row.0));
            assert_eq!(format!("{:?}", row.0), row.2);
        }
    }
}
