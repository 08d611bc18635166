//! The few calls in a PyTorch pickle that mean something, and nodes ─► a tree of values.

use std::collections::BTreeMap;

use super::element;
use super::file::broken;
use super::machine::Machine;
use super::pickle::{Id, Node, Object, Pickle, Storage};
use super::value::Value;
use crate::byte_source::ByteSource;
use crate::element_type::ElementType;
use crate::error::Result;

/// Most dimensions of a tensor, more than any model's.
const MOST_DIMENSIONS: usize = 16;
/// Deepest nesting.
const DEEPEST: usize = 128;
/// How many times larger than the nodes the tree of values may become.
const LARGEST: usize = 8;

/// A tensor, as the arguments of the call that would rebuild it say.
#[derive(Debug, Clone)]
pub(super) struct Rebuilt {
    storage: Storage,
    dtype: ElementType,
    offset: u64,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// Where a tensor's numbers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// What the numbers are.
    pub dtype: ElementType,
    /// Rows first.
    pub shape: Vec<usize>,
    /// How far apart in the storage, in elements, neighbours of each dimension are.
    pub(super) strides: Vec<usize>,
    /// Elements of the storage before the first.
    pub(super) offset: u64,
    /// The storage's name in the file.
    pub(super) storage: String,
}

/// What the pickle claims each storage to have.
pub(super) type Claims = BTreeMap<String, Claim>;

/// The least that a storage must have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) elements: u64,
    /// Bytes of an element.
    pub(super) size: u64,
}

impl Claim {
    /// All of it in bytes.
    pub(super) fn bytes(self) -> u64 {
        self.elements.saturating_mul(self.size)
    }
}

/// What a call gives.
pub(super) enum Called {
    /// A node that is there already.
    Known(Id),
    /// A new one.
    New(Node),
}

/// What calling `class` gives. Nothing is called: the names that are known have their meaning
/// here, and all others become objects without one.
pub(super) fn call(machine: &mut Machine<'_, '_>, class: Id, arguments: Id) -> Result<Called> {
    let inert = || {
        let object = Object { class, state: None, entries: Vec::new() };
        Ok(Called::New(Node::Object(Box::new(object))))
    };
    let (Node::Global(name), Node::List(arguments)) =
        (machine.node(class), machine.node(arguments))
    else {
        return inert();
    };
    match name.as_str() {
        "collections.OrderedDict" => {
            let pairs = pairs(machine, arguments);
            machine.copy(pairs.len())?;
            Ok(Called::New(Node::Dict(pairs)))
        }
        "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => {
            arguments.first().map_or_else(inert, |&data| Ok(Called::Known(data)))
        }
        "torch._utils._rebuild_tensor"
        | "torch._utils._rebuild_tensor_v2"
        | "torch._utils._rebuild_tensor_v3" => match tensor(machine, name, arguments)? {
            Some(tensor) => Ok(Called::New(Node::Tensor(Box::new(tensor)))),
            None => inert(),
        },
        _ => inert(),
    }
}

/// The entries that `OrderedDict` is given by old versions of Python.
fn pairs(machine: &Machine<'_, '_>, arguments: &[Id]) -> Vec<(Id, Id)> {
    let Some(Node::List(list)) = arguments.first().map(|&list| machine.node(list)) else {
        return Vec::new();
    };
    let pair = |&item: &Id| match machine.node(item) {
        Node::List(pair) if pair.len() == 2 => Some((pair[0], pair[1])),
        _ => None,
    };
    list.iter().filter_map(pair).collect()
}

/// A tensor, or `None` for one of numbers that there is no type for.
fn tensor(machine: &Machine<'_, '_>, name: &str, arguments: &[Id]) -> Result<Option<Rebuilt>> {
    let broken = |what: &str| machine.fail(format!("{name} is called with {what}"));
    let &[storage, offset, shape, strides, ..] = arguments else {
        return Err(broken("too few arguments"));
    };
    let (Node::Storage(storage), Node::List(shape), Node::List(strides)) =
        (machine.node(storage), machine.node(shape), machine.node(strides))
    else {
        return Err(broken("arguments of other kinds"));
    };
    if shape.len() != strides.len() || shape.len() > MOST_DIMENSIONS {
        let (shape, strides) = (shape.len(), strides.len());
        return Err(broken(&format!("{shape} dimensions and {strides} strides")));
    }
    let Node::Global(class) = machine.node(storage.class) else {
        return Err(broken("a storage without a class"));
    };
    let dtype = match arguments.get(6).map(|&dtype| machine.node(dtype)) {
        Some(Node::Global(dtype)) if element::is_untyped(class) => element::of_dtype(dtype),
        _ => element::of_storage(class),
    };
    let Some(dtype) = dtype else { return Ok(None) };
    let sizes = |ids: &[Id]| {
        ids.iter().map(|&id| machine.size(id).map(|size| size as usize)).collect::<Result<Vec<_>>>()
    };
    let offset = machine.size(offset)?.saturating_add(storage.offset);
    let (shape, strides) = (sizes(shape)?, sizes(strides)?);
    Ok(Some(Rebuilt { storage: Storage::clone(storage), dtype, offset, shape, strides }))
}

/// The tree of values that a pickle is.
///
/// Values that are shared are copied; so that they cannot multiply without end, the size of the
/// tree is bounded by that of the nodes.
///
/// # Errors
/// [`Error::Format`](crate::Error::Format)
pub(super) fn tree(bytes: &ByteSource, pickle: &Pickle) -> Result<(Value<TensorInfo>, Claims)> {
    let size = |node: &Node| match node {
        Node::Text(text) | Node::Global(text) => 1 + text.len(),
        Node::Bytes(bytes) | Node::Big(bytes) => 1 + bytes.len(),
        Node::List(items) => 1 + items.len(),
        Node::Dict(entries) => 1 + entries.len(),
        Node::Tensor(tensor) => 1 + tensor.shape.len(),
        _ => 1,
    };
    let nodes = pickle.nodes.iter().map(size).sum::<usize>();
    let left = nodes.saturating_mul(LARGEST);
    let mut tree = Tree { bytes, nodes: &pickle.nodes, left, claims: Claims::new() };
    let root = tree.value(pickle.root, 0)?;
    Ok((root, tree.claims))
}

struct Tree<'a> {
    bytes: &'a ByteSource,
    nodes: &'a [Node],
    left: usize,
    claims: Claims,
}

impl Tree<'_> {
    fn value(&mut self, id: Id, depth: usize) -> Result<Value<TensorInfo>> {
        if depth > DEEPEST {
            let reason = format!("values are nested more than {DEEPEST} deep");
            return Err(broken(self.bytes, reason));
        }
        let nodes = self.nodes;
        self.pay(1)?;
        Ok(match &nodes[id as usize] {
            Node::None => Value::None,
            Node::Bool(flag) => Value::Bool(*flag),
            Node::Int(number) => Value::Int(*number),
            Node::Big(_) => Value::Object { class: "int".into(), fields: Vec::new() },
            Node::Float(number) => Value::Float(*number),
            Node::Text(text) => Value::Text(self.text(text)?),
            Node::Bytes(bytes) => {
                self.pay(bytes.len())?;
                Value::Bytes(bytes.clone())
            }
            Node::List(items) => {
                let values = items.iter().map(|&item| self.value(item, depth + 1));
                Value::List(values.collect::<Result<_, _>>()?)
            }
            Node::Dict(entries) => Value::Dict(self.entries(entries, depth)?),
            Node::Tensor(tensor) => Value::Tensor(self.tensor(tensor)?),
            Node::Global(name) => Value::Object { class: self.text(name)?, fields: Vec::new() },
            Node::Storage(storage) => {
                Value::Object { class: self.class(storage.class)?, fields: Vec::new() }
            }
            Node::Object(object) => {
                let state = object.state.map(|state| &nodes[state as usize]);
                let mut fields = self.entries(&object.entries, depth)?;
                if let Some(Node::Dict(entries)) = state {
                    fields.extend(self.entries(entries, depth)?);
                }
                Value::Object { class: self.class(object.class)?, fields }
            }
        })
    }

    fn entries(
        &mut self,
        entries: &[(Id, Id)],
        depth: usize,
    ) -> Result<Vec<(String, Value<TensorInfo>)>> {
        let mut found = Vec::new();
        for &(key, value) in entries {
            let nodes = self.nodes;
            let key = match &nodes[key as usize] {
                Node::Text(text) => self.text(text)?,
                Node::Int(number) => number.to_string(),
                Node::Float(number) => number.to_string(),
                Node::Bool(flag) => flag.to_string(),
                _ => continue,
            };
            found.push((key, self.value(value, depth + 1)?));
        }
        Ok(found)
    }

    fn tensor(&mut self, rebuilt: &Rebuilt) -> Result<TensorInfo> {
        let Rebuilt { storage, dtype, offset, shape, strides } = rebuilt;
        let Node::Text(key) = &self.nodes[storage.key as usize] else {
            return Err(broken(self.bytes, "a storage whose name is no text"));
        };
        let key = self.text(key)?;
        self.pay(shape.len())?;
        let untyped = element::is_untyped(&self.class(storage.class)?);
        let size = if untyped { 1 } else { dtype.size() as u64 };
        // Of a view, the whole is at least what its end needs.
        let elements = storage.len.saturating_add(storage.offset);
        let claim = self.claims.entry(key.clone()).or_insert(Claim { elements, size });
        if claim.size != size {
            return Err(broken(self.bytes, format!("storage {key:?} has numbers of two kinds")));
        }
        claim.elements = claim.elements.max(elements);
        Ok(TensorInfo {
            dtype: *dtype,
            shape: shape.clone(),
            strides: strides.clone(),
            offset: *offset,
            storage: key,
        })
    }

    fn class(&mut self, id: Id) -> Result<String> {
        match &self.nodes[id as usize] {
            Node::Global(name) => self.text(name),
            _ => Ok("unknown".into()),
        }
    }

    fn text(&mut self, text: &str) -> Result<String> {
        self.pay(text.len())?;
        Ok(text.to_owned())
    }

    fn pay(&mut self, cost: usize) -> Result<()> {
        let left = self.left.checked_sub(cost);
        self.left =
            left.ok_or_else(|| broken(self.bytes, "its values repeat each other without end"))?;
        Ok(())
    }
}
