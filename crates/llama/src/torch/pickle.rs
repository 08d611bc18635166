//! Python's pickle, read as data: a stack machine that makes nodes and runs nothing.
//!
//! Every instruction makes at most one node, and nodes refer to each other by number: shared and
//! even circular values take no more memory than the file. A class or function is its name; what
//! a call of it would give is decided in `rebuild.rs`.
//!
//! Source: CPython, `Lib/pickletools.py`.

use std::collections::HashMap;

use super::opcode::Opcode;
use super::rebuild::{self, Rebuilt};
use crate::error::Result;
use crate::weights::reader::Reader;

/// Longest name of a module or a class.
const LONGEST_NAME: usize = 1024;

/// Number of a node.
pub(super) type Id = u32;

/// A value that may refer to others.
#[derive(Debug, Clone)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits, little-endian.
    Big(Vec<u8>),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// A list, a tuple or a set.
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// Name of a class or function.
    Global(String),
    /// What a persistent id names: a run of numbers elsewhere in the file.
    Storage(Box<Storage>),
    Tensor(Box<Rebuilt>),
    /// An instance of a class that has no meaning here.
    Object(Box<Object>),
}

/// A storage, as the pickle claims it to be.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub(super) class: Id,
    pub(super) key: Id,
    /// Elements, or bytes where the class is untyped.
    pub(super) len: u64,
    /// Elements before its own, where it is a view of another one.
    pub(super) offset: u64,
}

/// An instance of some class.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) class: Id,
    pub(super) state: Option<Id>,
    pub(super) entries: Vec<(Id, Id)>,
}

/// All nodes of a pickle, and which one it stands for.
#[derive(Debug)]
pub(super) struct Pickle {
    pub(super) nodes: Vec<Node>,
    pub(super) root: Id,
}

impl Pickle {
    pub(super) fn root(&self) -> &Node {
        &self.nodes[self.root as usize]
    }
}

/// Reads one pickle; what follows it is left to be read.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Pickle> {
    let [first] = reader.array("the first opcode")?;
    if Opcode::of(first) != Some(Opcode::Proto) {
        return Err(reader.fail("no pickle of protocol 2 or later begins here"));
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

/// The state of reading.
pub(super) struct Machine<'r, 'b> {
    reader: &'r mut Reader<'b>,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Entries that calls have copied.
    copied: usize,
}

impl<'r, 'b> Machine<'r, 'b> {
    fn new(reader: &'r mut Reader<'b>) -> Self {
        let (nodes, stack, marks) = (Vec::new(), Vec::new(), Vec::new());
        Self { reader, nodes, stack, marks, memo: HashMap::new(), copied: 0 }
    }

    fn step(&mut self, opcode: Opcode) -> Result<()> {
        use Opcode as O;
        match opcode {
            O::Proto => drop(self.reader.array::<1>("the protocol")?),
            O::Frame => drop(self.reader.array::<8>("a frame")?),
            O::Mark => self.marks.push(self.stack.len()),
            O::Pop if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            O::Pop => drop(self.pop()?),
            O::PopMark => drop(self.above_mark()?),
            O::Dup => {
                let top = self.pop()?;
                self.stack.extend([top, top]);
            }
            O::None => self.push(Node::None)?,
            O::NewTrue => self.push(Node::Bool(true))?,
            O::NewFalse => self.push(Node::Bool(false))?,
            O::BinInt | O::BinInt1 | O::BinInt2 | O::Long1 | O::Long4 | O::BinFloat => {
                let number = self.number(opcode)?;
                self.push(number)?;
            }
            O::BinString
            | O::ShortBinString
            | O::BinUnicode
            | O::ShortBinUnicode
            | O::BinUnicode8 => {
                let text = self.text(opcode)?;
                self.push(Node::Text(text))?;
            }
            O::BinBytes | O::ShortBinBytes | O::BinBytes8 | O::ByteArray8 => {
                let bytes = self.sized(opcode)?;
                self.push(Node::Bytes(bytes))?;
            }
            O::EmptyList | O::EmptyTuple | O::EmptySet => self.push(Node::List(Vec::new()))?,
            O::List | O::Tuple | O::FrozenSet => {
                let items = self.above_mark()?;
                self.push(Node::List(items))?;
            }
            O::Tuple1 | O::Tuple2 | O::Tuple3 => {
                let len = 1 + (opcode as usize - O::Tuple1 as usize);
                let mut items = (0..len).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
                items.reverse();
                self.push(Node::List(items))?;
            }
            O::Append => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            O::Appends | O::AddItems => {
                let items = self.above_mark()?;
                self.append(items)?;
            }
            O::EmptyDict => self.push(Node::Dict(Vec::new()))?,
            O::Dict => {
                let entries = self.pairs()?;
                self.push(Node::Dict(entries))?;
            }
            O::SetItem => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![(key, value)])?;
            }
            O::SetItems => {
                let entries = self.pairs()?;
                self.set(entries)?;
            }
            O::BinPut | O::LongBinPut | O::Memoize => {
                let slot = match opcode {
                    O::Memoize => self.memo.len() as u32,
                    _ => self.slot(opcode)?,
                };
                let top = self.top()?;
                self.memo.insert(slot, top);
            }
            O::BinGet | O::LongBinGet => {
                let slot = self.slot(opcode)?;
                let Some(&id) = self.memo.get(&slot) else {
                    return Err(self.fail(format!("memo {slot} is used before it is made")));
                };
                self.stack.push(id);
            }
            O::Global => {
                let module = self.reader.line(LONGEST_NAME, "a module's name")?;
                let name = self.reader.line(LONGEST_NAME, "a class's name")?;
                self.push(Node::Global(format!("{module}.{name}")))?;
            }
            O::StackGlobal => {
                let (name, module) = (self.pop()?, self.pop()?);
                let class = self.joined(module, name)?;
                self.push(Node::Global(class))?;
            }
            O::Reduce | O::NewObj => {
                let (arguments, class) = (self.pop()?, self.pop()?);
                self.call(class, arguments)?;
            }
            O::NewObjEx => {
                let (_keywords, arguments, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(class, arguments)?;
            }
            O::Build => {
                let state = self.pop()?;
                let top = self.top()?;
                // A dictionary's attributes, such as PyTorch's `_metadata`, are no entries of it.
                if let Node::Object(object) = &mut self.nodes[top as usize] {
                    object.state = Some(state);
                }
            }
            O::BinPersId => {
                let id = self.pop()?;
                self.persistent(id)?;
            }
            O::Stop => unreachable!("the caller stops"),
        }
        Ok(())
    }

    fn number(&mut self, opcode: Opcode) -> Result<Node> {
        let what = "a number";
        Ok(match opcode {
            Opcode::BinInt => Node::Int(i32::from_le_bytes(self.reader.array(what)?).into()),
            Opcode::BinInt1 => Node::Int(u8::from_le_bytes(self.reader.array(what)?).into()),
            Opcode::BinInt2 => Node::Int(u16::from_le_bytes(self.reader.array(what)?).into()),
            Opcode::BinFloat => Node::Float(f64::from_be_bytes(self.reader.array(what)?)),
            _ => {
                let len = match opcode {
                    Opcode::Long1 => self.reader.array::<1>(what)?[0] as usize,
                    _ => self.reader.u32(what)? as usize,
                };
                let bytes = self.reader.take(len, what)?;
                if len > 8 {
                    return Ok(Node::Big(bytes.to_vec()));
                }
                let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
                let mut whole = [if negative { 0xff } else { 0 }; 8];
                whole[..len].copy_from_slice(bytes);
                Node::Int(i64::from_le_bytes(whole))
            }
        })
    }

    /// Bytes behind their length, whose width the opcode tells.
    fn sized(&mut self, opcode: Opcode) -> Result<Vec<u8>> {
        use Opcode as O;
        let what = "a text or bytes";
        let len = match opcode {
            O::ShortBinString | O::ShortBinUnicode | O::ShortBinBytes => {
                u64::from(self.reader.array::<1>(what)?[0])
            }
            O::BinUnicode8 | O::BinBytes8 | O::ByteArray8 => self.reader.u64(what)?,
            _ => self.reader.u32(what)?.into(),
        };
        Ok(self.reader.take(usize::try_from(len).unwrap_or(usize::MAX), what)?.to_vec())
    }

    fn text(&mut self, opcode: Opcode) -> Result<String> {
        let bytes = self.sized(opcode)?;
        if matches!(opcode, Opcode::BinString | Opcode::ShortBinString) {
            // Python 2's texts have no encoding; the names in them are ASCII.
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        String::from_utf8(bytes)
            .map_err(|error| self.fail(format!("a text is not UTF-8: {}", error.utf8_error())))
    }

    fn slot(&mut self, opcode: Opcode) -> Result<u32> {
        let what = "the number of a memo";
        match opcode {
            Opcode::BinPut | Opcode::BinGet => Ok(self.reader.array::<1>(what)?[0].into()),
            _ => self.reader.u32(what),
        }
    }

    pub(super) fn fail(&self, reason: impl std::fmt::Display) -> crate::Error {
        self.reader.fail(reason)
    }

    pub(super) fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    pub(super) fn push(&mut self, node: Node) -> Result<()> {
        let id = Id::try_from(self.nodes.len()).map_err(|_| self.fail("too many values"))?;
        self.nodes.push(node);
        self.stack.push(id);
        Ok(())
    }

    fn top(&self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = self.stack.get(floor..).and_then(<[Id]>::last).copied();
        top.ok_or_else(|| self.fail("an instruction finds no value to work on"))
    }

    fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn above_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| self.fail("an instruction finds no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn pairs(&mut self) -> Result<Vec<(Id, Id)>> {
        let items = self.above_mark()?;
        if !items.len().is_multiple_of(2) {
            return Err(self.fail("a key has no value"));
        }
        Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }

    /// Adds to the list on the stack; other things keep no items.
    fn append(&mut self, new: Vec<Id>) -> Result<()> {
        let top = self.top()?;
        if let Node::List(items) = &mut self.nodes[top as usize] {
            items.extend(new);
        }
        Ok(())
    }

    /// Adds to the dictionary on the stack, or to an object that behaves like one.
    fn set(&mut self, new: Vec<(Id, Id)>) -> Result<()> {
        let top = self.top()?;
        match &mut self.nodes[top as usize] {
            Node::Dict(entries) => entries.extend(new),
            Node::Object(object) => object.entries.extend(new),
            _ => return Err(self.fail("entries for what is no dictionary")),
        }
        Ok(())
    }

    fn joined(&self, module: Id, name: Id) -> Result<String> {
        match (self.node(module), self.node(name)) {
            (Node::Text(module), Node::Text(name))
                if module.len().max(name.len()) <= LONGEST_NAME =>
            {
                Ok(format!("{module}.{name}"))
            }
            _ => Err(self.fail("a class whose name is no short text")),
        }
    }

    /// What calling `class` would give, as far as it has a meaning here.
    fn call(&mut self, class: Id, arguments: Id) -> Result<()> {
        match rebuild::call(self, class, arguments)? {
            rebuild::Called::Known(id) => {
                self.stack.push(id);
                Ok(())
            }
            rebuild::Called::New(node) => self.push(node),
        }
    }

    fn persistent(&mut self, id: Id) -> Result<()> {
        let unknown = || self.fail("a persistent id that names no storage");
        let Node::List(parts) = self.node(id) else { return Err(unknown()) };
        let kind = parts.first().map(|&kind| self.node(kind));
        match (kind, &parts[..]) {
            (Some(Node::Text(kind)), &[_, class, key, _place, len, ..]) if kind == "storage" => {
                let (Node::Global(_), Node::Text(_)) = (self.node(class), self.node(key)) else {
                    return Err(unknown());
                };
                let len = self.size(len)?;
                // Files of before PyTorch 0.4: the key, the place and the length of a view.
                let view = parts.get(5).map(|&view| self.node(view));
                let offset = match view {
                    Some(Node::List(view)) if view.len() == 3 => self.size(view[1])?,
                    _ => 0,
                };
                self.push(Node::Storage(Box::new(Storage { class, key, len, offset })))
            }
            // The class of a whole module, beside its source code.
            (Some(Node::Text(kind)), &[_, class, ..]) if kind == "module" => {
                self.stack.push(class);
                Ok(())
            }
            _ => Err(unknown()),
        }
    }

    /// Counts entries that a call copies: an honest file copies each of its nodes once.
    pub(super) fn copy(&mut self, len: usize) -> Result<()> {
        self.copied += len;
        if self.copied > self.nodes.len() {
            return Err(self.fail("the same entries are copied again and again"));
        }
        Ok(())
    }

    /// A number that is a size.
    pub(super) fn size(&self, id: Id) -> Result<u64> {
        match self.node(id) {
            Node::Int(number) => u64::try_from(*number)
                .map_err(|_| self.fail(format!("a size of {number}, expected 0 or more"))),
            _ => Err(self.fail("a size that is no integer")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::FORMAT;
    use super::super::rebuild;
    use super::super::value::Value;
    use super::*;
    use crate::weights::Bytes;

    /// The value of a pickle's instructions, behind the protocol and before the stop.
    fn value(instructions: &[u8]) -> Result<Value<rebuild::TensorInfo>> {
        let bytes = [b"\x80\x02", instructions, b"."].concat();
        let bytes = Bytes::memory("test", bytes);
        let pickle = read(&mut Reader::new(&bytes, FORMAT))?;
        rebuild::tree(&bytes, &pickle).map(|(value, _)| value)
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
    fn shared_values_are_one_until_they_are_read() {
        // A list goes into the memo empty, is filled, and appears twice.
        let twice = value(b"(]q\0K\x01ah\0t").unwrap();
        let list = Value::List(vec![Value::Int(1)]);
        assert_eq!(twice, Value::List(vec![list.clone(), list]));
    }

    #[test]
    fn a_value_inside_itself_is_refused() {
        assert!(reason(b"]q\0h\0a").contains("repeat each other without end"));
        let deep = [&[b']'; 300][..], &[b'a'; 299]].concat();
        assert!(reason(&deep).contains("nested more than"));
    }

    #[test]
    fn values_that_double_again_and_again_are_refused() {
        let doubled = (1..30_u8).flat_map(|n| [b'(', b'h', n - 1, b'h', n - 1, b't', b'q', n]);
        let bomb = [&b"K\x01q\0"[..], &doubled.collect::<Vec<_>>()].concat();
        assert!(reason(&bomb).contains("repeat each other without end"));
        let pairs = b"ccollections\nOrderedDict\nq\0](K\x01K\x02\x86K\x03K\x04\x86e\x85q\x01R";
        let again = [&pairs[..], &b"h\0h\x01R".repeat(20)].concat();
        assert!(reason(&again).contains("copied again and again"));
    }

    #[test]
    fn instructions_without_their_values_are_refused() {
        for (instructions, expected) in [
            (&b""[..], "finds no value"),
            (b"(0", "finds no value"),
            (b"t", "finds no mark"),
            (b"(K\x01a", "finds no value"),
            (b"}(K\x01u", "a key has no value"),
            (b"K\x01K\x02K\x03s", "entries for what is no dictionary"),
            (b"h\x07", "memo 7 is used before it is made"),
            (b"Q", "finds no value"),
            (b"K\x01Q", "a persistent id that names no storage"),
            (b"X\xff\xff\xff\xffab", "takes 4294967295 bytes, the file has 3 left"),
            (b"X\x02\0\0\0\xc3\x28", "a text is not UTF-8"),
            (b"I1\n", "opcode 0x49 is not supported"),
            (b"(K\x01K\x02\x93", "a class whose name is no short text"),
        ] {
            let message = reason(instructions);
            assert!(message.contains(expected), "{message}");
        }
        let bytes = Bytes::memory("test", b"\x80\x06N.");
        let message = read(&mut Reader::new(&bytes, FORMAT)).unwrap_err().to_string();
        assert!(message.contains("pickle protocol 6, expected 2 to 5"), "{message}");
    }
}
