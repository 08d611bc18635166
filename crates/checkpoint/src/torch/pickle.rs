//! Python's pickle, read as data: a graph of nodes; no code is run.
//!
//! Every instruction creates at most one node, and nodes refer to each other by index: shared and cyclic values
//! take no more memory than the file. A class or function is its name; `calls.rs` has the results of calls.
//!
//! Source: CPython, `Lib/pickletools.py`.

use super::machine::Machine;
use super::node::Pickle;
use super::opcode::Opcode;
use crate::byte_reader::ByteReader;
use crate::error::Result;

/// Reads one pickle, up to its end.
pub(super) fn read(reader: &mut ByteReader<'_>) -> Result<Pickle> {
    let [first] = reader.array("the first opcode")?;
    if Opcode::of(first) != Some(Opcode::Proto) {
        return Err(reader.fail("not a pickle of protocol 2 or later"));
    }
    let [protocol] = reader.array("the protocol")?;
    if !(2..=5).contains(&protocol) {
        return Err(reader.fail(format!("pickle protocol {protocol}, expected 2 to 5")));
    }
    let mut machine = Machine::new(reader);
    loop {
        let [byte] = machine.reader.array("an opcode")?;
        match Opcode::of(byte) {
            Some(Opcode::Stop) => break,
            Some(opcode) => machine.step(opcode)?,
            None => return Err(machine.fail(format!("opcode {byte:#04x} is not supported"))),
        }
    }
    let root = machine.pop()?;
    Ok(Pickle { nodes: machine.nodes, root })
}

#[cfg(test)]
mod tests {
    use super::super::invalid::FORMAT;
    use super::super::tree::{TensorInfo, tree};
    use super::super::value::Value;
    use super::*;
    use crate::byte_source::ByteSource;

    /// The value of instructions between protocol and stop.
    fn value(instructions: &[u8]) -> Result<Value<TensorInfo>> {
        let bytes = [b"\x80\x02", instructions, b"."].concat();
        let bytes = ByteSource::memory("test", bytes);
        let pickle = read(&mut ByteReader::new(&bytes, FORMAT))?;
        tree(&bytes, &pickle).map(|(value, _)| value)
    }

    fn reason(instructions: &[u8]) -> String {
        value(instructions).unwrap_err().to_string()
    }

    #[test]
    fn numbers_of_every_width() {
        let cases: [(&[u8], i64); 7] = [
            (b"K\xff", 255),
            (b"M\x00\x01", 256),
            (b"J\xff\xff\xff\xff", -1),
            (b"\x8a\x00", 0),
            (b"\x8a\x01\xff", -1),
            (b"\x8a\x02\xff\x00", 255),
            (b"\x8b\x03\x00\x00\x00\x00\x00\x80", -(1 << 23)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(value(bytes).unwrap(), Value::Int(expected), "{bytes:?}");
        }
        assert_eq!(value(b"G\xbf\xf0\0\0\0\0\0\0").unwrap(), Value::Float(-1.0));
        let big = value(b"\x8a\x09\0\0\0\0\0\0\0\0\x01").unwrap();
        assert!(matches!(big, Value::Object { class, .. } if class == "int"));
    }

    #[test]
    fn shared_values_are_copied_into_the_tree() {
        // A list is memoised empty, then filled, and used twice.
        let twice = value(b"(]q\0K\x01ah\0t").unwrap();
        let list = Value::List(vec![Value::Int(1)]);
        assert_eq!(twice, Value::List(vec![list.clone(), list]));
    }

    #[test]
    fn cyclic_values_are_rejected() {
        assert!(reason(b"]q\0h\0a").contains("repeat each other without limit"));
        let deep = [&[b']'; 300][..], &[b'a'; 299]].concat();
        assert!(reason(&deep).contains("nested more than"));
    }

    #[test]
    fn exponential_copies_are_rejected() {
        let doubled = (1..30_u8).flat_map(|n| [b'(', b'h', n - 1, b'h', n - 1, b't', b'q', n]);
        let bomb = [&b"K\x01q\0"[..], &doubled.collect::<Vec<_>>()].concat();
        assert!(reason(&bomb).contains("repeat each other without limit"));
        let pairs = b"ccollections\nOrderedDict\nq\0](K\x01K\x02\x86K\x03K\x04\x86e\x85q\x01R";
        let again = [&pairs[..], &b"h\0h\x01R".repeat(20)].concat();
        assert!(reason(&again).contains("copied repeatedly"));
    }

    #[test]
    fn instructions_without_operands_are_rejected() {
        for (instructions, expected) in [
            (&b""[..], "an instruction has no operand"),
            (b"(0", "an instruction has no operand"),
            (b"t", "an instruction has no mark"),
            (b"(K\x01a", "an instruction has no operand"),
            (b"}(K\x01u", "a key has no value"),
            (b"K\x01K\x02K\x03s", "dictionary entries for another value"),
            (b"h\x07", "memo 7 is used before it is set"),
            (b"Q", "an instruction has no operand"),
            (b"K\x01Q", "a persistent id that is not a storage"),
            (b"X\xff\xff\xff\xffab", "takes 4294967295 bytes, the file has 3 left"),
            (b"X\x02\0\0\0\xc3\x28", "a string is not UTF-8"),
            (b"I1\n", "opcode 0x49 is not supported"),
            (b"(K\x01K\x02\x93", "the name of a class is not a short string"),
        ] {
            let message = reason(instructions);
            assert!(message.contains(expected), "{message}");
        }
        let bytes = ByteSource::memory("test", b"\x80\x06N.");
        let message = read(&mut ByteReader::new(&bytes, FORMAT)).unwrap_err().to_string();
        assert!(message.contains("pickle protocol 6, expected 2 to 5"), "{message}");
    }
}
