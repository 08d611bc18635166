//! Backward pass of keys and values, of the path and of prompts: one cube a tile of keys, which reads
//! queries tile by tile and recomputes the weights.

use cubecl::prelude::*;

use super::sequence_tables::SEQUENCE_WORDS;
use super::tile::{
    SIDE, Tile, UNITS, add_weighted_queries, clear, load_path, load_prompt, load_queries, products,
    store_scores, store_sums, visible_positions, write_unrotated,
};
use crate::gpu::cube_sum::cube_sum;

/// The gradients of a sequence's own keys and values, a part of `d_qkv`, from all sequences that have
/// them.
#[cube(launch_unchecked)]
pub(super) fn key_gradients_kernel(
    qkv: &[f32],
    angles: &[f32],
    tables: &[u32],
    gate: &[f32],
    d_out: &[f32],
    lse: &[f32],
    deltas: &[f32],
    d_qkv: &mut [f32],
    heads: u32,
    kv_heads: u32,
    window: u32,
    scale: f32,
    #[comptime] tile: Tile,
) {
    let sequence = CUBE_POS_Z as usize;
    let kv_head = CUBE_POS_Y as usize;
    let entry = sequence * SEQUENCE_WORDS;
    let own_row = tables[entry] as usize;
    let own_len = tables[entry + 1] as usize;
    let first_position = tables[entry + 2] as usize;
    let path = tables[entry + 3] as usize;
    let first_key = CUBE_POS_X as usize * comptime!(tile.keys);
    if first_key >= own_len {
        terminate!();
    }
    let heads = heads as usize;
    let kv_heads = kv_heads as usize;
    let group = heads / kv_heads;
    let head_dim = comptime!(tile.head_dim);
    let width = (heads + 2 * kv_heads) * head_dim;
    let window = window as usize;
    let key_column = (heads + kv_head) * head_dim;
    let value_column = key_column + kv_heads * head_dim;

    let mut query = Shared::<[f32]>::new_slice(comptime!(tile.query_words()));
    let mut d_head = Shared::<[f32]>::new_slice(comptime!(tile.query_words()));
    let mut key = Shared::<[f32]>::new_slice(comptime!(tile.key_words()));
    let mut value = Shared::<[f32]>::new_slice(comptime!(tile.key_words()));
    let mut weights = Shared::<[f32]>::new_slice(comptime!(tile.score_words()));
    let mut gradients = Shared::<[f32]>::new_slice(comptime!(tile.score_words()));
    let mut stats = Shared::<[f32]>::new_slice(comptime!(tile.stat_words()));
    let mut score = Array::<f32>::new(comptime!(tile.queries * tile.keys / UNITS));
    let mut d_weight = Array::<f32>::new(comptime!(tile.queries * tile.keys / UNITS));
    let sums_len = comptime!(tile.keys / SIDE * tile.columns());
    let mut d_key = Array::<f32>::new(sums_len);
    let mut d_value = Array::<f32>::new(sums_len);
    clear(&mut d_key, sums_len);
    clear(&mut d_value, sums_len);

    let first_key_position = first_position + first_key;
    let own_end = first_position + own_len;
    load_path(
        qkv,
        angles,
        tables,
        &mut key,
        path,
        first_key_position,
        own_end,
        key_column,
        width,
        true,
        tile,
    );
    load_path(
        qkv,
        angles,
        tables,
        &mut value,
        path,
        first_key_position,
        own_end,
        value_column,
        width,
        false,
        tile,
    );

    let mut reader = tables[entry + 5] as usize;
    let last_reader = tables[entry + 6] as usize;
    while reader < last_reader {
        let reader_entry = tables[reader] as usize * SEQUENCE_WORDS;
        let mut end = tables[reader + 1] as usize;
        if end > own_end {
            end = own_end;
        }
        let reader_row = tables[reader_entry] as usize;
        let reader_len = tables[reader_entry + 1] as usize;
        let reader_position = tables[reader_entry + 2] as usize;
        // Queries before the first key and behind the window of the last one do not attend to any.
        let mut from = reader_position;
        if from < first_key_position {
            from = first_key_position;
        }
        let mut to = reader_position + reader_len;
        if window < to && to > first_key_position + comptime!(tile.keys - 1) + window {
            to = first_key_position + comptime!(tile.keys - 1) + window;
        }
        if end <= first_key_position || to < from {
            to = from;
        }
        let count = reader_len * group;
        let mut q = (from - reader_position) * group;
        let last = (to - reader_position) * group;
        while q < last {
            load_query_tile(
                qkv,
                angles,
                gate,
                d_out,
                lse,
                deltas,
                &mut query,
                &mut d_head,
                &mut stats,
                q,
                count,
                reader_row,
                group,
                heads,
                kv_head,
                width,
                0usize,
                0usize,
                scale,
                false,
                tile,
            );
            sync_cube();
            products(&query, &key, &mut score, tile);
            products(&d_head, &value, &mut d_weight, tile);
            weights_and_gradients(
                &mut score,
                &mut d_weight,
                &stats,
                q,
                count,
                group,
                reader_position,
                window,
                first_key_position,
                end,
                true,
                tile,
            );
            store_scores(&mut weights, &score, tile);
            store_scores(&mut gradients, &d_weight, tile);
            sync_cube();
            add_weighted_queries(&weights, &d_head, &mut d_value, tile);
            add_weighted_queries(&gradients, &query, &mut d_key, tile);
            sync_cube();
            q += comptime!(tile.queries);
        }
        reader += 2;
    }

    sync_cube();
    store_sums(&mut key, &d_key, comptime!(tile.keys), tile);
    sync_cube();
    write_unrotated(
        &key,
        angles,
        d_qkv,
        first_key,
        own_len,
        own_row,
        1usize,
        key_column,
        width,
        1.0f32,
        comptime!(tile.keys),
        tile,
    );
    let y = UNIT_POS as usize / SIDE;
    let x = UNIT_POS as usize % SIDE;
    #[unroll]
    for i in 0..comptime!(tile.keys / SIDE) {
        let k = first_key + y + i * SIDE;
        #[unroll]
        for j in 0..comptime!(tile.columns()) {
            let column = x + j * SIDE;
            if k < own_len && column < head_dim {
                d_qkv[(own_row + k) * width + value_column + column] =
                    d_value[i * comptime!(tile.columns()) + j];
            }
        }
    }
}

/// What the queries of each sequence add to the gradients of its prompt's keys, values and gates:
/// `[sequences, kv_heads, prompt, head_dim]` twice, and `[sequences, heads]`.
#[cube(launch_unchecked)]
pub(super) fn prompt_gradients_kernel(
    qkv: &[f32],
    angles: &[f32],
    tables: &[u32],
    prompt_key: &[f32],
    prompt_value: &[f32],
    gate: &[f32],
    d_out: &[f32],
    lse: &[f32],
    deltas: &[f32],
    d_prompt_key: &mut [f32],
    d_prompt_value: &mut [f32],
    d_gate: &mut [f32],
    rows: u32,
    heads: u32,
    kv_heads: u32,
    scale: f32,
    prompt_len: u32,
    prompt_batches: u32,
    #[comptime] tile: Tile,
) {
    let sequence = CUBE_POS_Z as usize;
    let kv_head = CUBE_POS_Y as usize;
    let entry = sequence * SEQUENCE_WORDS;
    let own_row = tables[entry] as usize;
    let own_len = tables[entry + 1] as usize;
    let first_key = CUBE_POS_X as usize * comptime!(tile.keys);
    let heads = heads as usize;
    let kv_heads = kv_heads as usize;
    let group = heads / kv_heads;
    let count = own_len * group;
    let head_dim = comptime!(tile.head_dim);
    let width = (heads + 2 * kv_heads) * head_dim;
    let prompt_len = prompt_len as usize;
    let of_prompt = rows as usize * heads;
    let mut batch = 0usize;
    if prompt_batches > 1 {
        batch = sequence;
    }
    let mut end = tables[entry + 4] as usize;
    if end > prompt_len {
        end = prompt_len;
    }
    let start = (batch * kv_heads + kv_head) * prompt_len * head_dim;

    let mut query = Shared::<[f32]>::new_slice(comptime!(tile.query_words()));
    let mut d_head = Shared::<[f32]>::new_slice(comptime!(tile.query_words()));
    let mut key = Shared::<[f32]>::new_slice(comptime!(tile.key_words()));
    let mut value = Shared::<[f32]>::new_slice(comptime!(tile.key_words()));
    let mut weights = Shared::<[f32]>::new_slice(comptime!(tile.score_words()));
    let mut gradients = Shared::<[f32]>::new_slice(comptime!(tile.score_words()));
    let mut stats = Shared::<[f32]>::new_slice(comptime!(tile.stat_words()));
    let mut score = Array::<f32>::new(comptime!(tile.queries * tile.keys / UNITS));
    let mut d_weight = Array::<f32>::new(comptime!(tile.queries * tile.keys / UNITS));
    let sums_len = comptime!(tile.keys / SIDE * tile.columns());
    let mut d_key = Array::<f32>::new(sums_len);
    let mut d_value = Array::<f32>::new(sums_len);
    clear(&mut d_key, sums_len);
    clear(&mut d_value, sums_len);

    load_prompt(prompt_key, &mut key, start, first_key, end, tile);
    load_prompt(prompt_value, &mut value, start, first_key, end, tile);
    let mut q = 0usize;
    while q < count {
        load_query_tile(
            qkv,
            angles,
            gate,
            d_out,
            lse,
            deltas,
            &mut query,
            &mut d_head,
            &mut stats,
            q,
            count,
            own_row,
            group,
            heads,
            kv_head,
            width,
            of_prompt,
            batch * heads,
            scale,
            true,
            tile,
        );
        sync_cube();
        products(&query, &key, &mut score, tile);
        products(&d_head, &value, &mut d_weight, tile);
        weights_and_gradients(
            &mut score,
            &mut d_weight,
            &stats,
            q,
            count,
            group,
            0usize,
            0usize,
            first_key,
            end,
            false,
            tile,
        );
        store_scores(&mut weights, &score, tile);
        store_scores(&mut gradients, &d_weight, tile);
        sync_cube();
        add_weighted_queries(&weights, &d_head, &mut d_value, tile);
        add_weighted_queries(&gradients, &query, &mut d_key, tile);
        sync_cube();
        q += comptime!(tile.queries);
    }

    let y = UNIT_POS as usize / SIDE;
    let x = UNIT_POS as usize % SIDE;
    let first_out = (sequence * kv_heads + kv_head) * prompt_len;
    #[unroll]
    for i in 0..comptime!(tile.keys / SIDE) {
        let k = first_key + y + i * SIDE;
        #[unroll]
        for j in 0..comptime!(tile.columns()) {
            let column = x + j * SIDE;
            if k < prompt_len && column < head_dim {
                let at = (first_out + k) * head_dim + column;
                d_prompt_key[at] = d_key[i * comptime!(tile.columns()) + j];
                d_prompt_value[at] = d_value[i * comptime!(tile.columns()) + j];
            }
        }
    }
    if CUBE_POS_X == 0 {
        for g in 0..group {
            let head = kv_head * group + g;
            let mut sum = 0.0f32;
            let mut row = UNIT_POS as usize;
            while row < own_len {
                sum += deltas[of_prompt + (own_row + row) * heads + head];
                row += UNITS;
            }
            sync_cube();
            let sum = cube_sum(sum, &mut stats, 0usize, UNITS);
            if UNIT_POS == 0 {
                d_gate[sequence * heads + head] = sum;
            }
        }
    }
}

/// Loads queries, gradients of heads, and the queries' log-sum-exps, deltas and factors: the gate if
/// `gated`, else one.
#[cube]
fn load_query_tile(
    qkv: &[f32],
    angles: &[f32],
    gate: &[f32],
    d_out: &[f32],
    lse: &[f32],
    deltas: &[f32],
    query: &mut Shared<[f32]>,
    d_head: &mut Shared<[f32]>,
    stats: &mut Shared<[f32]>,
    first: usize,
    count: usize,
    own_row: usize,
    group: usize,
    heads: usize,
    kv_head: usize,
    width: usize,
    offset: usize,
    first_gate: usize,
    scale: f32,
    #[comptime] gated: bool,
    #[comptime] tile: Tile,
) {
    let first_head = kv_head * group;
    let column = first_head * comptime!(tile.head_dim);
    load_queries(
        qkv, angles, query, first, count, own_row, group, column, width, scale, true, tile,
    );
    load_queries(
        d_out,
        angles,
        d_head,
        first,
        count,
        own_row,
        group,
        column,
        heads * comptime!(tile.head_dim),
        1.0f32,
        false,
        tile,
    );
    let unit = UNIT_POS as usize;
    if unit < comptime!(tile.queries) {
        let unit_query = first + unit;
        let mut lse_of_query = 0.0f32;
        let mut delta = 0.0f32;
        let mut factor = 1.0f32;
        if unit_query < count {
            let head = first_head + unit_query % group;
            let at = offset + (own_row + unit_query / group) * heads + head;
            lse_of_query = lse[at];
            delta = deltas[at];
            if gated {
                factor = gate[first_gate + head];
            }
        }
        stats[unit] = lse_of_query;
        stats[unit + comptime!(tile.queries)] = delta;
        stats[unit + comptime!(2 * tile.queries)] = factor;
    }
}

/// Turns this unit's scores into weights, and the gradients of weights into those of scores; both times
/// the query's factor.
#[cube]
fn weights_and_gradients(
    score: &mut Array<f32>,
    d_weight: &mut Array<f32>,
    stats: &Shared<[f32]>,
    first: usize,
    count: usize,
    group: usize,
    first_position: usize,
    window: usize,
    first_key: usize,
    end: usize,
    #[comptime] causal: bool,
    #[comptime] tile: Tile,
) {
    let columns = comptime!(tile.keys / SIDE);
    let y = UNIT_POS as usize / SIDE;
    let x = UNIT_POS as usize % SIDE;
    #[unroll]
    for i in 0..comptime!(tile.queries / SIDE) {
        let q = y + i * SIDE;
        let (from, to) =
            visible_positions(first + q, count, group, first_position, window, end, causal);
        let lse = stats[q];
        let delta = stats[q + comptime!(tile.queries)];
        let factor = stats[q + comptime!(2 * tile.queries)];
        #[unroll]
        for j in 0..columns {
            let k = first_key + x + j * SIDE;
            let mut weight = 0.0f32;
            if k >= from && k < to {
                weight = factor * (score[i * columns + j] - lse).exp();
            }
            score[i * columns + j] = weight;
            d_weight[i * columns + j] = weight * (d_weight[i * columns + j] - delta);
        }
    }
}

/// Sums of three tensors over their first dimension, in its order: one unit an element of the sums.
#[cube(launch_unchecked)]
pub(super) fn sum_sequences_kernel(
    key: &[f32],
    value: &[f32],
    gate: &[f32],
    key_sum: &mut [f32],
    value_sum: &mut [f32],
    gate_sum: &mut [f32],
    sequences: u32,
    elements: u32,
    heads: u32,
) {
    let at = ABSOLUTE_POS;
    let elements = elements as usize;
    let heads = heads as usize;
    if at < elements {
        let mut sum = 0.0f32;
        let mut value_total = 0.0f32;
        for sequence in 0..sequences as usize {
            sum += key[sequence * elements + at];
            value_total += value[sequence * elements + at];
        }
        key_sum[at] = sum;
        value_sum[at] = value_total;
    } else if at < elements + heads {
        let head = at - elements;
        let mut sum = 0.0f32;
        for sequence in 0..sequences as usize {
            sum += gate[sequence * heads + head];
        }
        gate_sum[head] = sum;
    }
}
