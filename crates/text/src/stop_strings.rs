//! pieces of text ─► the text before the first stop string
//!
//! A possible start of a stop string is kept pending until the next piece.

/// Search for stop strings in streamed text.
#[derive(Debug, Clone)]
pub struct StopStrings {
    strings: Vec<String>,
    pending: String,
    found: bool,
}

impl StopStrings {
    /// Searches for any of `strings`; empty ones are ignored.
    pub fn new(strings: &[String]) -> Self {
        let strings = strings.iter().filter(|string| !string.is_empty()).cloned().collect();
        Self { strings, pending: String::new(), found: false }
    }

    /// Whether a stop string was found.
    pub fn found(&self) -> bool {
        self.found
    }

    /// The text that is final; nothing from a stop string on.
    pub fn push(&mut self, piece: &str) -> String {
        if self.found {
            return String::new();
        }
        self.pending += piece;
        let first = self.strings.iter().filter_map(|string| self.pending.find(string)).min();
        if let Some(at) = first {
            self.found = true;
            self.pending.truncate(at);
            return std::mem::take(&mut self.pending);
        }
        let kept = self.pending.split_off(self.pending.len() - self.partial_match_len());
        std::mem::replace(&mut self.pending, kept)
    }

    /// The pending text, after the last piece.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.pending)
    }

    /// Length of the longest suffix of the pending text that is a prefix of a stop string.
    fn partial_match_len(&self) -> usize {
        let begins = |end: &str| self.strings.iter().any(|string| string.starts_with(end));
        let mut starts = self.pending.char_indices().map(|(start, _char)| start);
        let start = starts.find(|&start| begins(&self.pending[start..]));
        start.map_or(0, |start| self.pending.len() - start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(strings: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let strings = strings.iter().map(|&string| string.to_owned()).collect::<Vec<_>>();
        let mut stop = StopStrings::new(&strings);
        let mut texts = pieces.iter().map(|piece| stop.push(piece)).collect::<Vec<_>>();
        texts.push(stop.finish());
        (texts, stop.found())
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn a_stop_string_across_pieces_is_never_emitted() {
        let found = pushed(&["\nUser:"], &["Yes.", "\nUs", "er", ": more", " text"]);
        assert_eq!(found, (texts(&["Yes.", "", "", "", "", ""]), true));
    }

    #[test]
    fn a_partial_match_is_emitted_when_it_fails() {
        let found = pushed(&["\nUser:"], &["a\n", "Used", "\n"]);
        assert_eq!(found, (texts(&["a", "\nUsed", "", "\n"]), false));
    }

    #[test]
    fn overlapping_matches_are_found() {
        let found = pushed(&["aab"], &["xa", "a", "a", "b"]);
        assert_eq!(found, (texts(&["x", "", "a", "", ""]), true));
    }

    #[test]
    fn the_first_of_several_stop_strings_wins() {
        let found = pushed(&["END", "."], &["one. two END"]);
        assert_eq!(found, (texts(&["one", ""]), true));
    }

    #[test]
    fn multi_byte_characters_are_not_split() {
        let found = pushed(&["éé"], &["aé", "è", "éé"]);
        assert_eq!(found, (texts(&["a", "éè", "", ""]), true));
    }

    #[test]
    fn empty_stop_strings_are_ignored() {
        assert_eq!(pushed(&[""], &["text"]), (texts(&["text", ""]), false));
    }
}
