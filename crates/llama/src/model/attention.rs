//! hidden ─► q k v ─► (norm ─►) rotary ─► causal attention ─► + prompts ─► output projection
//!
//! Where [`kernels`] has it, all between the projections is one operation.

use burn::module::Module;
use burn::tensor::{
    Bool, Device, Tensor, TensorData, module::attention, ops::AttentionModuleOptions,
};

use kernels::{AttentionDims, FusedKvCache, GatedPrompt, SequenceLayout};

use crate::config::BranchPoint;
use crate::linear::{self, Linear};
use crate::norm::Norm;
use crate::rotary::Rotation;
use crate::seam::{Adapter, LinearName};
use crate::state::LayerCache;

/// Grouped-query attention of a layer.
///
/// Source: arXiv 2305.13245.
#[derive(Module, Debug)]
pub struct Attention {
    /// `d_model -> heads * head_dim`.
    pub query: Linear,
    /// `d_model -> kv_heads * head_dim`.
    pub key: Linear,
    /// `d_model -> kv_heads * head_dim`.
    pub value: Linear,
    /// `heads * head_dim -> d_model`.
    pub output: Linear,
    /// `[head_dim]`, of each query by itself.
    pub query_norm: Option<Norm>,
    /// `[head_dim]`, of each key by itself.
    pub key_norm: Option<Norm>,
    pub(crate) head_dim: usize,
    #[module(skip)]
    pub(crate) branch: BranchPoint,
    /// Slots that a token sees, itself included; `None`: all.
    pub(crate) window: Option<usize>,
}

/// Frozen keys and values of a prompt: normed where the model's keys are, never rotated.
#[derive(Debug, Clone)]
pub struct PromptKv {
    /// `[batch or 1, kv_heads, prompt, head_dim]`, f32.
    pub key: Tensor<4>,
    /// `[batch or 1, kv_heads, prompt, head_dim]`, f32.
    pub value: Tensor<4>,
}

/// What all layers of one pass share.
#[derive(Debug, Clone)]
pub struct ForwardContext {
    /// The texts, where attention is fused; rotation and masks are `None` then.
    pub(crate) texts: Option<SequenceLayout>,
    /// `None` where positions are learned.
    pub(crate) rotation: Option<Rotation>,
    /// Embeddings of the positions, `[batch or 1, seq, d_model]`, where they are learned.
    pub(crate) positions: Option<Tensor<3>>,
    /// `[batch or 1, 1, seq, past + seq]`, true where attention is forbidden; `None`: plain causal.
    pub(crate) mask: Option<Tensor<4, Bool>>,
    /// The same for the layers that look back without a window.
    pub(crate) full_attention_mask: Option<Tensor<4, Bool>>,
    /// How many such layers there are, at the bottom.
    pub(crate) full_attention_layers: usize,
}

impl ForwardContext {
    fn rotate(&self, heads: Tensor<4>) -> Tensor<4> {
        match &self.rotation {
            Some(rotation) => rotation.apply(heads),
            None => heads,
        }
    }

    fn mask(&self, layer: usize) -> Option<Tensor<4, Bool>> {
        if layer < self.full_attention_layers {
            self.full_attention_mask.clone()
        } else {
            self.mask.clone()
        }
    }
}

impl Attention {
    /// Keys and values of a prompt, through this layer's projections as `adapter` changes them.
    ///
    /// # Shapes
    /// - `prompt`: `[batch or 1, prompt, d_model]`, f32
    ///
    /// No reference has a rule for models that norm their keys. Here a prompt's keys are normed
    /// too: queries are compared with keys of that length, and an unbounded prompt beside them
    /// would make a softmax of one prompt token.
    ///
    /// Source: arXiv 2303.16199, equation 6; no rotary embedding, as in every reference.
    pub fn project_prompt(
        &self,
        layer: usize,
        prompt: Tensor<3>,
        adapter: &dyn Adapter,
    ) -> PromptKv {
        let project = |name, linear: &Linear| {
            self.split(
                adapter
                    .linear(layer, name, &prompt, linear)
                    .unwrap_or_else(|| linear.forward(prompt.clone())),
            )
        };
        let key = normed(self.key_norm.as_ref(), project(LinearName::Key, &self.key));
        let value = project(LinearName::Value, &self.value);
        // Heads in front in memory too, once, or every token to come would copy them anew.
        let [key, value] = [key, value].map(|heads| {
            let dims = heads.dims();
            heads.reshape([dims.iter().product::<usize>()]).reshape(dims)
        });
        PromptKv { key, value }
    }

    /// `residual` plus what the layer's attention makes of `hidden`.
    ///
    /// # Shapes
    /// - `residual`, `hidden` and output: `[batch, seq, d_model]`
    pub(crate) fn forward(
        &self,
        layer: usize,
        residual: Tensor<3>,
        hidden: Tensor<3>,
        pass: &ForwardContext,
        cache: Option<(&mut LayerCache, usize)>,
        adapter: &dyn Adapter,
    ) -> Tensor<3> {
        let (heads, behind) = match (&pass.texts, cache) {
            (Some(texts), None) => self.fused(layer, hidden, texts, None, adapter),
            (Some(texts), Some((LayerCache::Fused(cache), _past))) => {
                self.fused(layer, hidden, texts, Some(cache), adapter)
            }
            (_, cache) => self.plain(layer, hidden, pass, cache, adapter),
        };
        let output = match adapter.linear(layer, LinearName::Output, &heads, &self.output) {
            Some(changed) => residual + changed,
            None => self.output.onto(residual, heads),
        };
        match behind {
            Some(branch) => output + branch,
            None => output,
        }
    }

    /// Heads, and what is added behind the output projection; one operation between the
    /// projections.
    fn fused(
        &self,
        layer: usize,
        hidden: Tensor<3>,
        texts: &SequenceLayout,
        cache: Option<&mut FusedKvCache>,
        adapter: &dyn Adapter,
    ) -> (Tensor<3>, Option<Tensor<3>>) {
        let [batch, seq, _d_model] = hidden.dims();
        let heads = self.heads();
        let qkv = self.projections(layer, hidden, adapter);
        let prompts = adapter.prompts(layer);
        // One prompt is a part of the operation. Those of a mix that are left go the plain way, as
        // do those of models that add them behind the projection.
        let (inside, outside) = match (self.branch, prompts) {
            (BranchPoint::BeforeOutput, [first, others @ ..]) => (Some(first), others),
            _ => (None, prompts),
        };
        let query = (!outside.is_empty()).then(|| {
            let query = qkv.clone().narrow(1, 0, heads.heads * heads.head_dim);
            let query = query.reshape([batch, seq, heads.heads, heads.head_dim]).swap_dims(1, 2);
            match &texts.rotary_table {
                Some(turns) => Rotation::of(turns, [batch, seq], &query.device()).apply(query),
                None => query,
            }
        });
        let attended = kernels::attention(qkv, heads, texts, self.window, inside, cache);
        let attended = attended.reshape([batch, seq, heads.heads * heads.head_dim]);
        match query.map(|query| join(branches(outside, &query))) {
            None => (attended, None),
            Some(branch) if self.branch == BranchPoint::BeforeOutput => (attended + branch, None),
            behind => (attended, behind),
        }
    }

    /// Queries, keys and values of each token side by side, normed where the model does that,
    /// `[batch * seq, (heads + 2 kv_heads) head_dim]`.
    fn projections(&self, layer: usize, hidden: Tensor<3>, adapter: &dyn Adapter) -> Tensor<2> {
        let names = [LinearName::Query, LinearName::Key, LinearName::Value];
        let linears = [&self.query, &self.key, &self.value];
        let mut changed = Vec::with_capacity(3);
        for (name, linear) in names.into_iter().zip(linears) {
            changed.push(adapter.linear(layer, name, &hidden, linear));
        }
        let normed = self.query_norm.is_some() || self.key_norm.is_some();
        if !normed
            && changed.iter().all(Option::is_none)
            && let Some(together) = Linear::together(&linears, &hidden)
        {
            return together;
        }
        let norms = [self.query_norm.as_ref(), self.key_norm.as_ref(), None];
        let parts = changed.into_iter().zip(linears).zip(norms).map(|((changed, linear), norm)| {
            let part = changed.unwrap_or_else(|| linear.forward(hidden.clone()));
            let part = linear::rows(part);
            let Some(norm) = norm else { return part };
            let [rows, width] = part.dims();
            let heads = part.reshape([rows, width / self.head_dim, 1, self.head_dim]);
            norm.heads(heads).reshape([rows, width])
        });
        Tensor::cat(parts.collect(), 1)
    }

    /// The same as [`fused`](Self::fused), of tensor operations that every device has.
    fn plain(
        &self,
        layer: usize,
        hidden: Tensor<3>,
        pass: &ForwardContext,
        cache: Option<(&mut LayerCache, usize)>,
        adapter: &dyn Adapter,
    ) -> (Tensor<3>, Option<Tensor<3>>) {
        let project = |name, linear: &Linear| {
            let changed = adapter.linear(layer, name, &hidden, linear);
            self.split(changed.unwrap_or_else(|| linear.forward(hidden.clone())))
        };
        let query = normed(self.query_norm.as_ref(), project(LinearName::Query, &self.query));
        let key = normed(self.key_norm.as_ref(), project(LinearName::Key, &self.key));
        let (query, key) = (pass.rotate(query), pass.rotate(key));
        let value = project(LinearName::Value, &self.value);
        let (key, value) = match cache {
            Some((LayerCache::Plain(cache), past)) => cache.append(past, key, value),
            Some((LayerCache::Fused(_), _)) => unreachable!("a fused cache has a fused pass"),
            None => (key, value),
        };
        let heads = grouped_attention(query.clone(), key, value, pass.mask(layer));
        let prompts = adapter.prompts(layer);
        if prompts.is_empty() {
            return (join(heads), None);
        }
        let branch = branches(prompts, &query);
        match self.branch {
            BranchPoint::BeforeOutput => (join(heads + branch), None),
            BranchPoint::AfterOutput => (join(heads), Some(join(branch))),
        }
    }

    fn heads(&self) -> AttentionDims {
        let heads = |linear: &Linear| linear.weight.dims()[0] / self.head_dim;
        AttentionDims {
            heads: heads(&self.query),
            kv_heads: heads(&self.key),
            head_dim: self.head_dim,
        }
    }

    /// `[batch, seq, heads * head_dim] -> [batch, heads, seq, head_dim]`
    fn split(&self, projected: Tensor<3>) -> Tensor<4> {
        let [batch, seq, width] = projected.dims();
        projected.reshape([batch, seq, width / self.head_dim, self.head_dim]).swap_dims(1, 2)
    }
}

/// `[batch, heads, seq, head_dim] -> [batch, seq, heads * head_dim]`
fn join(heads: Tensor<4>) -> Tensor<3> {
    let [batch, n_heads, seq, head_dim] = heads.dims();
    heads.swap_dims(1, 2).reshape([batch, seq, n_heads * head_dim])
}

/// What prompts add to the heads, `[batch, heads, seq, head_dim]` like the query; there is at least
/// one.
fn branches(prompts: &[GatedPrompt], query: &Tensor<4>) -> Tensor<4> {
    let branches = prompts.iter().map(|prompt| prompt.forward(query.clone()));
    branches.reduce(|sum, branch| sum + branch).expect("there is a prompt")
}

fn normed(norm: Option<&Norm>, heads: Tensor<4>) -> Tensor<4> {
    match norm {
        Some(norm) => norm.heads(heads),
        None => heads,
    }
}

/// Softmax attention in f32, each key and value head serving a group of query heads.
fn grouped_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    let [batch, heads, seq, head_dim] = query.dims();
    let [_batch, kv_heads, total, _head_dim] = key.dims();
    let group = heads / kv_heads;
    let options = |is_causal| AttentionModuleOptions { scale: None, softcap: None, is_causal };
    if seq == 1 {
        // One new token sees everything: the group becomes the rows of one product, and the
        // cache is read without a copy.
        let query = query.reshape([batch, kv_heads, group, head_dim]);
        let mask = mask.map(|mask| {
            let [mask_batch, _, _, _] = mask.dims();
            let mask: Tensor<4, Bool> = mask.expand([mask_batch, 1, group, total]);
            mask.expand([batch, kv_heads, group, total])
        });
        return attention(query, key, value, mask, None, options(false))
            .reshape([batch, heads, seq, head_dim]);
    }
    let repeat = |shared: Tensor<4>| {
        if group == 1 {
            return shared;
        }
        shared
            .unsqueeze_dim::<5>(2)
            .expand([batch, kv_heads, group, total, head_dim])
            .reshape([batch, heads, total, head_dim])
    };
    let is_causal = mask.is_none();
    let mask = mask.map(|mask| mask.expand([batch, heads, seq, total]));
    attention(query, repeat(key), repeat(value), mask, None, options(is_causal))
}

/// The mask of one pass, or `None` where plain causal attention says the same.
///
/// A query in slot `q` may look at slot `k` if `k <= q`, `k` is not padding of its row, and
/// `q - k < window`. A padding slot looks at itself alone, so that no softmax is empty.
pub(crate) fn causal_mask(
    padding: &[usize],
    past: usize,
    seq: usize,
    window: Option<usize>,
    device: &Device,
) -> Option<Tensor<4, Bool>> {
    let total = past + seq;
    let window = window.unwrap_or(usize::MAX);
    let padded = padding.iter().any(|&padding| padding > 0);
    if !padded && total <= window {
        return None;
    }
    let rows = if padded { padding } else { &[0] };
    let mut forbidden = Vec::with_capacity(rows.len() * seq * total);
    for &padding in rows {
        for q in past..total {
            forbidden.extend((0..total).map(|k| {
                let sees = k <= q && k >= padding && q - k < window;
                !(sees || k == q)
            }));
        }
    }
    let data = TensorData::new(forbidden, [rows.len(), 1, seq, total]);
    Some(Tensor::from_data(data, device))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(mask: Tensor<4, Bool>) -> Vec<String> {
        let [_batch, _one, _seq, total] = mask.dims();
        let cells = crate::read_back::read_back(mask).unwrap().iter::<bool>().collect::<Vec<_>>();
        cells
            .chunks(total)
            .map(|row| row.iter().map(|&forbidden| if forbidden { '.' } else { 'x' }).collect())
            .collect()
    }

    #[test]
    fn without_padding_or_window_plain_causal_attention_is_enough() {
        assert!(causal_mask(&[0, 0], 0, 4, Some(4), &testing::flex()).is_none());
    }

    #[test]
    fn a_window_hides_what_lies_further_back() {
        for device in testing::devices() {
            let mask = causal_mask(&[0], 0, 4, Some(2), &device).unwrap();
            assert_eq!(rows(mask), ["x...", "xx..", ".xx.", "..xx"]);
        }
    }

    #[test]
    fn padding_is_hidden_from_its_row_and_sees_itself() {
        for device in testing::devices() {
            let mask = causal_mask(&[1, 0], 0, 3, None, &device).unwrap();
            assert_eq!(rows(mask), ["x..", ".x.", ".xx", "x..", "xx.", "xxx"]);
        }
    }

    #[test]
    fn a_new_token_sees_the_past() {
        let mask = causal_mask(&[2, 0], 3, 1, None, &testing::flex()).unwrap();
        assert_eq!(rows(mask), ["..xx", "xxxx"]);
    }
}
