//! Maximum sizes of images, for files of the user and for files of strangers.

/// Maximum sizes of an image file and of what it decodes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// Width and height in pixels.
    pub side: u32,
    /// Size of the decoded image in bytes. Compressed metadata may take as many while it is read.
    pub decoded_bytes: u64,
}

impl ImageLimits {
    /// For the user's own files: a file of any size, 16,384 pixels per side, 1 GiB.
    pub const LOCAL: Self = Self { file_bytes: u64::MAX, side: 16_384, decoded_bytes: 1 << 30 };

    /// For uploads that nobody vouches for: files of 8 MiB, 4,096 pixels per side, 128 MiB.
    ///
    /// With the decoder's own buffers, an image takes about 256 MiB at most.
    pub const UNTRUSTED: Self = Self { file_bytes: 8 << 20, side: 4_096, decoded_bytes: 128 << 20 };
}
