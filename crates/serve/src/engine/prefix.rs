//! Keys by which equal beginnings are found: adapter, image and all tokens up to the end of a block.

use sha2::{Digest, Sha256};

use super::BLOCK_TOKENS;

/// SHA-256 of the key of the block before, and of this block's tokens. A hash that can be made to collide
/// would show one user the text of another.
pub(crate) type PrefixKey = [u8; 32];

/// Keys of the full blocks of one text.
#[derive(Debug, Clone)]
pub(crate) struct PrefixKeys {
    start: PrefixKey,
    keys: Vec<PrefixKey>,
}

impl PrefixKeys {
    /// No blocks yet. `identity` is the number of the prepared adapter: a reloaded adapter has another.
    pub(crate) fn new(identity: u64) -> Self {
        Self { start: Sha256::digest(identity.to_le_bytes()).into(), keys: Vec::new() }
    }

    /// Adds the keys of further full blocks of the text. The text before must not have changed.
    pub(crate) fn extend(&mut self, tokens: &[u32]) {
        let known = self.keys.len() * BLOCK_TOKENS;
        for block in tokens[known..].chunks_exact(BLOCK_TOKENS) {
            let mut hash = Sha256::new();
            hash.update(self.keys.last().unwrap_or(&self.start));
            for token in block {
                hash.update(token.to_le_bytes());
            }
            self.keys.push(hash.finalize().into());
        }
    }

    /// The keys in order.
    pub(crate) fn keys(&self) -> &[PrefixKey] {
        &self.keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(identity: u64, tokens: &[u32]) -> Vec<PrefixKey> {
        let mut keys = PrefixKeys::new(identity);
        keys.extend(tokens);
        keys.keys
    }

    #[test]
    fn a_key_depends_on_everything_before_it() {
        let tokens = (0..96).collect::<Vec<u32>>();
        let whole = keys(1, &tokens);
        assert_eq!(whole.len(), 3);
        assert_eq!(keys(1, &tokens[..95]), whole[..2]);
        let mut other = tokens.clone();
        other[33] = 0;
        assert_eq!(keys(1, &other)[0], whole[0]);
        assert!(keys(1, &other)[1] != whole[1] && keys(1, &other)[2] != whole[2]);
        assert_ne!(keys(2, &tokens)[0], whole[0]);
    }

    #[test]
    fn keys_do_not_depend_on_how_the_text_grew() {
        let tokens = (0..100).collect::<Vec<u32>>();
        let mut grown = PrefixKeys::new(7);
        for end in 0..=100 {
            grown.extend(&tokens[..end]);
        }
        assert_eq!(grown.keys(), keys(7, &tokens));
    }
}
