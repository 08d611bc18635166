//! Rows that occur twice, or almost.

use std::collections::HashMap;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::min_hash::{BANDS, HASHES, MinHash, similarity};

/// Rows whose signatures are kept at most: 150 MB. Later rows are compared with these only.
const MAX_SIGNATURES: usize = 250_000;

/// How a row resembles an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DuplicateKind {
    /// The same prompt and the same response, apart from whitespace.
    Same,
    /// The same prompt with another response.
    SamePrompt,
    /// Prompt and response together share most of their text.
    Similar,
}

/// A row that resembles an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Duplicate {
    /// How.
    pub kind: DuplicateKind,
    /// The earlier row, counted from 0 in the order in which rows were added.
    pub of: usize,
    /// Estimated share of common text, 0 to 1; 1 for the same row.
    pub similarity: f64,
}

/// Finds duplicates among rows that are added one at a time.
///
/// ```
/// use data::statistics::{DuplicateFinder, DuplicateKind};
///
/// let mut rows = DuplicateFinder::new(0.8);
/// assert_eq!(rows.add("Name a large domestic animal with horns.", "A cow."), None);
/// let found = rows.add("name a large, domestic animal with horns", "A cow").unwrap();
/// assert_eq!((found.kind, found.of), (DuplicateKind::Similar, 0));
/// let found = rows.add("Name a large domestic animal with horns.", "A goat.").unwrap();
/// assert_eq!(found.kind, DuplicateKind::SamePrompt);
/// ```
#[derive(Debug, Default)]
pub struct DuplicateFinder {
    /// Least similarity of similar rows.
    threshold: f64,
    rows: usize,
    /// First row of each text, by hash.
    same: HashMap<u128, u32>,
    same_prompt: HashMap<u128, u32>,
    /// First row of each band of signatures.
    bands: HashMap<u64, u32>,
    /// Row numbers of the signatures, and the signatures themselves.
    signature_rows: Vec<u32>,
    signatures: Vec<u16>,
}

impl DuplicateFinder {
    /// No rows yet. Rows with an estimated similarity of at least `threshold`, 0 to 1, are similar; below
    /// 0.6 many are not found.
    pub fn new(threshold: f64) -> Self {
        Self { threshold, ..Self::default() }
    }

    /// Number of rows that have been added.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The row that this one resembles most closely: one that is the same, else one with the same prompt,
    /// else a similar one.
    pub fn find(&self, prompt: &str, response: &str) -> Option<Duplicate> {
        self.find_hashed(&Hashes::new(prompt, response))
    }

    /// As [`find`](Self::find), and adds the row.
    pub fn add(&mut self, prompt: &str, response: &str) -> Option<Duplicate> {
        let hashes = Hashes::new(prompt, response);
        let found = self.find_hashed(&hashes);
        // Four billion rows are beyond the memory of their hashes.
        let row = self.rows as u32;
        self.same.entry(hashes.row).or_insert(row);
        if let Some(prompt) = hashes.prompt {
            self.same_prompt.entry(prompt).or_insert(row);
        }
        // A row that is already there finds nothing new.
        let is_new = found.is_none_or(|found| found.kind != DuplicateKind::Same);
        if let Some(signature) = &hashes.signature
            && is_new
            && self.signature_rows.len() < MAX_SIGNATURES
        {
            let index = self.signature_rows.len() as u32;
            for key in signature.band_keys() {
                self.bands.entry(key).or_insert(index);
            }
            self.signature_rows.push(row);
            self.signatures.extend(signature.numbers());
        }
        self.rows += 1;
        found
    }

    fn find_hashed(&self, hashes: &Hashes) -> Option<Duplicate> {
        let known = |of: &u32, kind, similarity| Duplicate { kind, of: *of as usize, similarity };
        if let Some(of) = self.same.get(&hashes.row) {
            return Some(known(of, DuplicateKind::Same, 1.0));
        }
        let signature = hashes.signature.as_ref();
        let numbers = signature.map(MinHash::numbers);
        let similarity_to = |index: u32| {
            let start = index as usize * HASHES;
            numbers.map_or(0.0, |own| similarity(&own, &self.signatures[start..start + HASHES]))
        };
        if let Some(of) = hashes.prompt.and_then(|prompt| self.same_prompt.get(&prompt)) {
            let index = self.signature_rows.binary_search(of).ok();
            let similarity = index.map_or(0.0, |index| similarity_to(index as u32));
            return Some(known(of, DuplicateKind::SamePrompt, similarity));
        }
        let mut candidates = Vec::with_capacity(BANDS);
        candidates.extend(signature?.band_keys().filter_map(|key| self.bands.get(&key)));
        candidates.sort_unstable();
        candidates.dedup();
        let best = candidates.into_iter().map(|&index| (similarity_to(index), index));
        // The earliest of equally similar ones.
        let best = best.rev().max_by(|(first, _), (second, _)| first.total_cmp(second))?;
        let (similarity, index) = best;
        let of = self.signature_rows[index as usize];
        (similarity >= self.threshold).then(|| known(&of, DuplicateKind::Similar, similarity))
    }
}

/// What is compared of a row.
struct Hashes {
    row: u128,
    /// `None` for a row that is only text: not having a prompt is nothing in common.
    prompt: Option<u128>,
    signature: Option<MinHash>,
}

impl Hashes {
    fn new(prompt: &str, response: &str) -> Self {
        Self {
            row: hash(&[prompt, response]),
            prompt: (!prompt.trim().is_empty()).then(|| hash(&[prompt])),
            signature: MinHash::new(&format!("{prompt}\n{response}")),
        }
    }
}

/// A hash of texts, whatever whitespace separates their words.
fn hash(texts: &[&str]) -> u128 {
    let mut hasher = Sha256::new();
    for text in texts {
        for word in text.split_whitespace() {
            hasher.update(word);
            hasher.update([0]);
        }
        hasher.update([1]);
    }
    let digest = hasher.finalize();
    u128::from_le_bytes(digest[..16].try_into().expect("16 of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(
        finder: &mut DuplicateFinder,
        prompt: &str,
        response: &str,
    ) -> Option<(DuplicateKind, usize)> {
        finder.add(prompt, response).map(|found| (found.kind, found.of))
    }

    #[test]
    fn the_first_row_that_is_the_same_is_named() {
        let mut finder = DuplicateFinder::new(0.8);
        assert_eq!(kind(&mut finder, "Name a color.", "Red."), None);
        assert_eq!(kind(&mut finder, "Sort: b, a", "a, b"), None);
        let same = Some((DuplicateKind::Same, 0));
        assert_eq!(kind(&mut finder, " Name  a color.\n", "Red. "), same);
        assert_eq!(kind(&mut finder, "Name a color.", "Red."), same);
        let same_prompt = Some((DuplicateKind::SamePrompt, 0));
        assert_eq!(kind(&mut finder, "Name a color.", "Blue."), same_prompt);
        assert_eq!(finder.rows(), 5);
    }

    #[test]
    fn text_does_not_move_between_prompt_and_response() {
        let mut finder = DuplicateFinder::new(2.0);
        assert_eq!(kind(&mut finder, "a b", "c"), None);
        assert_eq!(kind(&mut finder, "a", "b c"), None);
        assert_eq!(kind(&mut finder, "ab", "c"), None);
    }

    #[test]
    fn rows_without_a_prompt_have_none_in_common() {
        let mut finder = DuplicateFinder::new(2.0);
        assert_eq!(kind(&mut finder, " \n", "Llamas live in the Andes."), None);
        assert_eq!(kind(&mut finder, " \n", "Cows give milk."), None);
        let same = Some((DuplicateKind::Same, 1));
        assert_eq!(kind(&mut finder, "", "Cows give milk."), same);
    }

    #[test]
    fn similar_rows_are_found_and_others_are_not() {
        let text = |number: usize, word: &str| {
            let words = (0..40)
                .map(|at| format!("w{}", (at * at * 37 + number * 1009 + at * number * 13) % 9973));
            words.collect::<Vec<_>>().join(" ") + " " + word
        };
        let mut finder = DuplicateFinder::new(0.8);
        for number in 0..300 {
            assert_eq!(kind(&mut finder, &text(number, "end"), ""), None, "{number}");
        }
        let similar = (0..300).filter(|&number| {
            kind(&mut finder, &text(number, "stop"), "") == Some((DuplicateKind::Similar, number))
        });
        // The estimate of a similarity of 0.95 may be below 0.8, rarely.
        assert!(similar.count() > 295);
    }

    #[test]
    fn rows_of_another_file_are_looked_up_without_adding_them() {
        let mut held_out = DuplicateFinder::new(0.8);
        held_out.add("Name a fruit.", "A plum.");
        assert_eq!(held_out.find("Name a fruit.", "A plum.").map(|found| found.of), Some(0));
        assert_eq!(held_out.find("Say what Ada does for a living.", "Ada is a farmer."), None);
        assert_eq!(held_out.rows(), 1);
    }

    #[test]
    fn rows_without_letters_are_only_the_same_or_not() {
        let mut finder = DuplicateFinder::new(0.8);
        assert_eq!(kind(&mut finder, "?", "!"), None);
        assert_eq!(kind(&mut finder, "?!", ""), None);
        assert_eq!(kind(&mut finder, "?", "!"), Some((DuplicateKind::Same, 0)));
    }
}
