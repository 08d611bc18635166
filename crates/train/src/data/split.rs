//! rows ─► rows to learn from, and a seeded share to check with

use std::collections::HashMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::instruction::Instruction;
use crate::error::{Error, Result};

/// Splits rows into those to learn from and a seeded share to check with. Rows about one image are on
/// one side, so that no image is seen on both; the share may be a little larger for it.
///
/// # Errors
/// [`Error::Config`] for a share outside 0 to 1, or one that leaves nothing to learn from.
pub fn split_rows(
    rows: Vec<Instruction>,
    fraction: f64,
    seed: u64,
) -> Result<(Vec<Instruction>, Vec<Instruction>)> {
    let bad = || Error::Config {
        field: "the held-out fraction",
        found: fraction.to_string(),
        expected: "at least 0, below 1, leaving rows to learn from",
    };
    if !(0.0..1.0).contains(&fraction) {
        return Err(bad());
    }
    let held_out = (fraction * rows.len() as f64).round() as usize;
    if held_out >= rows.len() {
        return Err(bad());
    }
    let mut units: Vec<Vec<usize>> = Vec::new();
    let mut known = HashMap::new();
    for (index, row) in rows.iter().enumerate() {
        let place = row.image.as_deref().map(|image| *known.entry(image).or_insert(units.len()));
        match place.and_then(|place| units.get_mut(place)) {
            Some(unit) => unit.push(index),
            None => units.push(vec![index]),
        }
    }
    units.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut chosen = Vec::new();
    for unit in units {
        if chosen.len() < held_out {
            chosen.extend(unit);
        }
    }
    chosen.sort_unstable();
    if chosen.len() == rows.len() {
        return Err(bad());
    }
    let (mut train, mut eval) = (Vec::new(), Vec::new());
    for (index, row) in rows.into_iter().enumerate() {
        if chosen.binary_search(&index).is_ok() { eval.push(row) } else { train.push(row) }
    }
    Ok((train, eval))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(n: usize) -> Vec<Instruction> {
        let row = |i: usize| Instruction::new(i.to_string(), "", "");
        (0..n).map(row).collect()
    }

    #[test]
    fn every_row_is_in_one_split_in_its_original_order() {
        let (train, eval) = split_rows(rows(20), 0.25, 1).unwrap();
        assert_eq!((train.len(), eval.len()), (15, 5));
        let number = |row: &Instruction| row.instruction.parse::<usize>().unwrap();
        for side in [&train, &eval] {
            assert!(side.is_sorted_by_key(number));
        }
        assert!(eval.iter().all(|row| !train.contains(row)));
        assert_eq!(split_rows(rows(20), 0.25, 1).unwrap().1, eval);
        assert_ne!(split_rows(rows(20), 0.25, 2).unwrap().1, eval);
    }

    #[test]
    fn rows_of_one_image_are_in_one_split() {
        let image = |index: usize| Some(format!("{}.png", index % 7));
        let rows = rows(28).into_iter().enumerate();
        let rows = rows.map(|(index, row)| Instruction { image: image(index), ..row }).collect();
        let (train, eval) = split_rows(rows, 0.2, 1).unwrap();
        assert_eq!((train.len(), eval.len()), (20, 8));
        assert!(eval.iter().all(|row| train.iter().all(|other| other.image != row.image)));
    }

    #[test]
    fn a_fraction_that_leaves_no_training_rows_is_rejected() {
        for fraction in [-0.1, 1.0, f64::NAN, 0.99] {
            assert!(split_rows(rows(3), fraction, 0).is_err(), "{fraction}");
        }
        assert_eq!(split_rows(rows(3), 0.0, 0).unwrap().1, []);
    }
}
