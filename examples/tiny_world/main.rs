//! Where do the data of the built-in model come from?
//!
//! Generates a small closed world in plain English: `corpus.jsonl` for pretraining, with one
//! `{"text": ...}` per line, and `train.jsonl` and `test.jsonl` with instructions about the same world.
//! The corpus does not contain the form of the instructions.
//!
//! ```sh
//! cargo run --release --example tiny_world -- --out target/tiny-world --seed 7
//! ```
//!
//! You should see three files and the number of lines in each.

mod corpus;
mod instructions;
mod pages;
mod phrasings;
mod tasks;
mod words;
mod world;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::instructions::Instructions;
use crate::world::World;

const CORPUS_BYTES: usize = 8_000_000;

fn main() -> io::Result<()> {
    let (out, seed) = arguments().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "usage: tiny_world [--out DIR] [--seed NUMBER]")
    })?;
    fs::create_dir_all(&out)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let world = World::new(&mut rng);
    let Instructions { train, test } = Instructions::draw(&world, &mut rng);
    let mut bytes = 0;
    let documents = std::iter::from_fn(|| {
        (bytes < CORPUS_BYTES).then(|| {
            let text = corpus::document(&world, &mut rng);
            bytes += text.len();
            json!({ "text": text })
        })
    });
    write_lines(&out.join("corpus.jsonl"), documents)?;
    write_lines(&out.join("train.jsonl"), train)?;
    write_lines(&out.join("test.jsonl"), test)
}

/// The output folder and the seed; `None` for invalid arguments.
fn arguments() -> Option<(PathBuf, u64)> {
    let (mut out, mut seed) = (PathBuf::from("target/tiny-world"), 7);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--out" => out = args.next()?.into(),
            "--seed" => seed = args.next()?.parse().ok()?,
            _ => return None,
        }
    }
    Some((out, seed))
}

fn write_lines(path: &Path, lines: impl IntoIterator<Item = Value>) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut count = 0;
    for line in lines {
        writeln!(file, "{line}")?;
        count += 1;
    }
    println!("{}: {count} lines", path.display());
    file.flush()
}
