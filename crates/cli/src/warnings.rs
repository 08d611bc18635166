//! Warnings about settings that have no effect.

use std::path::Path;

use adaption_prompt::files;

use crate::output::note;
use crate::text_table::list_first;

/// Reports the settings of an adapter that were ignored because they are unknown.
pub fn warn_unknown_settings(path: &Path) {
    // The adapter has been read: errors in its files have been reported.
    if let Ok(names) = files::unknown_settings(path)
        && let Some(message) = unknown_settings_message(&names)
    {
        note(&format!("{}: {message}", path.display()));
    }
}

/// A message about unknown settings; `None` if there are none.
pub fn unknown_settings_message(names: &[String]) -> Option<String> {
    const MAX_LISTED: usize = 4;
    let escaped = names.iter().map(|name| name.escape_debug()).collect::<Vec<_>>();
    let list = list_first(&escaped, MAX_LISTED, ", ");
    match names.len() {
        0 => None,
        1 => Some(format!("1 unknown setting is ignored: {list}")),
        count => Some(format!("{count} unknown settings are ignored: {list}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_settings_are_counted() {
        let names = ["a", "b", "c", "d", "e"].map(str::to_owned);
        assert_eq!(unknown_settings_message(&names[..0]), None);
        let one = unknown_settings_message(&names[..1]).unwrap();
        assert_eq!(one, "1 unknown setting is ignored: a");
        let five = unknown_settings_message(&names).unwrap();
        assert_eq!(five, "5 unknown settings are ignored: a, b, c, d, ...");
    }
}
