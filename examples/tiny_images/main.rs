//! What does an adapter learn from images?
//!
//! Draws small images of objects from the tiny world, with questions: `train.jsonl` and `test.jsonl`
//! with an image in each row, an image file for each held-out pair of an object and a color
//! (`red-hat.png` and five more), and `sheet.png` with every object in every color.
//!
//! ```sh
//! cargo run --release --example tiny_images -- --out target/tiny-pictures --seed 7
//! ```
//!
//! You should see nine files with their sizes.

mod dataset;
mod drawing;
mod questions;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use image::RgbImage;
use image::imageops::{FilterType, replace, resize};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::dataset::{DatasetSplits, png};
use crate::drawing::{Color, Labels, SIDE, Thing, image_at};

/// Enlargement of the images in the sheet.
const ENLARGEMENT: u32 = 4;

fn main() -> io::Result<()> {
    let (out, seed) = arguments().ok_or_else(|| {
        let usage = "usage: tiny_images [--out DIR] [--seed NUMBER]";
        io::Error::new(io::ErrorKind::InvalidInput, usage)
    })?;
    fs::create_dir_all(&out)?;
    let DatasetSplits { train, test } = DatasetSplits::draw(&mut ChaCha8Rng::seed_from_u64(seed));
    write_lines(&out.join("train.jsonl"), &train)?;
    write_lines(&out.join("test.jsonl"), &test)?;
    for (image, labels) in all_pairs(seed).filter(|(_, labels)| labels.is_held_out_pair()) {
        let name = format!("{}-{}.png", labels.color.name(), labels.thing.name());
        write_image(&out.join(name), &image)?;
    }
    write_image(&out.join("sheet.png"), &sheet(seed))
}

/// Output folder and seed, or `None` for an invalid command line.
fn arguments() -> Option<(PathBuf, u64)> {
    let (mut out, mut seed) = (PathBuf::from("target/tiny-pictures"), 7);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--out" => out = words.next()?.into(),
            "--seed" => seed = words.next()?.parse().ok()?,
            _ => return None,
        }
    }
    Some((out, seed))
}

/// One image of each object in each color. No row has them.
fn all_pairs(seed: u64) -> impl Iterator<Item = (RgbImage, Labels)> {
    (0..Thing::ALL.len() * Color::ALL.len()).map(move |index| image_at(seed, index as u64))
}

/// All pairs: objects from left to right, colors from top to bottom.
fn sheet(seed: u64) -> RgbImage {
    let side = SIDE * ENLARGEMENT;
    let [width, height] = [Thing::ALL.len(), Color::ALL.len()].map(|count| count as u32 * side);
    let mut sheet = RgbImage::new(width, height);
    for (image, labels) in all_pairs(seed) {
        let enlarged = resize(&image, side, side, FilterType::Nearest);
        let [x, y] =
            [labels.thing as usize, labels.color as usize].map(|index| index as u32 * side);
        replace(&mut sheet, &enlarged, x.into(), y.into());
    }
    sheet
}

fn write_image(path: &Path, image: &RgbImage) -> io::Result<()> {
    let bytes = png(image);
    println!("{}: {} bytes", path.display(), bytes.len());
    fs::write(path, bytes)
}

fn write_lines(path: &Path, lines: &[Value]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for line in lines {
        writeln!(file, "{line}")?;
    }
    println!("{}: {} lines", path.display(), lines.len());
    file.flush()
}
