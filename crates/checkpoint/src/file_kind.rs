//! Detection of a weight file's format by content.

use std::fmt;

use crate::byte_source::ByteSource;
use crate::error::Result;

/// Format of a weight file, detected from its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A header length and a JSON header.
    Safetensors,
    /// `GGUF`
    Gguf,
    /// A zip archive or a pickle.
    Torch,
    /// Any other format.
    Other,
}

impl FileKind {
    /// The format of a file; its name is ignored.
    ///
    /// # Errors
    /// [`Error::Read`](crate::Error::Read)
    pub fn of(bytes: &ByteSource) -> Result<Self> {
        Ok(match bytes.head(9)?[..] {
            [b'G', b'G', b'U', b'F', ..] => Self::Gguf,
            // Tested before pickles: the length of a 640-byte header starts like a pickle.
            [a, b, c, d, e, f, g, h, b'{']
                if u64::from_le_bytes([a, b, c, d, e, f, g, h]) <= bytes.len() =>
            {
                Self::Safetensors
            }
            [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, 0x8a | 0x95, ..] => Self::Torch,
            _ => Self::Other,
        })
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "a safetensors file",
            Self::Gguf => "a GGUF file",
            Self::Torch => "a PyTorch file",
            Self::Other => "a file of another kind",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_detected_by_their_first_bytes() {
        let kind =
            |bytes: &[u8]| FileKind::of(&ByteSource::memory("file", bytes.to_vec())).unwrap();
        assert_eq!(kind(b"GGUF\x03\0\0\0"), FileKind::Gguf);
        assert_eq!(kind(b"PK\x03\x04"), FileKind::Torch);
        assert_eq!(kind(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."), FileKind::Torch);
        let header = [&640_u64.to_le_bytes()[..], &[b'{'; 640]].concat();
        assert_eq!(kind(&header), FileKind::Safetensors);
        for other in [&header[..600], b"{\"a\": 1}", b"dear diary", b""] {
            assert_eq!(kind(other), FileKind::Other, "{other:?}");
        }
    }
}
