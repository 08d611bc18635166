//! Attention and its gradients in f64, one element at a time, with all scores in memory.

use super::super::inputs::{AttentionDims, AttentionInputs};

/// Outputs of the forward pass, and gradients for a given `d_out`.
#[derive(Debug, Default)]
pub struct Reference {
    pub out: Vec<f64>,
    pub lse: Vec<f64>,
    pub d_qkv: Vec<f64>,
    pub d_key: Vec<f64>,
    pub d_value: Vec<f64>,
    pub d_gate: Vec<f64>,
}

/// A head of one row, rotated by `direction` times the row's angles.
fn rotated(inputs: &AttentionInputs, from: &[f64], row: usize, direction: f64) -> Vec<f64> {
    let head_dim = inputs.heads.head_dim;
    let Some(rotation) = inputs.rotation else { return from.to_vec() };
    let half = head_dim / 2;
    let angle = |i: usize| {
        let at = row * half + i % half;
        (f64::from(rotation.cos[at]), direction * f64::from(rotation.sin[at]))
    };
    (0..head_dim)
        .map(|i| {
            let (cos, sin) = angle(i);
            if i < half {
                from[i] * cos - from[i + half] * sin
            } else {
                from[i] * cos + from[i - half] * sin
            }
        })
        .collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}

fn to_f64(from: &[f32]) -> Vec<f64> {
    from.iter().map(|&x| f64::from(x)).collect()
}

/// Softmax weights and log-sum-exp of scores.
fn softmax(scores: &[f64]) -> (Vec<f64>, f64) {
    let top = scores.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = scores.iter().map(|score| (score - top).exp()).sum();
    (scores.iter().map(|score| (score - top).exp() / sum).collect(), top + sum.ln())
}

/// The outputs for sequences without a past, and the gradients if there is a `d_out`.
pub fn reference(inputs: &AttentionInputs, d_out: Option<&[f32]>) -> Reference {
    let AttentionDims { heads, kv_heads, head_dim } = inputs.heads;
    let (group, qkv_width) = (heads / kv_heads, (heads + 2 * kv_heads) * head_dim);
    let rows = inputs.qkv.len() / qkv_width;
    let scale = 1.0 / (head_dim as f64).sqrt();
    let qkv = to_f64(inputs.qkv);
    let head_of = |row: usize, head: usize| &qkv[row * qkv_width + head * head_dim..][..head_dim];
    let prompt =
        inputs.prompts.stacked().map(|p| (p, to_f64(p.key), to_f64(p.value), to_f64(p.gate)));
    let mut found = Reference {
        out: vec![0.0; rows * heads * head_dim],
        lse: vec![0.0; rows * heads],
        d_qkv: vec![0.0; rows * qkv_width],
        ..Reference::default()
    };
    if let Some((_, key, value, gate)) = &prompt {
        found.d_key = vec![0.0; key.len()];
        found.d_value = vec![0.0; value.len()];
        found.d_gate = vec![0.0; gate.len()];
    }
    for (index, sequence) in inputs.sequences.iter().enumerate() {
        for (position, head) in (0..sequence.len).flat_map(|q| (0..heads).map(move |h| (q, h))) {
            let row = sequence.first_row + position;
            let kv_head = head / group;
            let query = rotated(inputs, head_of(row, head), row, 1.0);
            let visible: Vec<usize> = (0..=position)
                .filter(|&k| {
                    if position < sequence.padding {
                        k == position
                    } else {
                        k >= sequence.padding
                            && inputs.window.is_none_or(|window| position - k < window)
                    }
                })
                .collect();
            let key = |k: usize| {
                let row = sequence.first_row + k;
                rotated(inputs, head_of(row, heads + kv_head), row, 1.0)
            };
            let value = |k: usize| head_of(sequence.first_row + k, heads + kv_heads + kv_head);
            let scores: Vec<_> = visible.iter().map(|&k| scale * dot(&query, &key(k))).collect();
            let (weights, lse) = softmax(&scores);
            let at = row * heads + head;
            found.lse[at] = lse;
            let out = &mut found.out[at * head_dim..][..head_dim];
            for (&k, weight) in visible.iter().zip(&weights) {
                add(out, *weight, value(k));
            }
            let mut d_query = vec![0.0; head_dim];
            let d_out = d_out.map(|d_out| to_f64(&d_out[at * head_dim..][..head_dim]));
            if let Some(d_out) = &d_out {
                let part = dot(d_out, out);
                for (&k, weight) in visible.iter().zip(&weights) {
                    let d_score = scale * weight * (dot(d_out, value(k)) - part);
                    add(&mut d_query, d_score, &key(k));
                    let row = sequence.first_row + k;
                    let d_key: Vec<_> = query.iter().map(|q| d_score * q).collect();
                    let d_key = rotated(inputs, &d_key, row, -1.0);
                    let start = row * qkv_width + (heads + kv_head) * head_dim;
                    add(&mut found.d_qkv[start..][..head_dim], 1.0, &d_key);
                    let start = start + kv_heads * head_dim;
                    add(&mut found.d_qkv[start..][..head_dim], *weight, d_out);
                }
            }
            if let Some((prompt, keys, values, gates)) = &prompt {
                let batch = if prompt.batches == 1 { 0 } else { index };
                let len = prompt.lens.map_or(prompt.len, |lens| lens[batch]);
                let start = |k: usize| ((batch * kv_heads + kv_head) * prompt.len + k) * head_dim;
                let key = |k: usize| &keys[start(k)..][..head_dim];
                let value = |k: usize| &values[start(k)..][..head_dim];
                let gate = gates[batch * heads + head];
                let scores: Vec<_> = (0..len).map(|k| scale * dot(&query, key(k))).collect();
                let (weights, _) = softmax(&scores);
                let mut attention = vec![0.0; head_dim];
                for (k, weight) in weights.iter().enumerate() {
                    add(&mut attention, *weight, value(k));
                }
                add(out, gate, &attention);
                if let Some(d_out) = &d_out {
                    let part = dot(d_out, &attention);
                    found.d_gate[batch * heads + head] += part;
                    for (k, weight) in weights.iter().enumerate() {
                        let d_score = scale * gate * weight * (dot(d_out, value(k)) - part);
                        add(&mut d_query, d_score, key(k));
                        add(&mut found.d_key[start(k)..][..head_dim], d_score, &query);
                        add(&mut found.d_value[start(k)..][..head_dim], gate * weight, d_out);
                    }
                }
            }
            let d_query = rotated(inputs, &d_query, row, -1.0);
            add(&mut found.d_qkv[row * qkv_width + head * head_dim..][..head_dim], 1.0, &d_query);
        }
    }
    found
}
