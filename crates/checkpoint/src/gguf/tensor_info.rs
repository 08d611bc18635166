//! Names, shapes and offsets of the tensors, validated against the file and each other.

use std::collections::BTreeMap;

use super::block_type::BlockType;
use super::reader::invalid;
use crate::byte_reader::ByteReader;
use crate::byte_source::ByteSource;
use crate::error::Result;

/// Maximum length of a name in bytes. The format specifies 64; some writers exceed it.
const MAX_NAME_LEN: u64 = 256;
/// Maximum number of dimensions.
const MAX_DIMENSIONS: u32 = 4;

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// llama.cpp's name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Rows first.
    pub shape: Vec<usize>,
    /// Storage type.
    pub block_type: BlockType,
    /// Part of a split file, from 0.
    pub part: usize,
    /// Offset in its file.
    pub offset: u64,
    /// Bytes in the file.
    pub len_bytes: usize,
}

impl TensorInfo {
    /// Number of elements.
    pub fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Reads the tensor infos; offsets are relative to the start of the data.
pub(super) fn read(
    reader: &mut ByteReader<'_>,
    len: usize,
) -> Result<BTreeMap<String, TensorInfo>> {
    let mut infos = BTreeMap::new();
    for index in 0..len {
        let info = read_one(reader, index)?;
        let name = info.name.clone();
        if infos.insert(name.clone(), info).is_some() {
            return Err(reader.fail(format!("tensor {name} appears twice")));
        }
    }
    Ok(infos)
}

fn read_one(reader: &mut ByteReader<'_>, index: usize) -> Result<TensorInfo> {
    let name = reader.text(MAX_NAME_LEN, &format!("the name of tensor {index}"))?;
    let what = format!("tensor {name}");
    let dimensions = reader.u32(&what)?;
    if dimensions == 0 || dimensions > MAX_DIMENSIONS {
        return Err(reader
            .fail(format!("{what} has {dimensions} dimensions, expected 1 to {MAX_DIMENSIONS}")));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(reader.count(i64::MAX as u64, &what)?);
    }
    // The format lists the fastest dimension first.
    shape.reverse();
    let block_type = match BlockType::from_id(reader.u32(&what)?) {
        Ok(known) => known,
        Err(unsupported) => return Err(unsupported.error(reader, name)),
    };
    let offset = reader.u64(&what)?;
    let row = *shape.last().expect("at least one dimension");
    let elements = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    let Some(elements) = elements.filter(|&elements| elements > 0) else {
        return Err(reader.fail(format!("{what} has the impossible shape {shape:?}")));
    };
    if !row.is_multiple_of(block_type.block_len()) {
        return Err(reader.fail(format!(
            "{what} has rows of {row} numbers, {} needs a multiple of {}",
            block_type.name(),
            block_type.block_len()
        )));
    }
    let len_bytes = (elements / block_type.block_len())
        .checked_mul(block_type.block_bytes())
        .ok_or_else(|| reader.fail(format!("{what} has the impossible shape {shape:?}")))?;
    Ok(TensorInfo { name, shape, block_type, part: 0, offset, len_bytes })
}

/// Makes offsets absolute and checks that every tensor is within the file, is aligned, and overlaps no other.
pub(super) fn resolve_offsets(
    infos: &mut BTreeMap<String, TensorInfo>,
    bytes: &ByteSource,
    header_end: u64,
    alignment: u64,
) -> Result<()> {
    let fail = |reason: String| Err(invalid(bytes, reason));
    let start = header_end.next_multiple_of(alignment);
    for TensorInfo { name, offset, len_bytes, .. } in infos.values_mut() {
        if !offset.is_multiple_of(alignment) {
            return fail(format!(
                "tensor {name} starts at {offset}, expected a multiple of {alignment}"
            ));
        }
        let absolute = start.checked_add(*offset);
        let end = absolute.and_then(|absolute| absolute.checked_add(*len_bytes as u64));
        let (Some(absolute), Some(end)) = (absolute, end) else {
            return fail(format!("tensor {name} starts at the impossible byte {offset}"));
        };
        if end > bytes.len() {
            return fail(format!(
                "tensor {name} ends at byte {end}, the file at {}: it was cut short",
                bytes.len()
            ));
        }
        *offset = absolute;
    }
    let mut sorted = infos.values().collect::<Vec<_>>();
    sorted.sort_by_key(|info| info.offset);
    for pair in sorted.windows(2) {
        let [before, after] = pair else { unreachable!("windows of two") };
        if before.offset + before.len_bytes as u64 > after.offset {
            return fail(format!(
                "tensors {} and {} overlap at byte {}",
                before.name, after.name, after.offset
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::open;
    use testing::gguf::Fixture;

    fn message(fixture: &Fixture) -> String {
        open(fixture.bytes()).unwrap_err().to_string()
    }

    #[test]
    fn tensors_must_be_within_the_file_and_not_overlap() {
        let whole = Fixture::small().bytes();
        let short = whole[..whole.len() - 1].to_vec();
        let message_of_short = open(short).unwrap_err().to_string();
        assert!(message_of_short.contains("tensor b ends at byte"), "{message_of_short}");
        let offset_of_b = |offset| {
            let mut fixture = Fixture::small();
            fixture.tensors[1].offset = Some(offset);
            message(&fixture)
        };
        assert!(offset_of_b(0).contains("tensors a and b overlap"), "{}", offset_of_b(0));
        assert!(offset_of_b(8).contains("expected a multiple of 32"), "{}", offset_of_b(8));
        assert!(offset_of_b(1 << 40).contains("cut short"), "{}", offset_of_b(1 << 40));
        assert!(
            offset_of_b(u64::MAX - 31).contains("impossible"),
            "{}",
            offset_of_b(u64::MAX - 31)
        );
    }

    #[test]
    fn shapes_and_types_must_be_possible() {
        let with = |shape: &[u64], kind| {
            let mut fixture = Fixture::small();
            fixture.tensor("c", shape, kind, &[]);
            message(&fixture)
        };
        assert!(with(&[33], 2).contains("rows of 33 numbers, Q4_0 needs a multiple of 32"));
        assert!(with(&[32], 10).contains("tensor c holds Q2_K, expected F32, F16"));
        assert!(with(&[32], 77).contains("tensor c has type 77, which ggml does not have"));
        assert!(with(&[], 0).contains("0 dimensions"));
        assert!(with(&[1; 5], 0).contains("5 dimensions"));
        assert!(with(&[1 << 40, 1 << 40], 0).contains("impossible shape"));
        assert!(with(&[1 << 62], 0).contains("impossible shape"));
        assert!(with(&[4, 0], 0).contains("impossible shape"));
        assert!(with(&[1 << 40], 0).contains("cut short"));
    }
}
