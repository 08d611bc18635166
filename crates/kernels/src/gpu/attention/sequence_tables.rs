//! The sequences of a packed batch as the kernels read them: one buffer of u32.
//!
//! With shared prefixes the sequences are paths of a tree, and each row belongs to the first sequence
//! that has it. A sequence's own rows are the last ones of its path, and follow one another:
//!
//! ```text
//! sequences    a b c      a b d e          rows  a b c d e
//! own rows     a b c          d e
//! ```
//!
//! Each row is a query once, and attends to the path of its owner. As a key it gets gradients from all
//! sequences that have it.

use std::sync::{Arc, PoisonError};

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::BufferArg;
use cubecl::server::Handle;

use crate::attention_params::{RotaryTable, SequenceLayout};

/// Words of a sequence at the start of the tables: see [`SequenceTables::new`].
pub(super) const SEQUENCE_WORDS: usize = 8;

/// The tables and the rotary embedding of a pass, in the memory of a device.
#[derive(Debug)]
pub(super) struct SequenceTables {
    /// Valid tokens of each prompt.
    prompt_lens: Option<Vec<usize>>,
    words: Handle,
    word_count: usize,
    /// Cosines and sines of each row, `[rows, head_dim]`.
    angles: Option<Handle>,
    angle_count: usize,
    pub sequences: usize,
    /// Own rows of a sequence, at most.
    pub longest: usize,
    /// Whether some rows belong to no sequence.
    pub has_gaps: bool,
}

impl SequenceTables {
    /// The tables of a layout with `rows` rows, with the valid tokens of each prompt. They are made at
    /// their first use: all layers of a pass share them.
    ///
    /// # Panics
    /// If sequences have a past or padding, or the layout does not fit the rows.
    pub fn of(
        layout: &SequenceLayout,
        rows: usize,
        prompt_lens: Option<&Vec<usize>>,
        like: &CubeTensor,
    ) -> Arc<Self> {
        let mut cached = layout.device_tables.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = cached.clone().and_then(|tables| tables.downcast::<Self>().ok());
        if let Some(tables) = tables
            && tables.prompt_lens.as_ref() == prompt_lens
        {
            return tables;
        }
        let tables = Arc::new(Self::new(layout, rows, prompt_lens, like));
        *cached = Some(tables.clone());
        tables
    }

    /// ```text
    /// of every sequence   first own row, own rows, position of the first own row, start of the path,
    ///                     valid tokens of its prompt, start and end of its readers, unused
    /// paths               row of each token
    /// readers             sequence, number of first tokens that are shared with it
    /// ```
    ///
    /// The readers of a sequence are those that have some of its own rows, itself included.
    fn new(
        layout: &SequenceLayout,
        rows: usize,
        prompt_lens: Option<&Vec<usize>>,
        like: &CubeTensor,
    ) -> Self {
        let count = layout.sequences.len();
        let paths = layout.sequences.iter().map(|sequence| {
            assert_eq!((sequence.past, sequence.padding), (0, 0), "attention of whole sequences");
            let tokens = sequence.first_row..sequence.first_row + sequence.len;
            match &layout.token_rows {
                Some(token_rows) => token_rows[tokens].iter().map(|&row| row as u32).collect(),
                None => tokens.map(|row| row as u32).collect::<Vec<_>>(),
            }
        });
        let paths = paths.collect::<Vec<_>>();
        let mut owner = vec![None; rows];
        let mut own_start = Vec::with_capacity(count);
        let mut readers = vec![Vec::new(); count];
        for (sequence, path) in paths.iter().enumerate() {
            let owned = |row: &u32| owner[*row as usize].is_some();
            let shared = path.iter().take_while(|row| owned(row)).count();
            assert!(
                path[shared..].windows(2).all(|pair| pair[0] + 1 == pair[1]),
                "the rows of a sequence follow one another behind its shared ones"
            );
            own_start.push(shared);
            for position in 0..shared {
                let owner = owner[path[position] as usize].expect("the row is owned");
                let shared_len = (sequence as u32, position as u32 + 1);
                // An owner's rows follow one another in the path: the last position counts.
                match readers[owner as usize].last_mut() {
                    Some((reader, len)) if *reader == shared_len.0 => *len = shared_len.1,
                    _ => readers[owner as usize].push(shared_len),
                }
            }
            for &row in &path[shared..] {
                let owner = &mut owner[row as usize];
                assert!(owner.is_none(), "a row follows different rows in different sequences");
                *owner = Some(sequence as u32);
            }
            readers[sequence].push((sequence as u32, path.len() as u32));
        }

        let mut words = vec![0; count * SEQUENCE_WORDS];
        for (sequence, path) in paths.iter().enumerate() {
            let start = own_start[sequence];
            let entry = &mut words[sequence * SEQUENCE_WORDS..];
            entry[0] = path.get(start).copied().unwrap_or(0);
            entry[1] = (path.len() - start) as u32;
            entry[2] = start as u32;
            let prompt_len = |lens: &Vec<usize>| lens[if lens.len() == 1 { 0 } else { sequence }];
            entry[4] = prompt_lens.map_or(u32::MAX, |lens| prompt_len(lens) as u32);
        }
        for (sequence, path) in paths.iter().enumerate() {
            words[sequence * SEQUENCE_WORDS + 3] = words.len() as u32;
            words.extend(path);
        }
        for (sequence, readers) in readers.iter().enumerate() {
            words[sequence * SEQUENCE_WORDS + 5] = words.len() as u32;
            words.extend(readers.iter().flat_map(|&(reader, len)| [reader, len]));
            words[sequence * SEQUENCE_WORDS + 6] = words.len() as u32;
        }
        let longest = paths.iter().zip(&own_start).map(|(path, start)| path.len() - start).max();
        let angles = layout.rotary_table.as_ref().map(|table| interleaved(table, rows));
        let upload = |words: &[u8]| like.client.create_from_slice(words);
        Self {
            prompt_lens: prompt_lens.cloned(),
            words: upload(bytemuck::cast_slice(&words)),
            word_count: words.len(),
            angle_count: angles.as_ref().map_or(0, Vec::len),
            angles: angles.map(|angles| upload(bytemuck::cast_slice(&angles))),
            sequences: count,
            longest: longest.unwrap_or(0),
            has_gaps: owner.iter().any(Option::is_none),
        }
    }

    /// The tables as an argument of a kernel.
    pub fn words(&self) -> BufferArg {
        // SAFETY: the buffer was created with this many words.
        unsafe { BufferArg::from_raw_parts(self.words.clone(), self.word_count) }
    }

    /// The rotary embedding as an argument of a kernel.
    pub fn angles(&self) -> Option<BufferArg> {
        let angles = self.angles.clone()?;
        // SAFETY: the buffer was created with this many elements.
        Some(unsafe { BufferArg::from_raw_parts(angles, self.angle_count) })
    }
}

/// Cosines and sines of each row, one behind the other.
fn interleaved(table: &RotaryTable, rows: usize) -> Vec<f32> {
    assert!(table.cos.len().is_multiple_of(rows), "the rotary table has another number of rows");
    let half = table.cos.len() / rows;
    let rows = table.cos.chunks_exact(half).zip(table.sin.chunks_exact(half));
    rows.flat_map(|(cos, sin)| [cos, sin]).flatten().copied().collect()
}
