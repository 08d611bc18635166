//! Forward pass: one cube a tile of queries, which reads keys and values tile by tile.
//!
//! ```text
//! prompt: scores ─► online softmax ─► × values ─► / sum × gate ─► out
//! path:   scores, masked ─► online softmax ─► × values ─► / sum ─► out +
//! ```

use cubecl::prelude::*;

use super::sequence_tables::SEQUENCE_WORDS;
use super::tile::{
    SIDE, Tile, UNITS, add_weighted_values, clear, first_visible, load_path, load_prompt,
    load_queries, products, store_scores,
};

/// Less than any score.
pub(super) const NO_SCORE: f32 = -1e30;

/// The rows of queries and the log-sum-exps of their softmax: `lse` is `[2, rows, heads]`, of the path
/// and of the prompt.
#[cube(launch_unchecked)]
pub(super) fn attention_kernel(
    qkv: &[f32],
    angles: &[f32],
    tables: &[u32],
    prompt_key: &[f32],
    prompt_value: &[f32],
    gate: &[f32],
    out: &mut [f32],
    lse: &mut [f32],
    rows: u32,
    heads: u32,
    kv_heads: u32,
    window: u32,
    scale: f32,
    prompt_len: u32,
    prompt_batches: u32,
    #[comptime] has_prompt: bool,
    #[comptime] tile: Tile,
) {
    let sequence = CUBE_POS_Z as usize;
    let kv_head = CUBE_POS_Y as usize;
    let entry = sequence * SEQUENCE_WORDS;
    let own_row = tables[entry] as usize;
    let first_position = tables[entry + 2] as usize;
    let path = tables[entry + 3] as usize;
    let heads = heads as usize;
    let kv_heads = kv_heads as usize;
    let group = heads / kv_heads;
    let count = tables[entry + 1] as usize * group;
    let first = CUBE_POS_X as usize * comptime!(tile.queries);
    if first >= count {
        terminate!();
    }
    let head_dim = comptime!(tile.head_dim);
    let width = (heads + 2 * kv_heads) * head_dim;
    let window = window as usize;

    let mut query = Shared::<[f32]>::new_slice(comptime!(tile.query_words()));
    let mut key = Shared::<[f32]>::new_slice(comptime!(tile.key_words()));
    let mut scores = Shared::<[f32]>::new_slice(comptime!(tile.score_words()));
    // Of each query: the maximum, the sum, and the factor of earlier sums.
    let mut stats = Shared::<[f32]>::new_slice(comptime!(tile.stat_words()));
    let mut products_of_unit = Array::<f32>::new(comptime!(tile.queries * tile.keys / UNITS));
    let sums_len = comptime!(tile.queries / SIDE * tile.columns());
    let mut sums = Array::<f32>::new(sums_len);

    let query_column = kv_head * group * head_dim;
    load_queries(
        qkv,
        angles,
        &mut query,
        first,
        count,
        own_row,
        group,
        query_column,
        width,
        scale,
        true,
        tile,
    );

    if has_prompt {
        let mut end = tables[entry + 4] as usize;
        if end > prompt_len as usize {
            end = prompt_len as usize;
        }
        let mut batch = 0usize;
        if prompt_batches > 1 {
            batch = sequence;
        }
        let start = (batch * kv_heads + kv_head) * prompt_len as usize * head_dim;
        clear(&mut sums, sums_len);
        reset_softmax(&mut stats, tile);
        let mut k = 0usize;
        while k < end {
            load_prompt(prompt_key, &mut key, start, k, end, tile);
            sync_cube();
            products(&query, &key, &mut products_of_unit, tile);
            store_scores(&mut scores, &products_of_unit, tile);
            sync_cube();
            let mut visible = end - k;
            if visible > comptime!(tile.keys) {
                visible = comptime!(tile.keys);
            }
            softmax_step(&mut scores, &mut stats, 0usize, visible, tile);
            load_prompt(prompt_value, &mut key, start, k, end, tile);
            sync_cube();
            scale_sums(&mut sums, &stats, tile);
            add_weighted_values(&scores, &key, &mut sums, tile);
            sync_cube();
            k += comptime!(tile.keys);
        }
        sync_cube();
        write_lse(
            lse,
            &stats,
            rows as usize * heads,
            first,
            count,
            own_row,
            group,
            heads,
            kv_head * group,
            tile,
        );
        write_heads(
            out,
            &sums,
            &stats,
            gate,
            first,
            count,
            own_row,
            group,
            heads,
            kv_head * group,
            batch * heads,
            true,
            false,
            tile,
        );
        sync_cube();
    }

    clear(&mut sums, sums_len);
    reset_softmax(&mut stats, tile);
    let mut last = first + comptime!(tile.queries);
    if last > count {
        last = count;
    }
    let end = first_position + (last - 1) / group + 1;
    let key_column = (heads + kv_head) * head_dim;
    let value_column = key_column + kv_heads * head_dim;
    let mut k = first_visible(first_position + first / group, window);
    while k < end {
        load_path(qkv, angles, tables, &mut key, path, k, end, key_column, width, true, tile);
        sync_cube();
        products(&query, &key, &mut products_of_unit, tile);
        store_scores(&mut scores, &products_of_unit, tile);
        sync_cube();
        let mut from = 0usize;
        let mut to = 0usize;
        if first + (UNIT_POS as usize) < count {
            let position = first_position + (first + UNIT_POS as usize) / group;
            from = first_visible(position, window);
            if from < k {
                from = k;
            }
            from -= k;
            if position + 1 > k {
                to = position + 1 - k;
            }
            if to > comptime!(tile.keys) {
                to = comptime!(tile.keys);
            }
        }
        softmax_step(&mut scores, &mut stats, from, to, tile);
        load_path(qkv, angles, tables, &mut key, path, k, end, value_column, width, false, tile);
        sync_cube();
        scale_sums(&mut sums, &stats, tile);
        add_weighted_values(&scores, &key, &mut sums, tile);
        sync_cube();
        k += comptime!(tile.keys);
    }
    write_lse(lse, &stats, 0usize, first, count, own_row, group, heads, kv_head * group, tile);
    write_heads(
        out,
        &sums,
        &stats,
        gate,
        first,
        count,
        own_row,
        group,
        heads,
        kv_head * group,
        0usize,
        false,
        has_prompt,
        tile,
    );
}

/// Empty sums. Followed by a barrier before their use.
#[cube]
fn reset_softmax(stats: &mut Shared<[f32]>, #[comptime] tile: Tile) {
    let query = UNIT_POS as usize;
    if query < comptime!(tile.queries) {
        stats[query] = NO_SCORE;
        stats[query + comptime!(tile.queries)] = 0.0f32;
    }
}

/// Turns the scores of the unit's query into weights: those of the keys `from..to`, zero for others.
#[cube]
fn softmax_step(
    scores: &mut Shared<[f32]>,
    stats: &mut Shared<[f32]>,
    from: usize,
    to: usize,
    #[comptime] tile: Tile,
) {
    let query = UNIT_POS as usize;
    if query < comptime!(tile.queries) {
        let first = query * comptime!(tile.score_stride());
        let earlier = stats[query];
        let mut max = earlier;
        let mut k = from;
        while k < to {
            let score = scores[first + k];
            if score > max {
                max = score;
            }
            k += 1;
        }
        let factor = (earlier - max).exp();
        let mut sum = stats[query + comptime!(tile.queries)] * factor;
        for k in 0..comptime!(tile.keys) {
            let mut weight = 0.0f32;
            if k >= from && k < to {
                weight = (scores[first + k] - max).exp();
            }
            sum += weight;
            scores[first + k] = weight;
        }
        stats[query] = max;
        stats[query + comptime!(tile.queries)] = sum;
        stats[query + comptime!(2 * tile.queries)] = factor;
    }
}

/// Multiplies the sums by the factors of the last step.
#[cube]
fn scale_sums(sums: &mut Array<f32>, stats: &Shared<[f32]>, #[comptime] tile: Tile) {
    let columns = comptime!(tile.columns());
    let y = UNIT_POS as usize / SIDE;
    #[unroll]
    for i in 0..comptime!(tile.queries / SIDE) {
        let factor = stats[y + i * SIDE + comptime!(2 * tile.queries)];
        #[unroll]
        for j in 0..columns {
            sums[i * columns + j] *= factor;
        }
    }
}

/// Writes the log-sum-exp of the unit's query; zero without keys.
#[cube]
fn write_lse(
    lse: &mut [f32],
    stats: &Shared<[f32]>,
    offset: usize,
    first: usize,
    count: usize,
    own_row: usize,
    group: usize,
    heads: usize,
    first_head: usize,
    #[comptime] tile: Tile,
) {
    let unit = UNIT_POS as usize;
    let query = first + unit;
    if unit < comptime!(tile.queries) && query < count {
        let sum = stats[unit + comptime!(tile.queries)];
        let mut value = 0.0f32;
        if sum > 0.0f32 {
            value = stats[unit] + sum.ln();
        }
        lse[offset + (own_row + query / group) * heads + first_head + query % group] = value;
    }
}

/// Writes the sums divided by the softmax's, `gated` times the gate, with `add` added to what is there.
#[cube]
fn write_heads(
    out: &mut [f32],
    sums: &Array<f32>,
    stats: &Shared<[f32]>,
    gate: &[f32],
    first: usize,
    count: usize,
    own_row: usize,
    group: usize,
    heads: usize,
    first_head: usize,
    first_gate: usize,
    #[comptime] gated: bool,
    #[comptime] add: bool,
    #[comptime] tile: Tile,
) {
    let columns = comptime!(tile.columns());
    let y = UNIT_POS as usize / SIDE;
    let x = UNIT_POS as usize % SIDE;
    #[unroll]
    for i in 0..comptime!(tile.queries / SIDE) {
        let query = first + y + i * SIDE;
        if query < count {
            let head = first_head + query % group;
            let at = ((own_row + query / group) * heads + head) * comptime!(tile.head_dim);
            let sum = stats[y + i * SIDE + comptime!(tile.queries)];
            let mut factor = 0.0f32;
            if sum > 0.0f32 {
                factor = 1.0f32 / sum;
            }
            if gated {
                factor *= gate[first_gate + head];
            }
            #[unroll]
            for j in 0..columns {
                let column = x + j * SIDE;
                if column < comptime!(tile.head_dim) {
                    let value = sums[i * columns + j] * factor;
                    if add {
                        out[at + column] += value;
                    } else {
                        out[at + column] = value;
                    }
                }
            }
        }
    }
}
