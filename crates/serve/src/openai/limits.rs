//! Limits of a request's contents.

use vision::ImageLimits;

/// Limits of what a request may contain. Its body has a limit of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLimits {
    /// Text of all messages or prompts, in bytes.
    pub prompt_bytes: usize,
    /// Sizes of an image.
    pub image: ImageLimits,
    /// Prompts of a completion request.
    pub prompts: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { prompt_bytes: 4 << 20, image: ImageLimits::UNTRUSTED, prompts: 64 }
    }
}
