//! Rows ─► how many of them are duplicates, and of which rows.

use data::statistics::{Duplicate, DuplicateFinder, DuplicateKind};
use serde::Serialize;
use train::Instruction;

/// Examples of duplicates that are kept.
const MAX_SHOWN: usize = 5;

/// Duplicates among rows, or between two sets of rows.
#[derive(Debug, Default, Serialize)]
pub struct DuplicateCounts {
    /// Rows that are the same as another one.
    pub same: usize,
    /// Rows with the prompt of another one and another response.
    pub same_prompt: usize,
    /// Rows that are similar to another one.
    pub similar: usize,
    /// The first of them.
    pub first: Vec<DuplicateRow>,
}

/// A duplicate; rows are counted from 1.
#[derive(Debug, Serialize)]
pub struct DuplicateRow {
    pub row: usize,
    pub of: usize,
    pub kind: DuplicateKind,
    pub similarity: f64,
}

impl DuplicateCounts {
    /// Rows that resemble an earlier one.
    pub fn among(rows: &[Instruction], similarity: f64) -> Self {
        let mut finder = DuplicateFinder::new(similarity);
        let mut counts = Self::default();
        for (index, row) in rows.iter().enumerate() {
            let found = finder.add(&prompt(row), &row.output);
            counts.count(index, found);
        }
        counts
    }

    /// Rows that resemble one of `held_out`.
    pub fn between(rows: &[Instruction], held_out: &[Instruction], similarity: f64) -> Self {
        let mut finder = DuplicateFinder::new(similarity);
        for row in held_out {
            finder.add(&prompt(row), &row.output);
        }
        let mut counts = Self::default();
        for (index, row) in rows.iter().enumerate() {
            counts.count(index, finder.find(&prompt(row), &row.output));
        }
        counts
    }

    /// All kinds together.
    pub fn total(&self) -> usize {
        self.same + self.same_prompt + self.similar
    }

    fn count(&mut self, index: usize, found: Option<Duplicate>) {
        let Some(Duplicate { kind, of, similarity }) = found else { return };
        *match kind {
            DuplicateKind::Same => &mut self.same,
            DuplicateKind::SamePrompt => &mut self.same_prompt,
            DuplicateKind::Similar => &mut self.similar,
        } += 1;
        if self.first.len() < MAX_SHOWN {
            self.first.push(DuplicateRow { row: index + 1, of: of + 1, kind, similarity });
        }
    }
}

/// What a row asks: its instruction, its context or its earlier turns, and its image. Nothing for text.
fn prompt(row: &Instruction) -> String {
    let row = row.flattened();
    let image = row.image.as_deref().unwrap_or_default();
    format!("{}\n{}\n{image}", row.instruction, row.input)
}

#[cfg(test)]
mod tests {
    use train::data::Turn;

    use super::*;

    #[test]
    fn rows_about_other_images_are_no_duplicates() {
        let row = |image: &str| Instruction {
            image: Some(image.into()),
            ..Instruction::new("Is it dark?", "", "no")
        };
        let counts = DuplicateCounts::among(&[row("a"), row("b"), row("a")], 1.0);
        assert_eq!((counts.same, counts.same_prompt), (1, 0));
        assert_eq!((counts.first[0].row, counts.first[0].of), (3, 1));
    }

    #[test]
    fn conversations_with_other_earlier_turns_have_other_prompts() {
        let row = |first: &str| {
            let turns = [("user", first), ("assistant", "Yes."), ("user", "Why?")];
            let turns = turns.map(|(role, text)| Turn::new(role, text)).to_vec();
            Instruction::conversation(turns, "Because.")
        };
        let counts = DuplicateCounts::among(&[row("Is it red?"), row("Is it dry?")], 1.0);
        assert_eq!(counts.total(), 0);
        let texts = ["Llamas spit.", "Cows moo."].map(Instruction::text);
        assert_eq!(DuplicateCounts::among(&texts, 1.0).total(), 0);
    }

    #[test]
    fn leakage_is_counted_by_row_of_the_training_data() {
        let row = |output: &str| Instruction::new("Name a fruit.", "", output);
        let rows = [row("A plum."), row("A plum."), row("An apple.")];
        let counts = DuplicateCounts::between(&rows, &[row("A plum.")], 1.0);
        assert_eq!((counts.same, counts.same_prompt, counts.total()), (2, 1, 3));
    }
}
