//! Instructions with a literal value: numbers, strings, bytes, names, empty containers.

use super::node::Node;
use super::opcode::Opcode;
use crate::byte_reader::ByteReader;
use crate::error::Result;

/// Maximum length of the name of a module or class.
pub(super) const MAX_NAME_LEN: usize = 1024;

/// The value of an instruction; `None` for those that operate on existing values.
pub(super) fn read(reader: &mut ByteReader<'_>, opcode: Opcode) -> Result<Option<Node>> {
    use Opcode as O;
    Ok(Some(match opcode {
        O::None => Node::None,
        O::NewTrue => Node::Bool(true),
        O::NewFalse => Node::Bool(false),
        O::EmptyList | O::EmptyTuple | O::EmptySet => Node::List(Vec::new()),
        O::EmptyDict => Node::Dict(Vec::new()),
        O::BinInt => Node::Int(i32::from_le_bytes(reader.array("a number")?).into()),
        O::BinInt1 => Node::Int(u8::from_le_bytes(reader.array("a number")?).into()),
        O::BinInt2 => Node::Int(u16::from_le_bytes(reader.array("a number")?).into()),
        O::BinFloat => Node::Float(f64::from_be_bytes(reader.array("a number")?)),
        O::Long1 | O::Long4 => long(reader, opcode)?,
        O::BinString | O::ShortBinString => {
            // Strings of Python 2 have no encoding; names are ASCII.
            Node::Text(String::from_utf8_lossy(&sized(reader, opcode)?).into_owned())
        }
        O::BinUnicode | O::ShortBinUnicode | O::BinUnicode8 => {
            let text = String::from_utf8(sized(reader, opcode)?);
            Node::Text(text.map_err(|error| {
                reader.fail(format!("a string is not UTF-8: {}", error.utf8_error()))
            })?)
        }
        O::BinBytes | O::ShortBinBytes | O::BinBytes8 | O::ByteArray8 => {
            Node::Bytes(sized(reader, opcode)?)
        }
        O::Global => {
            let module = reader.line(MAX_NAME_LEN, "a module's name")?;
            let name = reader.line(MAX_NAME_LEN, "a class's name")?;
            Node::Global(format!("{module}.{name}"))
        }
        _ => return Ok(None),
    }))
}

/// A signed little-endian integer of any length.
fn long(reader: &mut ByteReader<'_>, opcode: Opcode) -> Result<Node> {
    let what = "a number";
    let len = match opcode {
        Opcode::Long1 => reader.array::<1>(what)?[0] as usize,
        _ => reader.u32(what)? as usize,
    };
    let bytes = reader.take(len, what)?;
    if len > 8 {
        return Ok(Node::Big(bytes.to_vec()));
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut whole = [if negative { 0xff } else { 0 }; 8];
    whole[..len].copy_from_slice(bytes);
    Ok(Node::Int(i64::from_le_bytes(whole)))
}

/// Length-prefixed bytes; the opcode has the width of the length.
fn sized(reader: &mut ByteReader<'_>, opcode: Opcode) -> Result<Vec<u8>> {
    use Opcode as O;
    let what = "a string or bytes";
    let len = match opcode {
        O::ShortBinString | O::ShortBinUnicode | O::ShortBinBytes => {
            u64::from(reader.array::<1>(what)?[0])
        }
        O::BinUnicode8 | O::BinBytes8 | O::ByteArray8 => reader.u64(what)?,
        _ => reader.u32(what)?.into(),
    };
    Ok(reader.take(usize::try_from(len).unwrap_or(usize::MAX), what)?.to_vec())
}
