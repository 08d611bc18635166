//! Tiles of queries and keys, and the steps on them that all kernels of attention share.
//!
//! A cube of 8 x 8 units works on the product of a tile of queries and a tile of keys. A query is a row
//! together with one of the query heads that share a KV head. Unit `(y, x)` computes the elements
//! `(y + 8 i, x + 8 j)` of each product.

use cubecl::prelude::*;

/// Units along each side of a tile.
pub(super) const SIDE: usize = 8;
/// Units of a cube.
pub(super) const UNITS: usize = SIDE * SIDE;

/// Sizes that are fixed when a kernel is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Queries of a tile, a multiple of 8.
    pub queries: usize,
    /// Keys of a tile, a multiple of 8.
    pub keys: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Whether queries and keys are rotated.
    pub rotary: bool,
}

impl Tile {
    /// The largest tile of these numbers of queries and keys that fits into shared memory.
    ///
    /// `buffers` is the number of tiles of queries, of keys and of scores that a kernel holds.
    pub fn fitting(
        head_dim: usize,
        rotary: bool,
        buffers: [usize; 3],
        shared_bytes: usize,
    ) -> Option<Self> {
        const SIZES: [[usize; 2]; 5] = [[32, 32], [32, 16], [16, 16], [16, 8], [8, 8]];
        let tiles = SIZES.map(|[queries, keys]| Self { queries, keys, head_dim, rotary });
        tiles.into_iter().find(|tile| {
            let [queries, keys, scores] = buffers;
            let rows = queries * tile.queries + keys * tile.keys;
            let words = rows * tile.stride() + scores * tile.score_words() + tile.stat_words();
            words * size_of::<f32>() <= shared_bytes
        })
    }

    /// Words from a row of a tile to the next. Odd, so that rows are in different banks; as wide as the
    /// columns of all units.
    pub fn stride(&self) -> usize {
        self.head_dim.next_multiple_of(SIDE) + 1
    }

    /// Columns of a tile that each unit has.
    pub fn columns(&self) -> usize {
        self.head_dim.div_ceil(SIDE)
    }

    pub fn query_words(&self) -> usize {
        self.queries * self.stride()
    }

    pub fn key_words(&self) -> usize {
        self.keys * self.stride()
    }

    /// Room for four values of every query, or for sums over the units of a cube.
    pub fn stat_words(&self) -> usize {
        (4 * self.queries).max(2 * UNITS)
    }

    pub fn score_stride(&self) -> usize {
        self.keys + 1
    }

    pub fn score_words(&self) -> usize {
        self.queries * self.score_stride()
    }
}

/// Loads rows of one tensor: the queries `first..first + tile.queries`, of which `count` exist, from
/// the columns of their heads. Zeros behind the last one.
#[cube]
pub(super) fn load_queries(
    from: &[f32],
    angles: &[f32],
    to: &mut Shared<[f32]>,
    first: usize,
    count: usize,
    own_row: usize,
    group: usize,
    first_column: usize,
    width: usize,
    scale: f32,
    #[comptime] rotated: bool,
    #[comptime] tile: Tile,
) {
    let half = comptime!(tile.head_dim / 2);
    let stride = comptime!(tile.stride());
    let mut index = UNIT_POS as usize;
    while index < comptime!(tile.queries * half) {
        let i = index / half;
        let d = index % half;
        let query = first + i;
        let mut a = 0.0f32;
        let mut b = 0.0f32;
        if query < count {
            let row = own_row + query / group;
            let at = row * width + first_column + query % group * comptime!(tile.head_dim) + d;
            a = from[at];
            b = from[at + half];
            if comptime!(rotated && tile.rotary) {
                let angle = row * comptime!(tile.head_dim) + d;
                let cos = angles[angle];
                let sin = angles[angle + half];
                let x = a;
                a = x * cos - b * sin;
                b = b * cos + x * sin;
            }
        }
        to[i * stride + d] = a * scale;
        to[i * stride + d + half] = b * scale;
        index += UNITS;
    }
}

/// Loads keys or values of a path: the tokens `first..first + tile.keys`, of which those before `end`
/// exist. Zeros behind the last one.
#[cube]
pub(super) fn load_path(
    qkv: &[f32],
    angles: &[f32],
    tables: &[u32],
    to: &mut Shared<[f32]>,
    path: usize,
    first: usize,
    end: usize,
    first_column: usize,
    width: usize,
    #[comptime] rotated: bool,
    #[comptime] tile: Tile,
) {
    let half = comptime!(tile.head_dim / 2);
    let stride = comptime!(tile.stride());
    let mut index = UNIT_POS as usize;
    while index < comptime!(tile.keys * half) {
        let i = index / half;
        let d = index % half;
        let mut a = 0.0f32;
        let mut b = 0.0f32;
        if first + i < end {
            let row = tables[path + first + i] as usize;
            let at = row * width + first_column + d;
            a = qkv[at];
            b = qkv[at + half];
            if comptime!(rotated && tile.rotary) {
                let angle = row * comptime!(tile.head_dim) + d;
                let cos = angles[angle];
                let sin = angles[angle + half];
                let x = a;
                a = x * cos - b * sin;
                b = b * cos + x * sin;
            }
        }
        to[i * stride + d] = a;
        to[i * stride + d + half] = b;
        index += UNITS;
    }
}

/// Loads keys or values of a prompt: the tokens `first..first + tile.keys`, of which those before `end`
/// exist, from `start` on. Zeros behind the last one.
#[cube]
pub(super) fn load_prompt(
    from: &[f32],
    to: &mut Shared<[f32]>,
    start: usize,
    first: usize,
    end: usize,
    #[comptime] tile: Tile,
) {
    let head_dim = comptime!(tile.head_dim);
    let stride = comptime!(tile.stride());
    let mut index = UNIT_POS as usize;
    while index < comptime!(tile.keys * tile.head_dim) {
        let i = index / head_dim;
        let d = index % head_dim;
        let mut value = 0.0f32;
        if first + i < end {
            value = from[start + (first + i) * head_dim + d];
        }
        to[i * stride + d] = value;
        index += UNITS;
    }
}

/// This unit's elements of `a · bᵀ`, `[queries / 8, keys / 8]`.
#[cube]
pub(super) fn products(
    a: &Shared<[f32]>,
    b: &Shared<[f32]>,
    sums: &mut Array<f32>,
    #[comptime] tile: Tile,
) {
    let rows = comptime!(tile.queries / SIDE);
    let columns = comptime!(tile.keys / SIDE);
    let stride = comptime!(tile.stride());
    let y = UNIT_POS as usize / SIDE;
    let x = UNIT_POS as usize % SIDE;
    #[unroll]
    for i in 0..comptime!(rows * columns) {
        sums[i] = 0.0f32;
    }
    for d in 0..comptime!(tile.head_dim) {
        let mut left = Array::<f32>::new(rows);
        #[unroll]
        for i in 0..rows {
            left[i] = a[(y + i * SIDE) * stride + d];
        }
        #[unroll]
        for j in 0..columns {
            let right = b[(x + j * SIDE) * stride + d];
            #[unroll]
            for i in 0..rows {
                sums[i * columns + j] += left[i] * right;
            }
        }
    }
}

/// Adds `weights · values` to this unit's sums, `[queries / 8, columns]`.
#[cube]
pub(super) fn add_weighted_values(
    weights: &Shared<[f32]>,
    values: &Shared<[f32]>,
    sums: &mut Array<f32>,
    #[comptime] tile: Tile,
) {
    let rows = comptime!(tile.queries / SIDE);
    let columns = comptime!(tile.columns());
    let stride = comptime!(tile.stride());
    let score_stride = comptime!(tile.score_stride());
    let y = UNIT_POS as usize / SIDE;
    let x = UNIT_POS as usize % SIDE;
    for k in 0..comptime!(tile.keys) {
        let mut left = Array::<f32>::new(rows);
        #[unroll]
        for i in 0..rows {
            left[i] = weights[(y + i * SIDE) * score_stride + k];
        }
        #[unroll]
        for j in 0..columns {
            let right = values[k * stride + x + j * SIDE];
            #[unroll]
            for i in 0..rows {
                sums[i * columns + j] += left[i] * right;
            }
        }
    }
}

/// Adds `weightsᵀ · queries` to this unit's sums, `[keys / 8, columns]`.
#[cube]
pub(super) fn add_weighted_queries(
    weights: &Shared<[f32]>,
    queries: &Shared<[f32]>,
    sums: &mut Array<f32>,
    #[comptime] tile: Tile,
) {
    let rows = comptime!(tile.keys / SIDE);
    let columns = comptime!(tile.columns());
    let stride = comptime!(tile.stride());
    let score_stride = comptime!(tile.score_stride());
    let y = UNIT_POS as usize / SIDE;
    let x = UNIT_POS as usize % SIDE;
    for q in 0..comptime!(tile.queries) {
        let mut left = Array::<f32>::new(rows);
        #[unroll]
        for i in 0..rows {
            left[i] = weights[q * score_stride + y + i * SIDE];
        }
        #[unroll]
        for j in 0..columns {
            let right = queries[q * stride + x + j * SIDE];
            #[unroll]
            for i in 0..rows {
                sums[i * columns + j] += left[i] * right;
            }
        }
    }
}

/// Writes this unit's scores to shared memory.
#[cube]
pub(super) fn store_scores(
    scores: &mut Shared<[f32]>,
    values: &Array<f32>,
    #[comptime] tile: Tile,
) {
    let rows = comptime!(tile.queries / SIDE);
    let columns = comptime!(tile.keys / SIDE);
    let stride = comptime!(tile.score_stride());
    let y = UNIT_POS as usize / SIDE;
    let x = UNIT_POS as usize % SIDE;
    #[unroll]
    for i in 0..rows {
        #[unroll]
        for j in 0..columns {
            scores[(y + i * SIDE) * stride + x + j * SIDE] = values[i * columns + j];
        }
    }
}

/// Writes this unit's sums, `[rows / 8, columns]`, to a tile in shared memory.
#[cube]
pub(super) fn store_sums(
    to: &mut Shared<[f32]>,
    sums: &Array<f32>,
    #[comptime] rows: usize,
    #[comptime] tile: Tile,
) {
    let columns = comptime!(tile.columns());
    let stride = comptime!(tile.stride());
    let y = UNIT_POS as usize / SIDE;
    let x = UNIT_POS as usize % SIDE;
    #[unroll]
    for i in 0..comptime!(rows / SIDE) {
        #[unroll]
        for j in 0..columns {
            to[(y + i * SIDE) * stride + x + j * SIDE] = sums[i * columns + j];
        }
    }
}

/// Sets all elements to zero.
#[cube]
pub(super) fn clear(sums: &mut Array<f32>, #[comptime] len: usize) {
    #[unroll]
    for i in 0..len {
        sums[i] = 0.0f32;
    }
}

/// The first position that a query at `position` attends to.
#[cube]
pub(super) fn first_visible(position: usize, window: usize) -> usize {
    let mut first = 0usize;
    if position >= window {
        first = position + 1 - window;
    }
    first
}

/// The positions that a query of the tile attends to, of those before `end`: all without `causal`.
#[cube]
pub(super) fn visible_positions(
    query: usize,
    count: usize,
    group: usize,
    first_position: usize,
    window: usize,
    end: usize,
    #[comptime] causal: bool,
) -> (usize, usize) {
    let mut from = 0usize;
    let mut to = end;
    if causal {
        let position = first_position + query / group;
        from = first_visible(position, window);
        if to > position + 1 {
            to = position + 1;
        }
    }
    if query >= count {
        to = 0usize;
    }
    (from, to)
}

/// Undoes the rotation of gradients in a tile, and writes them: those of the rows `0..count` of the
/// tile, each multiplied by `scale`.
///
/// Row `i` of the tile is query `first + i` of those from `own_row` on.
#[cube]
pub(super) fn write_unrotated(
    from: &Shared<[f32]>,
    angles: &[f32],
    to: &mut [f32],
    first: usize,
    count: usize,
    own_row: usize,
    group: usize,
    first_column: usize,
    width: usize,
    scale: f32,
    #[comptime] tile_rows: usize,
    #[comptime] tile: Tile,
) {
    let half = comptime!(tile.head_dim / 2);
    let stride = comptime!(tile.stride());
    let mut index = UNIT_POS as usize;
    while index < comptime!(tile_rows * half) {
        let i = index / half;
        let d = index % half;
        let query = first + i;
        if query < count {
            let row = own_row + query / group;
            let mut a = from[i * stride + d];
            let mut b = from[i * stride + d + half];
            if comptime!(tile.rotary) {
                let angle = row * comptime!(tile.head_dim) + d;
                let cos = angles[angle];
                let sin = angles[angle + half];
                let x = a;
                a = x * cos + b * sin;
                b = b * cos - x * sin;
            }
            let at = row * width + first_column + query % group * comptime!(tile.head_dim) + d;
            to[at] = a * scale;
            to[at + half] = b * scale;
        }
        index += UNITS;
    }
}
