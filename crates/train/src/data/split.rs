//! Rows ─► training rows and held-out rows.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::image_groups::group_by_image;
use super::instruction::Instruction;
use crate::error::{Error, Result};

/// Splits rows into training rows and held-out rows, at random by `seed`; both keep their order.
///
/// `fraction` of the rows is held out. Rows about the same image stay together, so that no image is
/// in both parts; the held-out part may be slightly larger because of that.
///
/// # Errors
/// [`Error::Config`] for a fraction outside 0 to 1, or one that leaves no training rows.
pub fn split_rows(
    rows: Vec<Instruction>,
    fraction: f64,
    seed: u64,
) -> Result<(Vec<Instruction>, Vec<Instruction>)> {
    let invalid_fraction = || Error::Config {
        field: "the held-out fraction",
        found: fraction.to_string(),
        expected: "at least 0, below 1, leaving training rows",
    };
    if !(0.0..1.0).contains(&fraction) {
        return Err(invalid_fraction());
    }
    let held_out = (fraction * rows.len() as f64).round() as usize;
    if held_out >= rows.len() {
        return Err(invalid_fraction());
    }
    let mut by_image: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let images = rows.iter().map(|row| row.image.as_deref());
    for (index, group) in group_by_image(images).into_iter().enumerate() {
        by_image.entry(group).or_default().push(index);
    }
    let mut groups = by_image.into_values().collect::<Vec<_>>();
    groups.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut held_out_rows = Vec::new();
    for group in groups {
        if held_out_rows.len() < held_out {
            held_out_rows.extend(group);
        }
    }
    held_out_rows.sort_unstable();
    if held_out_rows.len() == rows.len() {
        return Err(invalid_fraction());
    }
    let (mut train, mut eval) = (Vec::new(), Vec::new());
    for (index, row) in rows.into_iter().enumerate() {
        if held_out_rows.binary_search(&index).is_ok() { eval.push(row) } else { train.push(row) }
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
        for part in [&train, &eval] {
            assert!(part.is_sorted_by_key(number));
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
