//! Backward pass of the queries: one cube a tile of queries, which reads keys and values tile by tile
//! and recomputes the weights.
//!
//! With weights `p` and gradients `d_p` of them, the gradient of a score is `p (d_p - delta)`, where
//! `delta` is the sum of `p d_p` over the keys. For the path that is `d_out · out` without the prompt's
//! part; for the prompt it is summed here.

use cubecl::prelude::*;

use super::sequence_tables::SEQUENCE_WORDS;
use super::tile::{
    SIDE, Tile, UNITS, add_weighted_values, clear, first_visible, load_path, load_prompt,
    load_queries, products, store_scores, store_sums, visible_positions, write_unrotated,
};

/// `deltas` is `[2, rows, heads]`, of the path and of the prompt, and is always written; the gradient of
/// the queries, a part of `d_qkv`, only if requested.
#[cube(launch_unchecked)]
pub(super) fn query_gradients_kernel(
    qkv: &[f32],
    angles: &[f32],
    tables: &[u32],
    prompt_key: &[f32],
    prompt_value: &[f32],
    gate: &[f32],
    out: &[f32],
    d_out: &[f32],
    lse: &[f32],
    deltas: &mut [f32],
    d_qkv: &mut [f32],
    rows: u32,
    heads: u32,
    kv_heads: u32,
    window: u32,
    scale: f32,
    prompt_len: u32,
    prompt_batches: u32,
    #[comptime] has_prompt: bool,
    #[comptime] want_qkv: bool,
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
    let first_head = kv_head * group;
    let of_prompt = rows as usize * heads;

    let mut query = Shared::<[f32]>::new_slice(comptime!(tile.query_words()));
    let mut d_head = Shared::<[f32]>::new_slice(comptime!(tile.query_words()));
    let mut key = Shared::<[f32]>::new_slice(comptime!(tile.key_words()));
    let mut value = Shared::<[f32]>::new_slice(comptime!(tile.key_words()));
    let mut scores = Shared::<[f32]>::new_slice(comptime!(tile.score_words()));
    // Of each query: log-sum-exp and delta, of the path and of the prompt.
    let mut stats = Shared::<[f32]>::new_slice(comptime!(tile.stat_words()));
    let mut score = Array::<f32>::new(comptime!(tile.queries * tile.keys / UNITS));
    let mut d_weight = Array::<f32>::new(comptime!(tile.queries * tile.keys / UNITS));

    load_queries(
        qkv,
        angles,
        &mut query,
        first,
        count,
        own_row,
        group,
        first_head * head_dim,
        width,
        scale,
        true,
        tile,
    );
    load_queries(
        d_out,
        angles,
        &mut d_head,
        first,
        count,
        own_row,
        group,
        first_head * head_dim,
        heads * head_dim,
        1.0f32,
        false,
        tile,
    );
    let unit = UNIT_POS as usize;
    let unit_query = first + unit;
    let has_query = unit < comptime!(tile.queries) && unit_query < count;
    let unit_head = first_head + unit_query % group;
    let unit_at = (own_row + unit_query / group) * heads + unit_head;
    if unit < comptime!(tile.queries) {
        stats[unit] = 0.0f32;
        stats[unit + comptime!(tile.queries)] = 0.0f32;
        stats[unit + comptime!(2 * tile.queries)] = 0.0f32;
        stats[unit + comptime!(3 * tile.queries)] = 0.0f32;
    }
    if has_query {
        let mut product = 0.0f32;
        for d in 0..head_dim {
            product += out[unit_at * head_dim + d] * d_out[unit_at * head_dim + d];
        }
        stats[unit] = lse[unit_at];
        stats[unit + comptime!(tile.queries)] = product;
        if has_prompt {
            stats[unit + comptime!(2 * tile.queries)] = lse[of_prompt + unit_at];
        }
    }

    let mut batch = 0usize;
    let mut prompt_end = 0usize;
    if has_prompt {
        prompt_end = tables[entry + 4] as usize;
        if prompt_end > prompt_len as usize {
            prompt_end = prompt_len as usize;
        }
        if prompt_batches > 1 {
            batch = sequence;
        }
    }
    let prompt_start = (batch * kv_heads + kv_head) * prompt_len as usize * head_dim;
    let first_gate = batch * heads + first_head;

    if has_prompt {
        let mut k = 0usize;
        while k < prompt_end {
            load_prompt(prompt_key, &mut key, prompt_start, k, prompt_end, tile);
            load_prompt(prompt_value, &mut value, prompt_start, k, prompt_end, tile);
            sync_cube();
            products(&query, &key, &mut score, tile);
            products(&d_head, &value, &mut d_weight, tile);
            score_gradients(
                &mut score, &d_weight, &stats, gate, first_gate, first, count, group, 0usize,
                window, k, prompt_end, false, true, tile,
            );
            store_scores(&mut scores, &score, tile);
            sync_cube();
            if unit < comptime!(tile.queries) {
                let mut delta = stats[unit + comptime!(3 * tile.queries)];
                for i in 0..comptime!(tile.keys) {
                    delta += scores[unit * comptime!(tile.score_stride()) + i];
                }
                stats[unit + comptime!(3 * tile.queries)] = delta;
            }
            sync_cube();
            k += comptime!(tile.keys);
        }
        if has_query {
            let delta = stats[unit + comptime!(3 * tile.queries)];
            stats[unit + comptime!(tile.queries)] -= gate[batch * heads + unit_head] * delta;
            deltas[of_prompt + unit_at] = delta;
        }
    }
    if has_query {
        deltas[unit_at] = stats[unit + comptime!(tile.queries)];
    }

    if want_qkv {
        let sums_len = comptime!(tile.queries / SIDE * tile.columns());
        let mut sums = Array::<f32>::new(sums_len);
        clear(&mut sums, sums_len);
        if has_prompt {
            sync_cube();
            let mut k = 0usize;
            while k < prompt_end {
                load_prompt(prompt_key, &mut key, prompt_start, k, prompt_end, tile);
                load_prompt(prompt_value, &mut value, prompt_start, k, prompt_end, tile);
                sync_cube();
                products(&query, &key, &mut score, tile);
                products(&d_head, &value, &mut d_weight, tile);
                score_gradients(
                    &mut score, &d_weight, &stats, gate, first_gate, first, count, group, 0usize,
                    window, k, prompt_end, false, false, tile,
                );
                store_scores(&mut scores, &score, tile);
                sync_cube();
                add_weighted_values(&scores, &key, &mut sums, tile);
                sync_cube();
                k += comptime!(tile.keys);
            }
        }
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
            load_path(
                qkv,
                angles,
                tables,
                &mut value,
                path,
                k,
                end,
                value_column,
                width,
                false,
                tile,
            );
            sync_cube();
            products(&query, &key, &mut score, tile);
            products(&d_head, &value, &mut d_weight, tile);
            score_gradients(
                &mut score,
                &d_weight,
                &stats,
                gate,
                first_gate,
                first,
                count,
                group,
                first_position,
                window,
                k,
                end,
                true,
                false,
                tile,
            );
            store_scores(&mut scores, &score, tile);
            sync_cube();
            add_weighted_values(&scores, &key, &mut sums, tile);
            sync_cube();
            k += comptime!(tile.keys);
        }
        store_sums(&mut query, &sums, comptime!(tile.queries), tile);
        sync_cube();
        write_unrotated(
            &query,
            angles,
            d_qkv,
            first,
            count,
            own_row,
            group,
            first_head * head_dim,
            width,
            scale,
            comptime!(tile.queries),
            tile,
        );
    }
}

/// Turns this unit's scores into their gradients; with `products_only` into weights times their
/// gradients, whose sum over the keys is the delta.
///
/// The path's are `causal`. Those of the prompt have the second half of `stats`, and the gate as a
/// factor.
#[cube]
fn score_gradients(
    score: &mut Array<f32>,
    d_weight: &Array<f32>,
    stats: &Shared<[f32]>,
    gate: &[f32],
    first_gate: usize,
    first: usize,
    count: usize,
    group: usize,
    first_position: usize,
    window: usize,
    first_key: usize,
    end: usize,
    #[comptime] causal: bool,
    #[comptime] products_only: bool,
    #[comptime] tile: Tile,
) {
    let columns = comptime!(tile.keys / SIDE);
    let y = UNIT_POS as usize / SIDE;
    let x = UNIT_POS as usize % SIDE;
    let offset = comptime!(if causal { 0 } else { 2 * tile.queries });
    #[unroll]
    for i in 0..comptime!(tile.queries / SIDE) {
        let q = y + i * SIDE;
        let query = first + q;
        let (from, to) =
            visible_positions(query, count, group, first_position, window, end, causal);
        let lse = stats[offset + q];
        let delta = stats[offset + q + comptime!(tile.queries)];
        let mut factor = 1.0f32;
        if comptime!(!causal && !products_only) {
            factor = gate[first_gate + query % group];
        }
        #[unroll]
        for j in 0..columns {
            let k = first_key + x + j * SIDE;
            let mut gradient = 0.0f32;
            if k >= from && k < to {
                let weight = (score[i * columns + j] - lse).exp();
                if products_only {
                    gradient = weight * d_weight[i * columns + j];
                } else {
                    gradient = factor * weight * (d_weight[i * columns + j] - delta);
                }
            }
            score[i * columns + j] = gradient;
        }
    }
}
