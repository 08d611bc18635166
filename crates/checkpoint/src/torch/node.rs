//! Nodes: the values of a pickle, before they become a tree.

use crate::element_type::ElementType;

/// Index of a node.
pub(super) type Id = u32;

/// A value that may refer to others by index.
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
    /// A persistent id: a storage elsewhere in the file.
    Storage(Box<Storage>),
    Tensor(Box<TensorArgs>),
    /// An instance of an unknown class.
    Object(Box<Object>),
}

/// A storage, as the pickle describes it.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub(super) class: Id,
    pub(super) key: Id,
    /// Number of elements, or of bytes for an untyped class.
    pub(super) len: u64,
    /// Offset in elements, for a view of another storage.
    pub(super) offset: u64,
}

/// An instance of a class.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) class: Id,
    pub(super) state: Option<Id>,
    pub(super) entries: Vec<(Id, Id)>,
}

/// All nodes of a pickle, and its root.
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

/// Arguments of the call that rebuilds a tensor.
#[derive(Debug, Clone)]
pub(super) struct TensorArgs {
    pub(super) storage: Storage,
    pub(super) dtype: ElementType,
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// A number that is a size.
///
/// # Errors
/// The reason.
pub(super) fn size(node: &Node) -> Result<u64, String> {
    match node {
        Node::Int(number) => {
            u64::try_from(*number).map_err(|_| format!("a size of {number}, expected 0 or more"))
        }
        _ => Err("a size that is no integer".into()),
    }
}
