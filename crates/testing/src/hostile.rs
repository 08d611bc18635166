//! Corrupted files: valid files with mutations, and random bytes. A reader must return a value or an
//! error, without a panic and without allocating more than a multiple of its input.
//!
//! `fuzz/` runs the same readers with `cargo fuzz`.

use std::sync::{Mutex, PoisonError};

use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::golden_folder;

/// Bytes that a reader may allocate for its buffers, tables and messages, for any file.
const ALLOWANCE: usize = 2 << 20;

/// Calls a reader and checks that its peak allocation is at most `times` the length of its input.
///
/// `memory` must be the global allocator of the test binary, which must have no other tests.
///
/// # Panics
/// If it allocates more.
pub fn check(memory: &PeakAlloc, reader: fn(&[u8]), bytes: &[u8], times: usize) {
    // The allocator counts for the whole process.
    static EXCLUSIVE: Mutex<()> = Mutex::new(());
    let _exclusive = EXCLUSIVE.lock().unwrap_or_else(PoisonError::into_inner);
    memory.reset_peak_usage();
    let before = memory.current_usage();
    reader(bytes);
    let peak = memory.peak_usage().saturating_sub(before);
    let allowed = ALLOWANCE + times * bytes.len();
    assert!(peak <= allowed, "{peak} bytes for a file of {} (allowed {allowed})", bytes.len());
}

/// A mutation of a file.
#[derive(Debug, Clone)]
enum Mutation {
    Flip(Position, u8),
    /// Writes an extreme length, count or offset.
    Overwrite(Position, u64, usize),
    Cut(Index),
    Remove(Position, usize),
    Repeat(Position, usize),
}

/// A position in a file. Most mutations are near the start or the end, where the headers are.
#[derive(Debug, Clone)]
enum Position {
    NearStart(u16),
    NearEnd(u16),
    Anywhere(Index),
}

impl Position {
    fn index(&self, len: usize) -> usize {
        match self {
            Self::NearStart(distance) => *distance as usize % 2048 % len,
            Self::NearEnd(distance) => len - 1 - *distance as usize % 2048 % len,
            Self::Anywhere(index) => index.index(len),
        }
    }
}

fn position() -> impl Strategy<Value = Position> {
    prop_oneof![
        any::<u16>().prop_map(Position::NearStart),
        any::<u16>().prop_map(Position::NearEnd),
        any::<Index>().prop_map(Position::Anywhere),
    ]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let extremes = prop::sample::select(vec![
        0,
        1,
        255,
        1 << 15,
        u64::from(u32::MAX),
        1 << 31,
        1 << 24,
        1 << 40,
        1 << 62,
        u64::MAX >> 1,
        u64::MAX,
    ]);
    let width = prop::sample::select(vec![1, 2, 4, 8]);
    prop_oneof![
        4 => (position(), 1..=u8::MAX).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        4 => (position(), extremes, width).prop_map(|(at, value, len)| Mutation::Overwrite(at, value, len)),
        1 => any::<Index>().prop_map(Mutation::Cut),
        1 => (position(), 1..40_usize).prop_map(|(at, len)| Mutation::Remove(at, len)),
        1 => (position(), 1..400_usize).prop_map(|(at, len)| Mutation::Repeat(at, len)),
    ]
}

fn apply(bytes: &mut Vec<u8>, mutation: &Mutation) {
    if bytes.is_empty() {
        return;
    }
    let range = |at: &Position, len: usize| {
        let start = at.index(bytes.len());
        start..(start + len).min(bytes.len())
    };
    match mutation {
        Mutation::Flip(at, bits) => {
            let index = at.index(bytes.len());
            bytes[index] ^= bits;
        }
        Mutation::Overwrite(at, value, len) => {
            let range = range(at, *len);
            let value = value.to_le_bytes();
            let len = range.len();
            bytes[range].copy_from_slice(&value[..len]);
        }
        Mutation::Cut(index) => bytes.truncate(index.index(bytes.len())),
        Mutation::Remove(at, len) => drop(bytes.drain(range(at, *len))),
        Mutation::Repeat(at, len) => {
            let range = range(at, *len);
            let (end, copy) = (range.end, bytes[range].to_vec());
            bytes.splice(end..end, copy);
        }
    }
}

/// The bytes of a golden file.
///
/// # Panics
/// If it cannot be read.
pub fn golden(name: &str) -> Vec<u8> {
    let path = golden_folder().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Golden GGUF files: with both kinds of tokenizer, and with every block type.
pub fn golden_ggufs() -> [Vec<u8>; 3] {
    ["gguf/tiny-llama.gguf", "gguf/tiny-llama-spm.gguf", "gguf/quants.gguf"].map(golden)
}

/// Both files of the golden split GGUF as one input: the length of the first in four bytes, then both.
pub fn golden_split_gguf() -> Vec<u8> {
    let [first, second] = [1, 2].map(|n| golden(&format!("gguf/tiny-split-0000{n}-of-00002.gguf")));
    [&(first.len() as u32).to_le_bytes()[..], &first, &second].concat()
}

/// Golden PyTorch files, one of them a shard of Meta's.
pub fn golden_torch_files() -> Vec<Vec<u8>> {
    let names = ["zip.pth", "legacy.pth", "protocol4.pth", "deflated.pth", "hostile.pth"];
    let mut files = names.map(|name| golden(&format!("torch/{name}"))).to_vec();
    files.push(golden("meta/consolidated.00.pth"));
    files
}

/// Runs a reader over valid files, mutated ones and random bytes, see [`check`].
///
/// # Panics
/// If one of them makes the reader panic or allocate too much.
pub fn corrupt(memory: &PeakAlloc, reader: fn(&[u8]), valid: &[Vec<u8>], cases: u32, times: usize) {
    for bytes in valid {
        check(memory, reader, bytes, times);
    }
    let config = ProptestConfig { failure_persistence: None, cases, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let mutated = (0..valid.len(), prop::collection::vec(mutation(), 1..5));
    runner
        .run(&mutated, |(index, mutations)| {
            let mut bytes = valid[index].clone();
            for mutation in &mutations {
                apply(&mut bytes, mutation);
            }
            check(memory, reader, &bytes, times);
            Ok(())
        })
        .unwrap();
    // Random bytes after a valid start, which passes the check of the magic number.
    let noise = (prop::collection::vec(any::<u8>(), 0..800), 0..valid.len(), 0..48_usize);
    runner
        .run(&noise, |(noise, index, start)| {
            let valid = &valid[index];
            check(memory, reader, &[&valid[..start.min(valid.len())], &noise].concat(), times);
            Ok(())
        })
        .unwrap();
}
