//! Causal grouped-query attention of whole sequences in a packed batch, plus the gated attention to a
//! prompt: rotary embedding, mask, softmax and gate in one launch. Scores exist only in tiles.
//!
//! ```text
//! forward     1 launch   a cube for every tile of queries                       forward.rs
//! backward    queries    a cube for every tile of queries                       query_gradients.rs
//!             keys       a cube for every tile of keys                          key_gradients.rs
//!             prompt     a cube for every tile of prompt keys of a sequence, then the sum
//! ```
//!
//! Source: arXiv 2205.14135, 2307.08691 (tiles, online softmax, recomputation); arXiv 2303.16199,
//! equations 5 to 8 (gated prompt).

mod forward;
mod key_gradients;
mod query_gradients;
mod sequence_tables;
mod tile;

use std::sync::Arc;

use burn::tensor::DType;
use burn_cubecl::CubeDevice;
use burn_cubecl::ops::numeric::zeros;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::{BufferArg, CubeDim};

use super::launch::{cube_count, cube_grid};
use super::tensors::{buffer, dims, empty, empty_like};
use crate::attention_params::{AttentionDims, AttentionParams};
use crate::sizes::MAX_GPU_HEAD_DIM;
use forward::attention_kernel;
use key_gradients::{key_gradients_kernel, prompt_gradients_kernel, sum_sequences_kernel};
use query_gradients::query_gradients_kernel;
use sequence_tables::SequenceTables;
use tile::{Tile, UNITS};

/// Buffers of the kernel with the most of them, the one of sizes included.
const BINDINGS: u32 = 13;
/// Tiles of queries, of keys and of scores that each kernel holds.
const FORWARD_BUFFERS: [usize; 3] = [1, 1, 1];
const QUERY_GRADIENT_BUFFERS: [usize; 3] = [2, 2, 1];
const KEY_GRADIENT_BUFFERS: [usize; 3] = [2, 2, 2];
/// Units of a cube of elementwise sums.
const SUM_UNITS: usize = 256;

/// Keys, values and gates of a prompt: `[batches, kv_heads, prompt, head_dim]` twice, `[batches, heads]`.
pub(super) type PromptTensors = [CubeTensor; 3];

/// Whether a device can run the kernels for heads of this kind.
pub(super) fn fits(device: &CubeDevice, heads: AttentionDims) -> bool {
    let hardware = device.client().properties().hardware.clone();
    let shared = hardware.max_shared_memory_size;
    heads.head_dim.is_multiple_of(2)
        && heads.head_dim <= MAX_GPU_HEAD_DIM
        && hardware.max_bindings >= BINDINGS
        && hardware.max_units_per_cube as usize >= SUM_UNITS
        && Tile::fitting(heads.head_dim, true, KEY_GRADIENT_BUFFERS, shared).is_some()
}

/// What the forward pass keeps for the backward pass.
#[derive(Debug, Clone)]
pub(super) struct SavedAttention {
    qkv: CubeTensor,
    prompt: Option<PromptTensors>,
    out: CubeTensor,
    /// Log-sum-exp of the path's scores, and of the prompt's, `[1 or 2, rows, heads]`.
    lse: CubeTensor,
    tables: Arc<SequenceTables>,
    params: Arc<AttentionParams>,
}

/// Sizes of a launch.
struct Sizes {
    rows: usize,
    heads: u32,
    kv_heads: u32,
    head_dim: usize,
    group: usize,
    window: u32,
    scale: f32,
    prompt_len: usize,
    prompt_batches: usize,
}

impl SavedAttention {
    /// Runs the forward pass; `qkv` and `prompt` are contiguous.
    ///
    /// # Panics
    /// If shapes do not match, or sequences have a past.
    pub fn forward(
        qkv: CubeTensor,
        prompt: Option<PromptTensors>,
        params: Arc<AttentionParams>,
    ) -> Self {
        let AttentionDims { heads, kv_heads, head_dim } = params.heads;
        let [rows, width] = dims(&qkv);
        assert_eq!(width, (heads + 2 * kv_heads) * head_dim, "columns of queries, keys and values");
        let tables = SequenceTables::of(&params.layout, rows, params.prompt_lens.as_ref(), &qkv);
        if let Some(prompt) = &prompt {
            check_prompt(prompt, params.heads, tables.sequences);
        }
        let out = output(&qkv, [rows, heads * head_dim], &tables);
        let halves = if prompt.is_some() { 2 } else { 1 };
        let lse = empty(&qkv, [halves, rows, heads]);
        let saved = Self { qkv, prompt, out, lse, tables, params };
        saved.launch_forward();
        saved
    }

    fn launch_forward(&self) {
        let (sizes, tile) = (self.sizes(), self.tile(FORWARD_BUFFERS));
        let [key, value, gate] = self.prompt_buffers();
        // SAFETY: the kernel reads rows that the tables name, which `SequenceTables` checked to be in
        // `qkv`, and prompts of the shapes that `check_prompt` checked.
        unsafe {
            attention_kernel::launch_unchecked(
                &self.qkv.client,
                self.query_grid(tile),
                CubeDim::new_1d(UNITS as u32),
                buffer(&self.qkv),
                self.angles(),
                self.tables.words(),
                key,
                value,
                gate,
                buffer(&self.out),
                buffer(&self.lse),
                sizes.rows as u32,
                sizes.heads,
                sizes.kv_heads,
                sizes.window,
                sizes.scale,
                sizes.prompt_len as u32,
                sizes.prompt_batches as u32,
                self.prompt.is_some(),
                tile,
            );
        }
    }

    /// The attention heads.
    pub fn out(&self) -> CubeTensor {
        self.out.clone()
    }

    /// The gradients of `qkv` and of the prompt, as far as they are requested. `d_out` is contiguous.
    pub fn backward(
        &self,
        d_out: &CubeTensor,
        want_qkv: bool,
        want_prompt: bool,
    ) -> (Option<CubeTensor>, Option<PromptTensors>) {
        let sizes = self.sizes();
        let deltas = empty_like(&self.lse);
        let [rows, width] = dims(&self.qkv);
        let d_qkv_dims = if want_qkv { [rows, width] } else { [1, 1] };
        let d_qkv = output(&self.qkv, d_qkv_dims, &self.tables);
        let tile = self.tile(QUERY_GRADIENT_BUFFERS);
        let [key, value, gate] = self.prompt_buffers();
        // SAFETY: as in the forward pass; `d_out` has the shape of `out`, which Burn's autodiff
        // guarantees, `deltas` that of `lse`, and `d_qkv`, if it is written, that of `qkv`.
        unsafe {
            query_gradients_kernel::launch_unchecked(
                &self.qkv.client,
                self.query_grid(tile),
                CubeDim::new_1d(UNITS as u32),
                buffer(&self.qkv),
                self.angles(),
                self.tables.words(),
                key,
                value,
                gate,
                buffer(&self.out),
                buffer(d_out),
                buffer(&self.lse),
                buffer(&deltas),
                buffer(&d_qkv),
                sizes.rows as u32,
                sizes.heads,
                sizes.kv_heads,
                sizes.window,
                sizes.scale,
                sizes.prompt_len as u32,
                sizes.prompt_batches as u32,
                self.prompt.is_some(),
                want_qkv,
                tile,
            );
        }
        if want_qkv {
            self.launch_key_gradients(d_out, &deltas, &d_qkv);
        }
        let d_prompt = self.prompt.as_ref().filter(|_| want_prompt);
        let d_prompt = d_prompt.map(|prompt| self.prompt_gradients(prompt, d_out, &deltas));
        (want_qkv.then_some(d_qkv), d_prompt)
    }

    fn launch_key_gradients(&self, d_out: &CubeTensor, deltas: &CubeTensor, d_qkv: &CubeTensor) {
        let (sizes, tile) = (self.sizes(), self.tile(KEY_GRADIENT_BUFFERS));
        let tiles = self.tables.longest.div_ceil(tile.keys);
        // SAFETY: as in `backward`.
        unsafe {
            key_gradients_kernel::launch_unchecked(
                &self.qkv.client,
                cube_grid([tiles, sizes.kv_heads as usize, self.tables.sequences]),
                CubeDim::new_1d(UNITS as u32),
                buffer(&self.qkv),
                self.angles(),
                self.tables.words(),
                // There is no gate: it is not read.
                buffer(&self.qkv),
                buffer(d_out),
                buffer(&self.lse),
                buffer(deltas),
                buffer(d_qkv),
                sizes.heads,
                sizes.kv_heads,
                sizes.window,
                sizes.scale,
                tile,
            );
        }
    }

    fn prompt_gradients(
        &self,
        prompt: &PromptTensors,
        d_out: &CubeTensor,
        deltas: &CubeTensor,
    ) -> PromptTensors {
        let (sizes, tile) = (self.sizes(), self.tile(KEY_GRADIENT_BUFFERS));
        let AttentionDims { heads, kv_heads, head_dim } = self.params.heads;
        let (sequences, len) = (self.tables.sequences, sizes.prompt_len);
        let parts = [
            empty(&self.qkv, [sequences, kv_heads, len, head_dim]),
            empty(&self.qkv, [sequences, kv_heads, len, head_dim]),
            empty(&self.qkv, [sequences, heads]),
        ];
        let [key, value, gate] = prompt.each_ref().map(buffer);
        // SAFETY: as in `backward`; each cube writes its own elements of `parts`.
        unsafe {
            prompt_gradients_kernel::launch_unchecked(
                &self.qkv.client,
                cube_grid([len.div_ceil(tile.keys), kv_heads, sequences]),
                CubeDim::new_1d(UNITS as u32),
                buffer(&self.qkv),
                self.angles(),
                self.tables.words(),
                key,
                value,
                gate,
                buffer(d_out),
                buffer(&self.lse),
                buffer(deltas),
                buffer(&parts[0]),
                buffer(&parts[1]),
                buffer(&parts[2]),
                sizes.rows as u32,
                sizes.heads,
                sizes.kv_heads,
                sizes.scale,
                len as u32,
                sizes.prompt_batches as u32,
                tile,
            );
        }
        if sequences == sizes.prompt_batches {
            return parts;
        }
        let sums = prompt.each_ref().map(empty_like);
        let elements = kv_heads * len * head_dim;
        // SAFETY: `parts` have `sequences` times the elements of `sums`.
        unsafe {
            sum_sequences_kernel::launch_unchecked(
                &self.qkv.client,
                cube_count((elements + heads).div_ceil(SUM_UNITS)),
                CubeDim::new_1d(SUM_UNITS as u32),
                buffer(&parts[0]),
                buffer(&parts[1]),
                buffer(&parts[2]),
                buffer(&sums[0]),
                buffer(&sums[1]),
                buffer(&sums[2]),
                sequences as u32,
                elements as u32,
                sizes.heads,
            );
        }
        sums
    }

    fn sizes(&self) -> Sizes {
        let AttentionDims { heads, kv_heads, head_dim } = self.params.heads;
        let [rows, _width] = dims(&self.qkv);
        let (prompt_batches, prompt_len) = self.prompt.as_ref().map_or((1, 0), |[key, ..]| {
            let [batches, _kv_heads, len, _head_dim] = dims(key);
            (batches, len)
        });
        let window = self.params.window.and_then(|window| u32::try_from(window).ok());
        Sizes {
            rows,
            heads: heads as u32,
            kv_heads: kv_heads as u32,
            head_dim,
            group: heads / kv_heads,
            window: window.unwrap_or(u32::MAX),
            scale: (head_dim as f32).sqrt().recip(),
            prompt_len,
            prompt_batches,
        }
    }

    fn tile(&self, buffers: [usize; 3]) -> Tile {
        let shared = self.qkv.client.properties().hardware.max_shared_memory_size;
        let rotary = self.params.layout.rotary_table.is_some();
        Tile::fitting(self.sizes().head_dim, rotary, buffers, shared)
            .expect("`fits` has found a tile")
    }

    fn query_grid(&self, tile: Tile) -> cubecl::prelude::CubeCount {
        let sizes = self.sizes();
        let tiles = (self.tables.longest * sizes.group).div_ceil(tile.queries);
        cube_grid([tiles, sizes.kv_heads as usize, self.tables.sequences])
    }

    /// The rotary embedding, or without one a buffer that is not read.
    fn angles(&self) -> BufferArg {
        self.tables.angles().unwrap_or_else(|| buffer(&self.qkv))
    }

    /// The prompt, or without one buffers that are not read.
    fn prompt_buffers(&self) -> [BufferArg; 3] {
        match &self.prompt {
            Some(prompt) => prompt.each_ref().map(buffer),
            None => [0; 3].map(|_| buffer(&self.qkv)),
        }
    }
}

/// An output of rows: zero where rows may belong to no sequence.
fn output(like: &CubeTensor, dims: [usize; 2], tables: &SequenceTables) -> CubeTensor {
    if tables.has_gaps {
        return zeros(like.device.clone(), dims.into(), DType::F32);
    }
    empty(like, dims)
}

fn check_prompt([key, value, gate]: &PromptTensors, heads: AttentionDims, sequences: usize) {
    let [batches, kv_heads, len, head_dim] = dims(key);
    assert_eq!([kv_heads, head_dim], [heads.kv_heads, heads.head_dim], "heads of the prompt");
    assert_eq!(dims(value), [batches, kv_heads, len, head_dim], "the prompt's values");
    assert_eq!(dims(gate), [batches, heads.heads], "the prompt's gates");
    assert!(batches == 1 || batches == sequences, "{batches} prompts for {sequences} sequences");
}
