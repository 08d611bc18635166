//! The few functions that a PyTorch pickle calls and that are implemented here.

use super::element;
use super::node::{Id, Node, Object, Storage, TensorArgs, size};

/// Maximum number of dimensions of a tensor.
const MAX_DIMENSIONS: usize = 16;

/// Result of a call.
pub(super) enum CallResult {
    /// An existing node.
    Existing(Id),
    /// A new node.
    New(Node),
    /// A dictionary of copied entries.
    Dict(Vec<(Id, Id)>),
}

/// Result of calling `class`. No code is run: a few known functions are implemented here, everything else
/// becomes an object.
///
/// # Errors
/// The reason.
pub(super) fn call(nodes: &[Node], class: Id, arguments: Id) -> Result<CallResult, String> {
    let object = || {
        let object = Object { class, state: None, entries: Vec::new() };
        Ok(CallResult::New(Node::Object(Box::new(object))))
    };
    let (Node::Global(name), Node::List(arguments)) =
        (&nodes[class as usize], &nodes[arguments as usize])
    else {
        return object();
    };
    match name.as_str() {
        "collections.OrderedDict" => Ok(CallResult::Dict(pairs(nodes, arguments))),
        "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => {
            arguments.first().map_or_else(object, |&data| Ok(CallResult::Existing(data)))
        }
        "torch._utils._rebuild_tensor"
        | "torch._utils._rebuild_tensor_v2"
        | "torch._utils._rebuild_tensor_v3" => match tensor(nodes, name, arguments)? {
            Some(tensor) => Ok(CallResult::New(Node::Tensor(Box::new(tensor)))),
            None => object(),
        },
        _ => object(),
    }
}

/// Entries of an `OrderedDict` as old versions of Python write them.
fn pairs(nodes: &[Node], arguments: &[Id]) -> Vec<(Id, Id)> {
    let Some(Node::List(list)) = arguments.first().map(|&list| &nodes[list as usize]) else {
        return Vec::new();
    };
    let pair = |&item: &Id| match &nodes[item as usize] {
        Node::List(pair) if pair.len() == 2 => Some((pair[0], pair[1])),
        _ => None,
    };
    list.iter().filter_map(pair).collect()
}

/// A tensor; `None` for an unknown element type.
fn tensor(nodes: &[Node], name: &str, arguments: &[Id]) -> Result<Option<TensorArgs>, String> {
    let node = |id: Id| &nodes[id as usize];
    let invalid = |what: &str| format!("{name} is called with {what}");
    let &[storage, offset, shape, strides, ..] = arguments else {
        return Err(invalid("too few arguments"));
    };
    let (Node::Storage(storage), Node::List(shape), Node::List(strides)) =
        (node(storage), node(shape), node(strides))
    else {
        return Err(invalid("arguments of other kinds"));
    };
    if shape.len() != strides.len() || shape.len() > MAX_DIMENSIONS {
        let (shape, strides) = (shape.len(), strides.len());
        return Err(invalid(&format!("{shape} dimensions and {strides} strides")));
    }
    let Node::Global(class) = node(storage.class) else {
        return Err(invalid("a storage without a class"));
    };
    let dtype = match arguments.get(6).map(|&dtype| node(dtype)) {
        Some(Node::Global(dtype)) if element::is_untyped(class) => element::of_dtype(dtype),
        _ => element::of_storage(class),
    };
    let Some(dtype) = dtype else { return Ok(None) };
    let sizes = |ids: &[Id]| {
        ids.iter().map(|&id| Ok(size(node(id))? as usize)).collect::<Result<Vec<_>, String>>()
    };
    let offset = size(node(offset))?.saturating_add(storage.offset);
    let (shape, strides) = (sizes(shape)?, sizes(strides)?);
    Ok(Some(TensorArgs { storage: Storage::clone(storage), dtype, offset, shape, strides }))
}
