//! The hash of content, for the names of cached files.

use sha2::{Digest, Sha256};

/// SHA-256 over pieces of content; where a piece ends is part of it.
#[derive(Debug, Clone, Default)]
pub struct ContentHash(Sha256);

impl ContentHash {
    /// Adds a piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update((piece.len() as u64).to_le_bytes());
        self.0.update(piece);
    }

    /// The hash as 32 hexadecimal digits: 128 bits.
    pub fn finish(self) -> String {
        self.0.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(pieces: &[&str]) -> String {
        let mut hash = ContentHash::default();
        for piece in pieces {
            hash.update(piece.as_bytes());
        }
        hash.finish()
    }

    #[test]
    fn where_a_piece_ends_is_part_of_the_content() {
        assert_eq!(hash(&["ab", "c"]), hash(&["ab", "c"]));
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
        assert_eq!(hash(&[]).len(), 32);
    }
}
