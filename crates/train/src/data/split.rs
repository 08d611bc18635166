//! Rows ─► training rows and held-out rows.

use std::hash::Hash;

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
    let images = rows.iter().map(|row| row.image.as_deref());
    let is_held_out = split_indices(images, fraction, seed)?;
    let (mut train, mut eval) = (Vec::new(), Vec::new());
    for (row, is_held_out) in rows.into_iter().zip(is_held_out) {
        if is_held_out { eval.push(row) } else { train.push(row) }
    }
    Ok((train, eval))
}

/// Whether each row is held out; `images` tells the images of rows apart.
///
/// # Errors
/// As [`split_rows`].
pub(crate) fn split_indices<K: Eq + Hash>(
    images: impl ExactSizeIterator<Item = Option<K>>,
    fraction: f64,
    seed: u64,
) -> Result<Vec<bool>> {
    let rows = images.len();
    let invalid_fraction = || Error::Config {
        field: "the held-out fraction",
        found: fraction.to_string(),
        expected: "at least 0, below 1, leaving training rows",
    };
    if !(0.0..1.0).contains(&fraction) {
        return Err(invalid_fraction());
    }
    let held_out = (fraction * rows as f64).round() as usize;
    if held_out >= rows {
        return Err(invalid_fraction());
    }
    // The group of a row is its first row.
    let groups = group_by_image(images);
    let mut sizes = vec![0_usize; rows];
    for &group in &groups {
        sizes[group] += 1;
    }
    let mut order = (0..rows).filter(|&group| sizes[group] > 0).collect::<Vec<_>>();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut is_held_out = vec![false; rows];
    let mut count = 0;
    for group in order {
        if count < held_out {
            is_held_out[group] = true;
            count += sizes[group];
        }
    }
    if count == rows {
        return Err(invalid_fraction());
    }
    Ok(groups.into_iter().map(|group| is_held_out[group]).collect())
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
