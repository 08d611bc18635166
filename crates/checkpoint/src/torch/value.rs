//! Values of a PyTorch file: plain values, containers and tensors.

/// A value of a PyTorch file. `T` represents a tensor: its location when reading, its data when writing.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<T> {
    /// Python's `None`.
    None,
    /// A boolean.
    Bool(bool),
    /// An integer. Those beyond 64 bits are an [`Object`](Self::Object) of class `int`.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list, a tuple or a set.
    List(Vec<Self>),
    /// A dictionary in insertion order. Numeric keys become strings; entries with keys of other types are omitted.
    Dict(Vec<(String, Self)>),
    /// A tensor or a parameter.
    Tensor(T),
    /// Any other object: the name of its class and its attributes.
    Object {
        /// Module and name, such as `argparse.Namespace`.
        class: String,
        /// Attributes by name.
        fields: Vec<(String, Self)>,
    },
}

impl<T> Value<T> {
    /// The entry of a dictionary, or the attribute of an object.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let entry = self.entries().iter().find(|(name, _)| name == key);
        entry.map(|(_, value)| value)
    }

    /// The entries of a dictionary or the attributes of an object; of anything else none.
    pub fn entries(&self) -> &[(String, Self)] {
        match self {
            Self::Dict(entries) | Self::Object { fields: entries, .. } => entries,
            _ => &[],
        }
    }

    /// The string, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        if let Self::Int(number) = self { Some(*number) } else { None }
    }

    /// The number, if it is an integer or a float.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(flag) = self { Some(*flag) } else { None }
    }

    /// Every tensor with its path of keys and list indices, joined by dots.
    pub fn tensors(&self) -> Vec<(String, &T)> {
        let mut found = Vec::new();
        self.collect(&mut String::new(), &mut found);
        found
    }

    fn collect<'a>(&'a self, path: &mut String, found: &mut Vec<(String, &'a T)>) {
        let mut below = |key: &str, value: &'a Self| {
            let len = path.len();
            if len > 0 {
                path.push('.');
            }
            path.push_str(key);
            value.collect(path, found);
            path.truncate(len);
        };
        match self {
            Self::List(values) => {
                for (index, value) in values.iter().enumerate() {
                    below(&index.to_string(), value);
                }
            }
            Self::Tensor(tensor) => found.push((path.clone(), tensor)),
            _ => {
                for (key, value) in self.entries() {
                    below(key, value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_named_by_their_path() {
        let pair = |key: &str, value| (key.to_owned(), value);
        let inner = Value::Dict(vec![pair("w", Value::Tensor(1)), pair("n", Value::Int(3))]);
        let object = Value::Object { class: "x.Y".into(), fields: vec![pair("a", inner.clone())] };
        let list = Value::List(vec![Value::Tensor(2), inner]);
        let root = Value::Dict(vec![pair("model", object), pair("list", list)]);
        let names = [("model.a.w", &1), ("list.0", &2), ("list.1.w", &1)];
        assert_eq!(root.tensors(), names.map(|(name, tensor)| (name.to_owned(), tensor)));
        let n = root.get("model").and_then(|model| model.get("a")?.get("n"));
        assert_eq!(n.and_then(Value::as_float), Some(3.0));
    }
}
