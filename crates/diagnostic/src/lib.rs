//! What the errors of all crates have in common: advice, and who is to blame.
//!
//! An error's text says what happened, where, what was expected and what was found. What to do about it
//! depends on who asks: a program sets a field, a person at a command line gives an option. So a library
//! gives [`Advice`], in its own terms, and whoever shows it may have better words for it:
//!
//! ```
//! use diagnostic::{Advice, Diagnostic};
//!
//! #[derive(Debug)]
//! struct TooManyLayers;
//!
//! impl std::fmt::Display for TooManyLayers {
//!     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
//!         f.write_str("the adapter wants 9 layers, the model has 8")
//!     }
//! }
//!
//! impl std::error::Error for TooManyLayers {}
//!
//! impl Diagnostic for TooManyLayers {
//!     fn advice(&self) -> Option<Advice> {
//!         Some(Advice::FewerLayers)
//!     }
//! }
//!
//! let words = match TooManyLayers.advice().unwrap() {
//!     Advice::FewerLayers => "turn the knob called `layers` to the left".into(),
//!     other => other.to_string(),
//! };
//! assert!(words.contains("knob"));
//! ```

mod advice;

use std::error::Error;

pub use advice::Advice;

/// An error that can say what to do about it.
///
/// Both methods look through an error that only passes another on: the advice of an adapter's file that is
/// cut short is the same, whichever crate wanted to read it.
pub trait Diagnostic: Error {
    /// What to try, where there is an obvious mend.
    fn advice(&self) -> Option<Advice>;

    /// Whether what was asked for is wrong, rather than what was found in files or on the machine.
    fn is_usage(&self) -> bool {
        false
    }
}
