//! Limits of a request's contents.

/// Limits of what a request may contain. Its body has a limit of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLimits {
    /// Text of all messages or prompts, in bytes.
    pub prompt_bytes: usize,
    /// An image file, in bytes.
    pub image_bytes: usize,
    /// Width and height of an image, in pixels.
    pub image_side: u32,
    /// Memory that the decoder of an image takes, in bytes.
    pub image_decode_bytes: u64,
    /// Prompts of a completion request.
    pub prompts: usize,
    /// Answers to a prompt.
    pub choices: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            prompt_bytes: 4 << 20,
            image_bytes: 8 << 20,
            image_side: 4096,
            image_decode_bytes: 256 << 20,
            prompts: 64,
            choices: 16,
        }
    }
}
