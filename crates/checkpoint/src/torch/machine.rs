//! The stack machine of pickle. Instructions create nodes; no code is run.

use std::collections::HashMap;

use super::calls::{self, CallResult};
use super::literal::{self, MAX_NAME_LEN};
use super::node::{self, Id, Node, Storage};
use super::opcode::Opcode;
use crate::byte_reader::ByteReader;
use crate::error::Result;

/// State of the machine.
pub(super) struct Machine<'r, 'b> {
    pub(super) reader: &'r mut ByteReader<'b>,
    pub(super) nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Number of entries copied by calls.
    copied: usize,
}

impl<'r, 'b> Machine<'r, 'b> {
    pub(super) fn new(reader: &'r mut ByteReader<'b>) -> Self {
        let (nodes, stack, marks) = (Vec::new(), Vec::new(), Vec::new());
        Self { reader, nodes, stack, marks, memo: HashMap::new(), copied: 0 }
    }

    /// Executes one instruction.
    pub(super) fn step(&mut self, opcode: Opcode) -> Result<()> {
        use Opcode as O;
        if let Some(node) = literal::read(self.reader, opcode)? {
            return self.push(node);
        }
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
                let index = match opcode {
                    O::Memoize => self.memo.len() as u32,
                    _ => self.memo_index(opcode)?,
                };
                let top = self.top()?;
                self.memo.insert(index, top);
            }
            O::BinGet | O::LongBinGet => {
                let index = self.memo_index(opcode)?;
                let Some(&id) = self.memo.get(&index) else {
                    return Err(self.fail(format!("memo {index} is used before it is set")));
                };
                self.stack.push(id);
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
                // Attributes of a dictionary, such as PyTorch's `_metadata`, are not entries.
                if let Node::Object(object) = &mut self.nodes[top as usize] {
                    object.state = Some(state);
                }
            }
            O::BinPersId => {
                let id = self.pop()?;
                self.persistent(id)?;
            }
            _ => unreachable!("literals are read above, and the caller stops"),
        }
        Ok(())
    }

    fn memo_index(&mut self, opcode: Opcode) -> Result<u32> {
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
        top.ok_or_else(|| self.fail("an instruction has no operand"))
    }

    pub(super) fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn above_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| self.fail("an instruction has no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn pairs(&mut self) -> Result<Vec<(Id, Id)>> {
        let items = self.above_mark()?;
        if !items.len().is_multiple_of(2) {
            return Err(self.fail("a key has no value"));
        }
        Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }

    /// Appends to the list on the stack; ignored for other values.
    fn append(&mut self, new: Vec<Id>) -> Result<()> {
        let top = self.top()?;
        if let Node::List(items) = &mut self.nodes[top as usize] {
            items.extend(new);
        }
        Ok(())
    }

    /// Adds to the dictionary on the stack, or to a dictionary-like object.
    fn set(&mut self, new: Vec<(Id, Id)>) -> Result<()> {
        let top = self.top()?;
        match &mut self.nodes[top as usize] {
            Node::Dict(entries) => entries.extend(new),
            Node::Object(object) => object.entries.extend(new),
            _ => return Err(self.fail("dictionary entries for another value")),
        }
        Ok(())
    }

    fn joined(&self, module: Id, name: Id) -> Result<String> {
        match (self.node(module), self.node(name)) {
            (Node::Text(module), Node::Text(name))
                if module.len().max(name.len()) <= MAX_NAME_LEN =>
            {
                Ok(format!("{module}.{name}"))
            }
            _ => Err(self.fail("the name of a class is not a short string")),
        }
    }

    /// Pushes the result of calling `class`.
    fn call(&mut self, class: Id, arguments: Id) -> Result<()> {
        match calls::call(&self.nodes, class, arguments).map_err(|reason| self.fail(reason))? {
            CallResult::Existing(id) => {
                self.stack.push(id);
                Ok(())
            }
            CallResult::New(node) => self.push(node),
            CallResult::Dict(entries) => {
                self.count_copies(entries.len())?;
                self.push(Node::Dict(entries))
            }
        }
    }

    fn persistent(&mut self, id: Id) -> Result<()> {
        let unknown = || self.fail("a persistent id that is not a storage");
        let Node::List(parts) = self.node(id) else { return Err(unknown()) };
        let kind = parts.first().map(|&kind| self.node(kind));
        match (kind, &parts[..]) {
            (Some(Node::Text(kind)), &[_, class, key, _place, len, ..]) if kind == "storage" => {
                let (Node::Global(_), Node::Text(_)) = (self.node(class), self.node(key)) else {
                    return Err(unknown());
                };
                let len = self.size(len)?;
                // Before PyTorch 0.4: key, offset and length of a view.
                let view = parts.get(5).map(|&view| self.node(view));
                let offset = match view {
                    Some(Node::List(view)) if view.len() == 3 => self.size(view[1])?,
                    _ => 0,
                };
                self.push(Node::Storage(Box::new(Storage { class, key, len, offset })))
            }
            // The class of a module, with its source code.
            (Some(Node::Text(kind)), &[_, class, ..]) if kind == "module" => {
                self.stack.push(class);
                Ok(())
            }
            _ => Err(unknown()),
        }
    }

    /// Counts copied entries: a valid file copies every node at most once.
    fn count_copies(&mut self, len: usize) -> Result<()> {
        self.copied += len;
        if self.copied > self.nodes.len() {
            return Err(self.fail("the same entries are copied repeatedly"));
        }
        Ok(())
    }

    /// A number that is a size.
    fn size(&self, id: Id) -> Result<u64> {
        node::size(self.node(id)).map_err(|reason| self.fail(reason))
    }
}
