//! What does an adapter learn to see?
//!
//! Draws small pictures of things from the tiny world and asks about them: `train.jsonl` and
//! `test.jsonl` with a picture in each row, a picture file of each thing in a colour that training
//! leaves out (`red-hat.png` and five more), and `sheet.png` with every thing in every colour.
//!
//! ```sh
//! cargo run --release --example tiny_pictures -- --out target/tiny-pictures --seed 7
//! ```
//!
//! You should see nine files and what is in each.

mod drawing;
mod questions;
mod sets;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use image::RgbImage;
use image::imageops::{FilterType, replace, resize};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::drawing::{Colour, SIDE, Thing, picture_at};
use crate::sets::{Sets, png};

/// Pixels of the sheet for each pixel of a picture.
const ENLARGED: u32 = 4;

fn main() -> io::Result<()> {
    let (out, seed) = arguments().ok_or_else(|| {
        let usage = "usage: tiny_pictures [--out DIR] [--seed NUMBER]";
        io::Error::new(io::ErrorKind::InvalidInput, usage)
    })?;
    fs::create_dir_all(&out)?;
    let Sets { train, test } = Sets::draw(&mut ChaCha8Rng::seed_from_u64(seed));
    write_lines(&out.join("train.jsonl"), &train)?;
    write_lines(&out.join("test.jsonl"), &test)?;
    for (picture, labels) in each_pair(seed).filter(|(_, labels)| labels.is_held_out_pair()) {
        let name = format!("{}-{}.png", labels.colour.name(), labels.thing.name());
        write_picture(&out.join(name), &picture)?;
    }
    write_picture(&out.join("sheet.png"), &sheet(seed))
}

/// The folder to write to and the seed, or nothing when the command line isn't understood.
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

/// A picture of each thing in each colour, which no row has.
fn each_pair(seed: u64) -> impl Iterator<Item = (RgbImage, drawing::Labels)> {
    (0..Thing::ALL.len() * Colour::ALL.len()).map(move |index| picture_at(seed, index as u64))
}

/// Things from left to right, colours from top to bottom.
fn sheet(seed: u64) -> RgbImage {
    let side = SIDE * ENLARGED;
    let [width, height] = [Thing::ALL.len(), Colour::ALL.len()].map(|count| count as u32 * side);
    let mut sheet = RgbImage::new(width, height);
    for (picture, labels) in each_pair(seed) {
        let enlarged = resize(&picture, side, side, FilterType::Nearest);
        let [x, y] = [labels.thing as usize, labels.colour as usize].map(|at| at as u32 * side);
        replace(&mut sheet, &enlarged, x.into(), y.into());
    }
    sheet
}

fn write_picture(path: &Path, picture: &RgbImage) -> io::Result<()> {
    let bytes = png(picture);
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
