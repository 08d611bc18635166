//! The examples of a training: in memory if they are few, in a file if they are many.

use std::borrow::Cow;
use std::sync::Arc;

use super::example::Example;
use crate::error::Result;

/// Examples by index, in memory. A clone shares them.
#[derive(Debug, Clone, Default)]
pub struct ExampleStore {
    examples: Arc<[Example]>,
}

impl ExampleStore {
    /// Number of examples.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An example.
    ///
    /// # Errors
    /// None yet.
    ///
    /// # Panics
    /// If there is no such example.
    pub fn get(&self, index: usize) -> Result<Cow<'_, Example>> {
        Ok(Cow::Borrowed(&self.examples[index]))
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
        self.examples[index].tokens.len()
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
        Self { examples: examples.into() }
    }
}

impl From<Arc<[Example]>> for ExampleStore {
    fn from(examples: Arc<[Example]>) -> Self {
        Self { examples }
    }
}

impl From<&[Example]> for ExampleStore {
    fn from(examples: &[Example]) -> Self {
        Self { examples: examples.into() }
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
        Self { examples: examples.into_iter().collect() }
    }
}
