//! Nodes of a pickle ─► a tree of values.

use std::collections::BTreeMap;

use super::element;
use super::invalid::invalid;
use super::node::{Id, Node, Pickle, TensorArgs};
use super::value::Value;
use crate::byte_source::ByteSource;
use crate::element_type::ElementType;
use crate::error::Result;

/// Maximum nesting.
const MAX_DEPTH: usize = 128;
/// Maximum ratio of the size of the tree to that of the nodes.
const LARGEST: usize = 8;

/// Type, shape and location of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type.
    pub dtype: ElementType,
    /// Rows first.
    pub shape: Vec<usize>,
    /// Strides in elements.
    pub(super) strides: Vec<usize>,
    /// Offset in the storage, in elements.
    pub(super) offset: u64,
    /// Name of the storage in the file.
    pub(super) storage: String,
}

/// Minimum size of every storage, by name.
pub(super) type StorageSizes = BTreeMap<String, StorageSize>;

/// Minimum size of a storage.
#[derive(Debug, Clone, Copy)]
pub(super) struct StorageSize {
    pub(super) elements: u64,
    /// Bytes of an element.
    pub(super) size: u64,
}

impl StorageSize {
    /// The size in bytes.
    pub(super) fn bytes(self) -> u64 {
        self.elements.saturating_mul(self.size)
    }
}

/// The tree of values of a pickle.
///
/// Shared values are copied; the size of the tree is bounded by that of the nodes, so that they cannot
/// multiply without limit.
///
/// # Errors
/// [`Error::Format`](crate::Error::Format)
pub(super) fn tree(
    bytes: &ByteSource,
    pickle: &Pickle,
) -> Result<(Value<TensorInfo>, StorageSizes)> {
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
    let mut tree = Tree { bytes, nodes: &pickle.nodes, left, storages: StorageSizes::new() };
    let root = tree.value(pickle.root, 0)?;
    Ok((root, tree.storages))
}

struct Tree<'a> {
    bytes: &'a ByteSource,
    nodes: &'a [Node],
    left: usize,
    storages: StorageSizes,
}

impl Tree<'_> {
    fn value(&mut self, id: Id, depth: usize) -> Result<Value<TensorInfo>> {
        if depth > MAX_DEPTH {
            let reason = format!("values are nested more than {MAX_DEPTH} deep");
            return Err(invalid(self.bytes, reason));
        }
        let nodes = self.nodes;
        self.add_cost(1)?;
        Ok(match &nodes[id as usize] {
            Node::None => Value::None,
            Node::Bool(flag) => Value::Bool(*flag),
            Node::Int(number) => Value::Int(*number),
            Node::Big(_) => Value::Object { class: "int".into(), fields: Vec::new() },
            Node::Float(number) => Value::Float(*number),
            Node::Text(text) => Value::Text(self.text(text)?),
            Node::Bytes(bytes) => {
                self.add_cost(bytes.len())?;
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

    fn tensor(&mut self, args: &TensorArgs) -> Result<TensorInfo> {
        let TensorArgs { storage, dtype, offset, shape, strides } = args;
        let Node::Text(key) = &self.nodes[storage.key as usize] else {
            return Err(invalid(self.bytes, "the name of a storage is not a string"));
        };
        let key = self.text(key)?;
        self.add_cost(shape.len())?;
        let untyped = element::is_untyped(&self.class(storage.class)?);
        let size = if untyped { 1 } else { dtype.size() as u64 };
        // A view ends within its base.
        let elements = storage.len.saturating_add(storage.offset);
        let storage_size =
            self.storages.entry(key.clone()).or_insert(StorageSize { elements, size });
        if storage_size.size != size {
            return Err(invalid(self.bytes, format!("storage {key:?} has two element types")));
        }
        storage_size.elements = storage_size.elements.max(elements);
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
        self.add_cost(text.len())?;
        Ok(text.to_owned())
    }

    fn add_cost(&mut self, cost: usize) -> Result<()> {
        let left = self.left.checked_sub(cost);
        self.left =
            left.ok_or_else(|| invalid(self.bytes, "its values repeat each other without limit"))?;
        Ok(())
    }
}
