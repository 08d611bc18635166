//! The common interface of all crates' errors: advice, and whether an error is wrong usage.
//!
//! The message of an error says what happened, where, what was expected and what was found. The remedy
//! depends on the caller: a program sets a field, a user of the command line gives an option. So a
//! library returns [`Advice`], and a program may replace its neutral text:
//!
//! ```
//! use diagnostic::{Advice, Diagnostic};
//!
//! #[derive(Debug)]
//! struct TooManyLayers;
//!
//! impl std::fmt::Display for TooManyLayers {
//!     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
//!         f.write_str("the adapter needs 9 layers, the model has 8")
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
//! let hint = match TooManyLayers.advice().unwrap() {
//!     Advice::FewerLayers => "reduce --layers".into(),
//!     other => other.to_string(),
//! };
//! assert_eq!(hint, "reduce --layers");
//! ```

mod advice;
mod causes;
mod placeholder;

use std::error::Error;

pub use advice::Advice;
pub use causes::message_with_causes;
pub use placeholder::Placeholder;

/// An error with advice.
///
/// An error that wraps another one forwards both methods to it: the advice about a truncated file is the
/// same, whichever crate reads the file.
pub trait Diagnostic: Error {
    /// The remedy, if there is an obvious one.
    fn advice(&self) -> Option<Advice>;

    /// Whether the request is invalid, rather than a file or the environment.
    fn is_usage(&self) -> bool {
        false
    }
}
