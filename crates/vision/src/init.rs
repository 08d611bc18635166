//! a seed ─► a fresh encoder, to learn.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use llama::config::NormKind;
use llama::model::{Linear, Norm};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::block::{Attention, Block, Mlp};
use crate::config::{Activation, EncoderConfig, EncoderFamily};
use crate::encoder::Encoder;

impl Encoder {
    /// A fresh encoder for pictures of `image_size` pixels a side. On an autodiff device all of it
    /// can learn: every number is a parameter's. The same seed gives the same encoder anywhere.
    ///
    /// Matrices are drawn evenly from ±√(6 / (in + out)), the class token and the places from
    /// N(0, 0.02²); norms and scales are 1, biases 0.
    ///
    /// Source: arXiv 2010.11929, whose release draws so.
    ///
    /// # Panics
    /// If the picture's size is no multiple of a patch's, or the width none of the number of heads.
    pub fn init(config: &EncoderConfig, image_size: usize, seed: u64, device: &Device) -> Self {
        let &EncoderConfig { d_model, patch_size, n_heads, .. } = config;
        assert!(image_size > 0 && image_size.is_multiple_of(patch_size), "{image_size} pixels");
        assert!(d_model.is_multiple_of(n_heads), "{n_heads} heads");
        let mut fresh = Fresh { config, rng: ChaCha8Rng::seed_from_u64(seed), device };
        let is_clip = config.family == EncoderFamily::Clip;
        let places = config.grid(image_size).pow(2) + 1;
        Self {
            patches: fresh.linear([d_model, 3 * patch_size.pow(2)], !is_clip),
            class_token: fresh.tokens(1),
            positions: fresh.tokens(places),
            input_norm: is_clip.then(|| fresh.norm()),
            blocks: (0..config.n_layers).map(|_layer| fresh.block()).collect(),
            final_norm: fresh.norm(),
            projection: config.projection.map(|width| fresh.linear([width, d_model], false)),
            config: config.clone(),
            image_size,
        }
    }
}

struct Fresh<'a> {
    config: &'a EncoderConfig,
    rng: ChaCha8Rng,
    device: &'a Device,
}

impl Fresh<'_> {
    fn put<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }

    /// `[1, count, d_model]`
    fn tokens(&mut self, count: usize) -> Param<Tensor<3>> {
        const DEVIATION: f32 = 0.02;
        let shape = [1, count, self.config.d_model];
        let mut draw = || -> f32 { StandardNormal.sample(&mut self.rng) };
        let values = (0..count * self.config.d_model).map(|_| DEVIATION * draw()).collect();
        Param::from_tensor(self.put(values, shape))
    }

    fn linear(&mut self, [rows, columns]: [usize; 2], has_bias: bool) -> Linear {
        let most = (6.0 / (rows + columns) as f32).sqrt();
        let values = (0..rows * columns).map(|_| self.rng.random_range(-most..most)).collect();
        let bias = has_bias.then(|| Tensor::zeros([rows], self.device));
        Linear::new(self.put(values, [rows, columns]), bias)
    }

    fn norm(&self) -> Norm {
        let width = [self.config.d_model];
        let bias = Tensor::zeros(width, self.device);
        Norm::new(
            NormKind::Layer,
            Tensor::ones(width, self.device),
            Some(bias),
            self.config.norm_eps,
        )
    }

    fn block(&mut self) -> Block {
        let &EncoderConfig { family, d_model, d_ff, n_heads, activation, .. } = self.config;
        let scale = |own: &Self| {
            let ones = || Param::from_tensor(Tensor::ones([d_model], own.device));
            (family == EncoderFamily::Dinov2).then(ones)
        };
        let square = [d_model, d_model];
        let up = if activation == Activation::SwiGlu { 2 * d_ff } else { d_ff };
        Block {
            attention_norm: self.norm(),
            attention: Attention {
                query: self.linear(square, true),
                key: self.linear(square, true),
                value: self.linear(square, true),
                output: self.linear(square, true),
                n_heads,
            },
            attention_layer_scale: scale(self),
            mlp_norm: self.norm(),
            mlp: Mlp {
                up: self.linear([up, d_model], true),
                down: self.linear([d_model, d_ff], true),
                activation,
            },
            mlp_layer_scale: scale(self),
        }
    }
}
