//! Why an adapter is read: to be used, or to be summarized.

use llama::config::ModelShape;

/// Why an adapter is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ReadPurpose<'a> {
    /// For use. The base's shapes, if they are known, split fused query, key and value tensors.
    Load(Option<&'a ModelShape>),
    /// For a summary, in which the split of fused tensors does not matter.
    Summarize,
}

impl<'a> ReadPurpose<'a> {
    /// The base's shapes, if they are known.
    pub fn shapes(self) -> Option<&'a ModelShape> {
        match self {
            Self::Load(shapes) => shapes,
            Self::Summarize => None,
        }
    }
}
