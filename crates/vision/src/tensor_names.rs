//! Tensor names of the supported checkpoints: Hugging Face's CLIP and DINOv2, and OpenAI's CLIP.

use crate::config::{Activation, EncoderFamily};

/// A naming scheme of checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckpointLayout {
    /// transformers' `CLIPModel` and `CLIPVisionModel`.
    Clip,
    /// transformers' `Dinov2Model`.
    Dinov2,
    /// OpenAI's `clip`, with query, key and value in one tensor.
    OpenAi,
}

impl CheckpointLayout {
    /// Hugging Face's layout of a family.
    pub fn for_family(family: EncoderFamily) -> Self {
        match family {
            EncoderFamily::Clip => Self::Clip,
            EncoderFamily::Dinov2 => Self::Dinov2,
        }
    }

    /// Possible prefixes of the encoder's tensors, the longest first.
    pub fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::Clip => &["vision_model.", ""],
            Self::Dinov2 => &["dinov2.", ""],
            Self::OpenAi => &["model.visual.", "visual.", ""],
        }
    }

    /// The patch embedding without prefix. It identifies the layout.
    pub fn patch_embedding(self) -> &'static str {
        match self {
            Self::Clip => "embeddings.patch_embedding",
            Self::Dinov2 => "embeddings.patch_embeddings.projection",
            Self::OpenAi => "conv1",
        }
    }
}

/// Names of an encoder's tensors in a checkpoint. Those of linear layers and norms lack `.weight` and
/// `.bias`.
#[derive(Debug)]
pub(crate) struct TensorNames {
    layout: CheckpointLayout,
    prefix: &'static str,
}

/// Names of a block's tensors.
#[derive(Debug)]
pub(crate) struct BlockTensorNames {
    pub attention_norm: String,
    pub qkv: QkvNames,
    pub output: String,
    pub attention_layer_scale: Option<String>,
    pub mlp_norm: String,
    pub up: String,
    pub down: String,
    pub mlp_layer_scale: Option<String>,
}

/// Names of the query, key and value projections.
#[derive(Debug)]
pub(crate) enum QkvNames {
    Separate([String; 3]),
    /// One tensor for all three: this name followed by `weight` or `bias`.
    Fused(String),
}

impl TensorNames {
    pub fn new(layout: CheckpointLayout, prefix: &'static str) -> Self {
        Self { layout, prefix }
    }

    pub fn layout(&self) -> CheckpointLayout {
        self.layout
    }

    /// Whether a tensor of the checkpoint belongs to the encoder.
    pub fn contains(&self, name: &str) -> bool {
        /// Buffers, parameters for training only, and the other half of CLIP.
        const IGNORED: [&str; 5] =
            ["position_ids", "mask_token", "text_model.", "logit_scale", "text_projection"];
        let is_ignored = |rest: &str| IGNORED.iter().any(|ignored| rest.contains(ignored));
        name == self.projection()
            || name.strip_prefix(self.prefix).is_some_and(|rest| !is_ignored(rest))
    }

    fn prefixed(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub fn class_token(&self) -> String {
        self.prefixed(match self.layout {
            CheckpointLayout::Clip => "embeddings.class_embedding",
            CheckpointLayout::Dinov2 => "embeddings.cls_token",
            CheckpointLayout::OpenAi => "class_embedding",
        })
    }

    pub fn position_embeddings(&self) -> String {
        self.prefixed(match self.layout {
            CheckpointLayout::Clip => "embeddings.position_embedding.weight",
            CheckpointLayout::Dinov2 => "embeddings.position_embeddings",
            CheckpointLayout::OpenAi => "positional_embedding",
        })
    }

    pub fn patch_embedding(&self) -> String {
        self.prefixed(self.layout.patch_embedding())
    }

    /// The norm before the first block, in CLIP.
    pub fn pre_norm(&self) -> Option<String> {
        match self.layout {
            // The spelling of transformers.
            CheckpointLayout::Clip => Some(self.prefixed("pre_layrnorm")),
            CheckpointLayout::Dinov2 => None,
            CheckpointLayout::OpenAi => Some(self.prefixed("ln_pre")),
        }
    }

    /// The norm after the last block.
    pub fn final_norm(&self) -> String {
        self.prefixed(match self.layout {
            CheckpointLayout::Clip => "post_layernorm",
            CheckpointLayout::Dinov2 => "layernorm",
            CheckpointLayout::OpenAi => "ln_post",
        })
    }

    /// The weight of the projection to CLIP's joint image-text space, which may be absent.
    pub fn projection(&self) -> String {
        match self.layout {
            CheckpointLayout::OpenAi => self.prefixed("proj"),
            // transformers keeps it outside of the encoder.
            CheckpointLayout::Clip | CheckpointLayout::Dinov2 => "visual_projection.weight".into(),
        }
    }

    /// Whether the projection is stored as `[d_model, projection]`.
    pub fn projection_is_transposed(&self) -> bool {
        self.layout == CheckpointLayout::OpenAi
    }

    pub fn block(&self, layer: usize, activation: Activation) -> BlockTensorNames {
        let in_block = |name: &str| {
            self.prefixed(&match self.layout {
                CheckpointLayout::Clip => format!("encoder.layers.{layer}.{name}"),
                CheckpointLayout::Dinov2 => format!("encoder.layer.{layer}.{name}"),
                CheckpointLayout::OpenAi => format!("transformer.resblocks.{layer}.{name}"),
            })
        };
        match self.layout {
            CheckpointLayout::Clip => BlockTensorNames {
                attention_norm: in_block("layer_norm1"),
                qkv: QkvNames::Separate(
                    ["q_proj", "k_proj", "v_proj"]
                        .map(|name| in_block(&format!("self_attn.{name}"))),
                ),
                output: in_block("self_attn.out_proj"),
                attention_layer_scale: None,
                mlp_norm: in_block("layer_norm2"),
                up: in_block("mlp.fc1"),
                down: in_block("mlp.fc2"),
                mlp_layer_scale: None,
            },
            CheckpointLayout::Dinov2 => {
                let [up, down] = match activation {
                    Activation::SwiGlu => ["mlp.weights_in", "mlp.weights_out"],
                    Activation::Gelu | Activation::QuickGelu => ["mlp.fc1", "mlp.fc2"],
                };
                BlockTensorNames {
                    attention_norm: in_block("norm1"),
                    qkv: QkvNames::Separate(
                        ["query", "key", "value"]
                            .map(|name| in_block(&format!("attention.attention.{name}"))),
                    ),
                    output: in_block("attention.output.dense"),
                    attention_layer_scale: Some(in_block("layer_scale1.lambda1")),
                    mlp_norm: in_block("norm2"),
                    up: in_block(up),
                    down: in_block(down),
                    mlp_layer_scale: Some(in_block("layer_scale2.lambda1")),
                }
            }
            CheckpointLayout::OpenAi => BlockTensorNames {
                attention_norm: in_block("ln_1"),
                qkv: QkvNames::Fused(in_block("attn.in_proj_")),
                output: in_block("attn.out_proj"),
                attention_layer_scale: None,
                mlp_norm: in_block("ln_2"),
                up: in_block("mlp.c_fc"),
                down: in_block("mlp.c_proj"),
                mlp_layer_scale: None,
            },
        }
    }
}
