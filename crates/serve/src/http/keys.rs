//! API keys: which a request may present, and what it may do with it
//!
//! Only digests are kept and compared: the time of a comparison tells nothing about a key, and every key is
//! compared with every request's.

use diagnostic::{Advice, Diagnostic};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// Keys of users and administrators.
#[derive(Clone, Default)]
pub struct ApiKeys {
    keys: Vec<ApiKey>,
}

#[derive(Clone)]
struct ApiKey {
    digest: [u8; 32],
    admin: bool,
}

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Requests to models.
    User,
    /// Requests to models, and changes of the adapters.
    Admin,
}

/// A line that is not a key. It does not contain the line, which may be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct KeyError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Diagnostic for KeyError {
    fn advice(&self) -> Option<Advice> {
        let advice = "each line is a key, or `sha256:` and the 64 hexadecimal digits of a key's \
                      SHA-256; `admin ` in front makes it an administrator's";
        Some(advice.into())
    }

    fn is_usage(&self) -> bool {
        true
    }
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKeys({})", self.keys.len())
    }
}

impl ApiKeys {
    /// Reads keys, one a line: `KEY` or `sha256:HEX`, after `admin ` for an administrator's. Empty lines and
    /// lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// [`KeyError`] for the first line that is none of these.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (admin, key) = match line.strip_prefix("admin ") {
                Some(key) => (true, key.trim_start()),
                None => (false, line),
            };
            let wrong = |reason| KeyError { line: i + 1, reason };
            if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(wrong("a key has visible ASCII characters only, and no spaces"));
            }
            let digest = match key.strip_prefix("sha256:") {
                Some(hex) => parse_hex(hex).ok_or(wrong("not 64 hexadecimal digits"))?,
                None => Sha256::digest(key).into(),
            };
            keys.push(ApiKey { digest, admin });
        }
        Ok(Self { keys })
    }

    /// Adds the keys of another list.
    pub fn extend(&mut self, other: Self) {
        self.keys.extend(other.keys);
    }

    /// Whether there are none: every request is let in.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether an administrator has a key.
    pub fn has_admin(&self) -> bool {
        self.keys.iter().any(|key| key.admin)
    }

    /// What a key allows; `None` for an unknown one.
    pub fn access(&self, key: &[u8]) -> Option<Access> {
        let digest: [u8; 32] = Sha256::digest(key).into();
        let mut rank = 0_u8;
        for known in &self.keys {
            let own = 1 + u8::from(known.admin);
            // A key that is listed twice has the higher rank.
            let better = Choice::from(u8::from(own > rank));
            rank.conditional_assign(&own, known.digest.ct_eq(&digest) & better);
        }
        match rank {
            0 => None,
            1 => Some(Access::User),
            _ => Some(Access::Admin),
        }
    }
}

fn parse_hex(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_digests_and_administrators_are_read() {
        // printf second | sha256sum
        let text = "# mine\n\nfirst\n  sha256:16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4 \n\
                    admin third\n";
        let keys = ApiKeys::parse(text).unwrap();
        assert_eq!(keys.access(b"first"), Some(Access::User));
        assert_eq!(keys.access(b"second"), Some(Access::User));
        assert_eq!(keys.access(b"third"), Some(Access::Admin));
        for unknown in ["", "admin third", "firs", "first ", "# mine", "fourth"] {
            assert_eq!(keys.access(unknown.as_bytes()), None, "{unknown}");
        }
        assert!(keys.has_admin() && !keys.is_empty());
    }

    #[test]
    fn a_key_that_is_listed_twice_has_the_higher_rank() {
        for text in ["a\nadmin a", "admin a\na"] {
            assert_eq!(ApiKeys::parse(text).unwrap().access(b"a"), Some(Access::Admin));
        }
    }

    #[test]
    fn a_wrong_line_is_named_and_not_shown() {
        let error = |text: &str| ApiKeys::parse(text).unwrap_err().to_string();
        assert_eq!(error("a\nsha256:secret"), "line 2: not 64 hexadecimal digits");
        assert!(error("two words").starts_with("line 1: a key has visible ASCII"));
        assert!(!error("top secret").contains("secret"));
        assert!(ApiKeys::parse("\n# only a comment\n").unwrap().is_empty());
    }
}
