//! hidden ─► q k v ─► (norm ─►) rotary ─► causal attention ─► + prompts ─► output projection
//!
//! On devices with fused kernels everything between the projections is one operation.

use burn::module::Module;
use burn::tensor::Tensor;
use kernels::{AttentionDims, FusedKvCache, GatedPrompt, SequenceLayout};

use super::adapter_hooks::Adapter;
use super::forward_context::ForwardContext;
use super::layer_cache::LayerCache;
use super::linear::{Linear, flatten_batch};
use super::norm::Norm;
use super::prompt_table::prompt_table;
use super::rotary::RotaryTensors;
use super::unfused_attention::grouped_query_attention;
use crate::config::{BranchPoint, LinearName};

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
    /// `[head_dim]`, applied to each query head separately.
    pub query_norm: Option<Norm>,
    /// `[head_dim]`, applied to each key head separately.
    pub key_norm: Option<Norm>,
    pub(crate) head_dim: usize,
    #[module(skip)]
    pub(crate) branch: BranchPoint,
    /// Positions that a token attends to, itself included; `None`: all.
    pub(crate) window: Option<usize>,
}

/// Keys and values of a prompt: normalized if the model normalizes keys, without rotary embedding.
#[derive(Debug, Clone)]
pub struct PromptKv {
    /// `[batch or 1, kv_heads, prompt, head_dim]`, f32.
    pub key: Tensor<4>,
    /// `[batch or 1, kv_heads, prompt, head_dim]`, f32.
    pub value: Tensor<4>,
}

impl Attention {
    /// Projects a prompt to keys and values with this layer's projections, as changed by `adapter`.
    ///
    /// No reference defines this for models with key norms. Here the prompt's keys are normalized too:
    /// without it, one prompt token with a long key could take the whole softmax.
    ///
    /// # Shapes
    /// - `prompt`: `[batch or 1, prompt, d_model]`, f32
    ///
    /// Source: arXiv 2303.16199, equation 6; no rotary embedding, as in every reference.
    pub fn project_prompt(
        &self,
        layer: usize,
        prompt: Tensor<3>,
        adapter: &dyn Adapter,
    ) -> PromptKv {
        let project = |name, linear: &Linear| {
            let adapted = adapter.linear(layer, name, &prompt, linear);
            self.split_heads(adapted.unwrap_or_else(|| linear.forward(prompt.clone())))
        };
        let key = apply_norm(self.key_norm.as_ref(), project(LinearName::Key, &self.key));
        let value = project(LinearName::Value, &self.value);
        // Contiguous with heads first, once: otherwise every decoded token would copy them.
        let [key, value] = [key, value].map(|heads| {
            let dims = heads.dims();
            heads.reshape([dims.iter().product::<usize>()]).reshape(dims)
        });
        PromptKv { key, value }
    }

    /// `residual` plus the attention's output for `hidden`.
    ///
    /// # Shapes
    /// - `residual`, `hidden` and output: `[batch, seq, d_model]`
    pub(crate) fn forward(
        &self,
        layer: usize,
        residual: Tensor<3>,
        hidden: Tensor<3>,
        context: &ForwardContext,
        cache: Option<&mut LayerCache>,
        adapter: &dyn Adapter,
    ) -> Tensor<3> {
        let (heads, after_output) = match (&context.layout, cache) {
            (Some(layout), None) => self.forward_fused(layer, hidden, layout, adapter),
            (Some(layout), Some(LayerCache::Fused(cache))) => {
                self.forward_fused_cached(layer, hidden, layout, cache, adapter)
            }
            (_, cache) => self.forward_unfused(layer, hidden, context, cache, adapter),
        };
        let output = match adapter.linear(layer, LinearName::Output, &heads, &self.output) {
            Some(adapted) => residual + adapted,
            None => self.output.forward_add(residual, heads),
        };
        match after_output {
            Some(branch) => output + branch,
            None => output,
        }
    }

    /// Heads, and the prompt branch to add after the output projection. Everything between the
    /// projections is one operation.
    fn forward_fused(
        &self,
        layer: usize,
        hidden: Tensor<3>,
        layout: &SequenceLayout,
        adapter: &dyn Adapter,
    ) -> (Tensor<3>, Option<Tensor<3>>) {
        let [batch, seq, _d_model] = hidden.dims();
        let dims = self.attention_dims();
        let qkv = self.project_qkv(layer, hidden, adapter);
        let prompts = adapter.prompts(layer);
        // The kernel takes one prompt. Further prompts of a mix, and prompts that are added after the
        // output projection, are computed with tensor operations.
        let (fused_prompt, other_prompts) = match (self.branch, prompts) {
            (BranchPoint::BeforeOutput, [first, others @ ..]) => (Some(first), others),
            _ => (None, prompts),
        };
        let query = (!other_prompts.is_empty()).then(|| {
            let query = qkv.clone().narrow(1, 0, dims.heads * dims.head_dim);
            let query = query.reshape([batch, seq, dims.heads, dims.head_dim]).swap_dims(1, 2);
            match &layout.rotary_table {
                Some(table) => {
                    RotaryTensors::from_table(table, [batch, seq], &query.device()).apply(query)
                }
                None => query,
            }
        });
        let heads = kernels::attention(qkv, dims, layout, self.window, fused_prompt);
        let heads = heads.reshape([batch, seq, dims.heads * dims.head_dim]);
        match query.map(|query| merge_heads(prompt_branches(other_prompts, &query))) {
            None => (heads, None),
            Some(branch) if self.branch == BranchPoint::BeforeOutput => (heads + branch, None),
            after_output => (heads, after_output),
        }
    }

    /// As [`forward_fused`](Self::forward_fused), for sequences whose keys and values are in a cache, with
    /// all prompts in the one operation.
    fn forward_fused_cached(
        &self,
        layer: usize,
        hidden: Tensor<3>,
        layout: &SequenceLayout,
        cache: &mut FusedKvCache,
        adapter: &dyn Adapter,
    ) -> (Tensor<3>, Option<Tensor<3>>) {
        let [batch, seq, _d_model] = hidden.dims();
        let dims = self.attention_dims();
        let qkv = self.project_qkv(layer, hidden, adapter);
        let prompts = prompt_table(adapter, layer, layout.sequences.len(), dims);
        let separate_branch =
            self.branch == BranchPoint::AfterOutput && !prompts.prompts.is_empty();
        let (heads, branch) = kernels::cached_attention(
            qkv,
            dims,
            layout,
            self.window,
            &prompts,
            separate_branch,
            cache,
        );
        let shape = [batch, seq, dims.heads * dims.head_dim];
        (heads.reshape(shape), branch.map(|branch| branch.reshape(shape)))
    }

    /// Concatenated queries, keys and values, normalized if the model does so,
    /// `[batch * seq, (heads + 2 kv_heads) head_dim]`.
    fn project_qkv(&self, layer: usize, hidden: Tensor<3>, adapter: &dyn Adapter) -> Tensor<2> {
        let names = [LinearName::Query, LinearName::Key, LinearName::Value];
        let linears = [&self.query, &self.key, &self.value];
        let mut adapted = Vec::with_capacity(3);
        for (name, linear) in names.into_iter().zip(linears) {
            adapted.push(adapter.linear(layer, name, &hidden, linear));
        }
        let has_norm = self.query_norm.is_some() || self.key_norm.is_some();
        if !has_norm
            && adapted.iter().all(Option::is_none)
            && let Some(concatenated) = Linear::forward_concat(&linears, &hidden)
        {
            return concatenated;
        }
        let norms = [self.query_norm.as_ref(), self.key_norm.as_ref(), None];
        let parts = adapted.into_iter().zip(linears).zip(norms).map(|((adapted, linear), norm)| {
            let part = adapted.unwrap_or_else(|| linear.forward(hidden.clone()));
            let part = flatten_batch(part);
            let Some(norm) = norm else { return part };
            let [rows, width] = part.dims();
            let heads = part.reshape([rows, width / self.head_dim, 1, self.head_dim]);
            norm.forward_heads(heads).reshape([rows, width])
        });
        Tensor::cat(parts.collect(), 1)
    }

    /// As [`forward_fused`](Self::forward_fused), with tensor operations that every device has.
    fn forward_unfused(
        &self,
        layer: usize,
        hidden: Tensor<3>,
        context: &ForwardContext,
        cache: Option<&mut LayerCache>,
        adapter: &dyn Adapter,
    ) -> (Tensor<3>, Option<Tensor<3>>) {
        let project = |name, linear: &Linear| {
            let adapted = adapter.linear(layer, name, &hidden, linear);
            self.split_heads(adapted.unwrap_or_else(|| linear.forward(hidden.clone())))
        };
        let query = apply_norm(self.query_norm.as_ref(), project(LinearName::Query, &self.query));
        let key = apply_norm(self.key_norm.as_ref(), project(LinearName::Key, &self.key));
        let (query, key) = (context.rotate(query), context.rotate(key));
        let value = project(LinearName::Value, &self.value);
        let in_rows = |key, value| {
            grouped_query_attention(query.clone(), key, value, context.masks.of(layer))
        };
        let heads = match (cache, &context.block_plan) {
            (None, None) => in_rows(key, value),
            (Some(LayerCache::Rows(rows)), None) => {
                let (key, value) = rows.append(context.past, key, value);
                in_rows(key, value)
            }
            (Some(LayerCache::Blocks(blocks)), Some(plan)) => {
                plan.attend(layer, query.clone(), key, value, blocks)
            }
            _ => unreachable!("the context belongs to another cache"),
        };
        let prompts = adapter.prompts(layer);
        if prompts.is_empty() {
            return (merge_heads(heads), None);
        }
        let branch = prompt_branches(prompts, &query);
        match self.branch {
            BranchPoint::BeforeOutput => (merge_heads(heads + branch), None),
            BranchPoint::AfterOutput => (merge_heads(heads), Some(merge_heads(branch))),
        }
    }

    fn attention_dims(&self) -> AttentionDims {
        let heads = |linear: &Linear| linear.weight.dims()[0] / self.head_dim;
        AttentionDims {
            heads: heads(&self.query),
            kv_heads: heads(&self.key),
            head_dim: self.head_dim,
        }
    }

    /// `[batch, seq, heads * head_dim] -> [batch, heads, seq, head_dim]`
    fn split_heads(&self, projected: Tensor<3>) -> Tensor<4> {
        let [batch, seq, width] = projected.dims();
        projected.reshape([batch, seq, width / self.head_dim, self.head_dim]).swap_dims(1, 2)
    }
}

/// `[batch, heads, seq, head_dim] -> [batch, seq, heads * head_dim]`
fn merge_heads(heads: Tensor<4>) -> Tensor<3> {
    let [batch, n_heads, seq, head_dim] = heads.dims();
    heads.swap_dims(1, 2).reshape([batch, seq, n_heads * head_dim])
}

/// Sum of the prompts' outputs, `[batch, heads, seq, head_dim]`; there is at least one prompt.
fn prompt_branches(prompts: &[GatedPrompt], query: &Tensor<4>) -> Tensor<4> {
    let branches = prompts.iter().map(|prompt| prompt.forward(query.clone()));
    branches.reduce(|sum, branch| sum + branch).expect("there is a prompt")
}

fn apply_norm(norm: Option<&Norm>, heads: Tensor<4>) -> Tensor<4> {
    match norm {
        Some(norm) => norm.forward_heads(heads),
        None => heads,
    }
}
