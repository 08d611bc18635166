//! An error with its causes in one line.

use std::error::Error;

/// The message of an error and those of its causes, for errors whose own message leaves the causes out.
///
/// ```
/// use diagnostic::message_with_causes;
///
/// #[derive(Debug)]
/// struct NoPrompt(std::num::ParseIntError);
///
/// impl std::fmt::Display for NoPrompt {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         f.write_str("no prompt")
///     }
/// }
///
/// impl std::error::Error for NoPrompt {
///     fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
///         Some(&self.0)
///     }
/// }
///
/// let error = NoPrompt("a".parse::<u8>().unwrap_err());
/// assert_eq!(message_with_causes(&error), "no prompt: invalid digit found in string");
/// ```
pub fn message_with_causes(error: &(dyn Error + 'static)) -> String {
    let messages = std::iter::successors(Some(error), |&error| error.source());
    messages.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
