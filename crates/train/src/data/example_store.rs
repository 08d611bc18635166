//! The examples of a training: in memory if they are few, in a file if they are many.

use std::borrow::Cow;
use std::sync::Arc;

use super::example::Example;
use super::token_file::TokenFile;
use crate::error::Result;

/// Examples by index. A clone shares them.
#[derive(Debug, Clone)]
pub struct ExampleStore(Storage);

#[derive(Debug, Clone)]
enum Storage {
    Memory(Arc<[Example]>),
    File(Arc<TokenFile>),
}

impl Default for ExampleStore {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl ExampleStore {
    /// Number of examples.
    pub fn len(&self) -> usize {
        match &self.0 {
            Storage::Memory(examples) => examples.len(),
            Storage::File(file) => file.len(),
        }
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An example.
    ///
    /// # Errors
    /// [`Error::Read`](crate::Error::Read) if the file of the examples cannot be read or is damaged.
    ///
    /// # Panics
    /// If there is no such example.
    pub fn get(&self, index: usize) -> Result<Cow<'_, Example>> {
        match &self.0 {
            Storage::Memory(examples) => Ok(Cow::Borrowed(&examples[index])),
            Storage::File(file) => file.get(index).map(Cow::Owned),
        }
    }

    /// Some examples, in this order.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn select(&self, indices: &[usize]) -> Result<Vec<Cow<'_, Example>>> {
        indices.iter().map(|&index| self.get(index)).collect()
    }

    /// The number of tokens of an example; reads no file.
    ///
    /// # Panics
    /// If there is no such example.
    pub fn n_tokens(&self, index: usize) -> usize {
        match &self.0 {
            Storage::Memory(examples) => examples[index].tokens.len(),
            Storage::File(file) => file.n_tokens(index),
        }
    }

    /// The image of each example, by name.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn images(&self) -> Result<Vec<Option<Arc<str>>>> {
        self.iter().map(|example| Ok(example?.image.clone())).collect()
    }

    /// All examples in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Cow<'_, Example>>> {
        (0..self.len()).map(|index| self.get(index))
    }
}

impl From<Vec<Example>> for ExampleStore {
    fn from(examples: Vec<Example>) -> Self {
        Self(Storage::Memory(examples.into()))
    }
}

impl From<Arc<[Example]>> for ExampleStore {
    fn from(examples: Arc<[Example]>) -> Self {
        Self(Storage::Memory(examples))
    }
}

impl From<&[Example]> for ExampleStore {
    fn from(examples: &[Example]) -> Self {
        Self(Storage::Memory(examples.into()))
    }
}

impl From<&Vec<Example>> for ExampleStore {
    fn from(examples: &Vec<Example>) -> Self {
        examples.as_slice().into()
    }
}

impl From<&Self> for ExampleStore {
    fn from(examples: &Self) -> Self {
        examples.clone()
    }
}

impl FromIterator<Example> for ExampleStore {
    fn from_iter<I: IntoIterator<Item = Example>>(examples: I) -> Self {
        Self(Storage::Memory(examples.into_iter().collect()))
    }
}

impl From<TokenFile> for ExampleStore {
    fn from(file: TokenFile) -> Self {
        Self(Storage::File(Arc::new(file)))
    }
}
