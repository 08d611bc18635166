//! Exact match of texts.

/// Whether a response equals its reference, apart from surrounding whitespace.
///
/// ```
/// assert!(eval::is_exact_match("Yes.", " Yes.\n"));
/// assert!(!eval::is_exact_match("Yes.", "yes"));
/// ```
pub fn is_exact_match(reference: &str, response: &str) -> bool {
    reference.trim() == response.trim()
}
