//! What the tensors are called: in Hugging Face's CLIP and DINOv2, and in OpenAI's CLIP.

use checkpoint::TensorSpec;

use crate::config::{Activation, EncoderConfig, EncoderFamily};

/// A layout of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// transformers' `CLIPModel`, `CLIPVisionModel`.
    Clip,
    /// transformers' `Dinov2Model`.
    Dinov2,
    /// OpenAI's `clip`, with q, k and v in one tensor.
    OpenAi,
}

impl Layout {
    /// Hugging Face's of a family.
    pub fn of_family(family: EncoderFamily) -> Self {
        match family {
            EncoderFamily::Clip => Self::Clip,
            EncoderFamily::Dinov2 => Self::Dinov2,
        }
    }

    /// What names of the encoder may begin with, the longest first.
    pub fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::Clip => &["vision_model.", ""],
            Self::Dinov2 => &["dinov2.", ""],
            Self::OpenAi => &["model.visual.", "visual.", ""],
        }
    }

    /// The name behind the prefix by which a layout is known.
    pub fn patches(self) -> &'static str {
        match self {
            Self::Clip => "embeddings.patch_embedding",
            Self::Dinov2 => "embeddings.patch_embeddings.projection",
            Self::OpenAi => "conv1",
        }
    }
}

/// Names of an encoder's parts in its files. Those of linear layers and norms lack `.weight` and
/// `.bias`.
#[derive(Debug)]
pub(crate) struct Names {
    layout: Layout,
    prefix: &'static str,
}

/// Those of a block.
#[derive(Debug)]
pub(crate) struct BlockNames {
    pub attention_norm: String,
    /// Query, key and value, or all of them in one: `in_proj_weight`, without a point.
    pub qkv: Result<[String; 3], String>,
    pub output: String,
    pub attention_layer_scale: Option<String>,
    pub mlp_norm: String,
    pub up: String,
    pub down: String,
    pub mlp_layer_scale: Option<String>,
}

impl Names {
    pub fn new(layout: Layout, prefix: &'static str) -> Self {
        Self { layout, prefix }
    }

    /// Whether a tensor of the files is the encoder's, by its name. Its projection is not counted.
    pub fn is_own(&self, name: &str) -> bool {
        /// Places that are counted, not learned; what only learning uses; the rest of a CLIP.
        const OTHERS: [&str; 5] =
            ["position_ids", "mask_token", "text_model.", "logit_scale", "text_projection"];
        let Some(rest) = name.strip_prefix(self.prefix) else { return false };
        name != self.projection() && !OTHERS.iter().any(|other| rest.contains(other))
    }

    fn own(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub fn class_token(&self) -> String {
        self.own(match self.layout {
            Layout::Clip => "embeddings.class_embedding",
            Layout::Dinov2 => "embeddings.cls_token",
            Layout::OpenAi => "class_embedding",
        })
    }

    pub fn positions(&self) -> String {
        self.own(match self.layout {
            Layout::Clip => "embeddings.position_embedding.weight",
            Layout::Dinov2 => "embeddings.position_embeddings",
            Layout::OpenAi => "positional_embedding",
        })
    }

    pub fn patches(&self) -> String {
        self.own(self.layout.patches())
    }

    /// The norm before the first block.
    pub fn input_norm(&self) -> Option<String> {
        match self.layout {
            // As transformers spells it.
            Layout::Clip => Some(self.own("pre_layrnorm")),
            Layout::Dinov2 => None,
            Layout::OpenAi => Some(self.own("ln_pre")),
        }
    }

    /// The norm behind the last block.
    pub fn final_norm(&self) -> String {
        self.own(match self.layout {
            Layout::Clip => "post_layernorm",
            Layout::Dinov2 => "layernorm",
            Layout::OpenAi => "ln_post",
        })
    }

    /// The way into the space shared with texts, where there may be one.
    pub fn projection(&self) -> String {
        match self.layout {
            Layout::OpenAi => self.own("proj"),
            // Beside the encoder, not in it.
            _ => "visual_projection.weight".into(),
        }
    }

    /// Whether the projection is kept as `[d_model, projection]`.
    pub fn projection_is_transposed(&self) -> bool {
        self.layout == Layout::OpenAi
    }

    pub fn block(&self, layer: usize, activation: Activation) -> BlockNames {
        let within = |name: &str| {
            self.own(&match self.layout {
                Layout::Clip => format!("encoder.layers.{layer}.{name}"),
                Layout::Dinov2 => format!("encoder.layer.{layer}.{name}"),
                Layout::OpenAi => format!("transformer.resblocks.{layer}.{name}"),
            })
        };
        match self.layout {
            Layout::Clip => BlockNames {
                attention_norm: within("layer_norm1"),
                qkv: Ok(["q", "k", "v"].map(|which| within(&format!("self_attn.{which}_proj")))),
                output: within("self_attn.out_proj"),
                attention_layer_scale: None,
                mlp_norm: within("layer_norm2"),
                up: within("mlp.fc1"),
                down: within("mlp.fc2"),
                mlp_layer_scale: None,
            },
            Layout::Dinov2 => {
                let [up, down] = match activation {
                    Activation::SwiGlu => ["mlp.weights_in", "mlp.weights_out"],
                    _ => ["mlp.fc1", "mlp.fc2"],
                };
                let qkv = ["query", "key", "value"];
                BlockNames {
                    attention_norm: within("norm1"),
                    qkv: Ok(qkv.map(|which| within(&format!("attention.attention.{which}")))),
                    output: within("attention.output.dense"),
                    attention_layer_scale: Some(within("layer_scale1.lambda1")),
                    mlp_norm: within("norm2"),
                    up: within(up),
                    down: within(down),
                    mlp_layer_scale: Some(within("layer_scale2.lambda1")),
                }
            }
            Layout::OpenAi => BlockNames {
                attention_norm: within("ln_1"),
                qkv: Err(within("attn.in_proj_")),
                output: within("attn.out_proj"),
                attention_layer_scale: None,
                mlp_norm: within("ln_2"),
                up: within("mlp.c_fc"),
                down: within("mlp.c_proj"),
                mlp_layer_scale: None,
            },
        }
    }

    /// Every tensor of the encoder but its projection, which may be absent.
    pub fn tensors(&self, config: &EncoderConfig) -> Vec<TensorSpec> {
        let &EncoderConfig { d_model, d_ff, patch_size, .. } = config;
        let places = config.grid(config.image_size).pow(2) + 1;
        let mut specs = Vec::new();
        let mut add = |name: String, shape: &[usize]| {
            specs.push(TensorSpec { name, shape: shape.to_vec() });
        };
        if self.layout == Layout::Dinov2 {
            add(self.class_token(), &[1, 1, d_model]);
            add(self.positions(), &[1, places, d_model]);
            add(format!("{}.bias", self.patches()), &[d_model]);
        } else {
            add(self.class_token(), &[d_model]);
            add(self.positions(), &[places, d_model]);
        }
        add(format!("{}.weight", self.patches()), &[d_model, 3, patch_size, patch_size]);
        let mut pair = |name: &str, shape: &[usize]| {
            add(format!("{name}.weight"), shape);
            add(format!("{name}.bias"), &shape[..1]);
        };
        if let Some(norm) = self.input_norm() {
            pair(&norm, &[d_model]);
        }
        pair(&self.final_norm(), &[d_model]);
        let up = if config.activation == Activation::SwiGlu { 2 * d_ff } else { d_ff };
        let mut others = Vec::new();
        for layer in 0..config.n_layers {
            let names = self.block(layer, config.activation);
            pair(&names.attention_norm, &[d_model]);
            match &names.qkv {
                Ok(each) => each.iter().for_each(|name| pair(name, &[d_model, d_model])),
                Err(all) => {
                    others.push((format!("{all}weight"), vec![3 * d_model, d_model]));
                    others.push((format!("{all}bias"), vec![3 * d_model]));
                }
            }
            pair(&names.output, &[d_model, d_model]);
            pair(&names.mlp_norm, &[d_model]);
            pair(&names.up, &[up, d_model]);
            pair(&names.down, &[d_model, d_ff]);
            for scale in [names.attention_layer_scale, names.mlp_layer_scale].into_iter().flatten()
            {
                others.push((scale, vec![d_model]));
            }
        }
        specs.extend(others.into_iter().map(|(name, shape)| TensorSpec { name, shape }));
        specs
    }
}
