//! hidden ─► q k v ─► (norm ─►) rotary ─► causal attention ─► + adapter ─► output projection

use burn::module::Module;
use burn::tensor::{
    Bool, Device, Tensor, TensorData, module::attention, ops::AttentionModuleOptions,
};

use crate::config::Branch;
use crate::linear::Linear;
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
    pub(crate) branch: Branch,
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
pub struct Pass {
    /// `None` where positions are learned.
    pub(crate) rotation: Option<Rotation>,
    /// Embeddings of the positions, `[batch or 1, seq, d_model]`, where they are learned.
    pub(crate) positions: Option<Tensor<3>>,
    /// `[batch or 1, 1, seq, past + seq]`, true where attention is forbidden; `None`: plain causal.
    pub(crate) mask: Option<Tensor<4, Bool>>,
    /// The same for the layers that look back without a window.
    pub(crate) full_mask: Option<Tensor<4, Bool>>,
    /// How many such layers there are, at the bottom.
    pub(crate) full_layers: usize,
}

impl Pass {
    fn rotate(&self, heads: Tensor<4>) -> Tensor<4> {
        match &self.rotation {
            Some(rotation) => rotation.apply(heads),
            None => heads,
        }
    }

    fn mask(&self, layer: usize) -> Option<Tensor<4, Bool>> {
        if layer < self.full_layers { self.full_mask.clone() } else { self.mask.clone() }
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
        let project =
            |name, linear| self.split(adapter.linear(layer, name, prompt.clone(), linear));
        PromptKv {
            key: normed(self.key_norm.as_ref(), project(LinearName::Key, &self.key)),
            value: project(LinearName::Value, &self.value),
        }
    }

    /// # Shapes
    /// - `hidden` and output: `[batch, seq, d_model]`
    pub(crate) fn forward(
        &self,
        layer: usize,
        hidden: Tensor<3>,
        pass: &Pass,
        cache: Option<(&mut LayerCache, usize)>,
        adapter: &dyn Adapter,
    ) -> Tensor<3> {
        let project =
            |name, linear| self.split(adapter.linear(layer, name, hidden.clone(), linear));
        let query = normed(self.query_norm.as_ref(), project(LinearName::Query, &self.query));
        let key = normed(self.key_norm.as_ref(), project(LinearName::Key, &self.key));
        let (query, key) = (pass.rotate(query), pass.rotate(key));
        let value = project(LinearName::Value, &self.value);
        let (key, value) = match cache {
            Some((cache, past)) => cache.append(past, key, value),
            None => (key, value),
        };

        let mut heads = grouped_attention(query.clone(), key, value, pass.mask(layer));
        let branch = adapter.attention(layer, &query);
        let behind = match (branch, self.branch) {
            (Some(branch), Branch::BeforeOutput) => {
                heads = heads + branch;
                None
            }
            (behind, _) => behind,
        };
        let output = adapter.linear(layer, LinearName::Output, join(heads), &self.output);
        match behind {
            Some(branch) => output + join(branch),
            None => output,
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
