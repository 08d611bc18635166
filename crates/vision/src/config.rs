//! Sizes of an encoder.

use checkpoint::settings::Fields;

use crate::block::BlockConfig;
use crate::error::Result;

/// A family of encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncoderFamily {
    /// Trained on images with captions: arXiv 2103.00020.
    Clip,
    /// Trained on images alone: arXiv 2304.07193.
    Dinov2,
}

/// Activation of a block's MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`, OpenAI's approximation of GELU.
    QuickGelu,
    /// The Gaussian error linear unit.
    Gelu,
    /// `silu(a) * b` of the two halves of the input.
    SwiGlu,
}

/// Sizes of an encoder.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EncoderConfig {
    /// Family, which determines the structure.
    pub family: EncoderFamily,
    /// Image size that the position embeddings were trained for, in pixels per side.
    pub image_size: usize,
    /// Pixels per side of a patch.
    pub patch_size: usize,
    /// Width of a token.
    pub d_model: usize,
    /// Hidden width of the MLP.
    pub d_ff: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Attention heads per block.
    pub n_heads: usize,
    /// Activation of the MLP.
    pub activation: Activation,
    /// Added to the variance in norms.
    pub norm_eps: f64,
    /// Width of CLIP's joint image-text space, if the checkpoint has the projection.
    pub projection: Option<usize>,
}

impl EncoderConfig {
    /// The defaults of `CLIPVisionConfig` and `Dinov2Config` in transformers: ViT-B/32 and ViT-B/14.
    pub fn for_family(family: EncoderFamily) -> Self {
        let (patch_size, activation, norm_eps) = match family {
            EncoderFamily::Clip => (32, Activation::QuickGelu, 1e-5),
            EncoderFamily::Dinov2 => (14, Activation::Gelu, 1e-6),
        };
        Self {
            family,
            image_size: 224,
            patch_size,
            d_model: 768,
            d_ff: 4 * 768,
            n_layers: 12,
            n_heads: 12,
            activation,
            norm_eps,
            projection: None,
        }
    }

    /// Patches per side of an image of `image_size` pixels.
    pub fn grid(&self, image_size: usize) -> usize {
        image_size / self.patch_size
    }

    /// Sizes of one block.
    pub(crate) fn block(&self) -> BlockConfig {
        BlockConfig {
            d_model: self.d_model,
            d_ff: self.d_ff,
            n_heads: self.n_heads,
            activation: self.activation,
            layer_scale: self.family == EncoderFamily::Dinov2,
            norm_eps: self.norm_eps,
        }
    }

    /// Refuses sizes that do not fit together; `fields` is the file, for messages.
    pub(crate) fn validate(self, fields: &Fields<'_>) -> Result<Self> {
        if self.n_heads == 0 || !self.d_model.is_multiple_of(self.n_heads) {
            let expected = "a divisor of the width";
            return Err(fields.unsupported("num_attention_heads", self.n_heads, expected).into());
        }
        if self.patch_size == 0 || !self.image_size.is_multiple_of(self.patch_size) {
            let expected = "a multiple of patch_size";
            return Err(fields.unsupported("image_size", self.image_size, expected).into());
        }
        if self.d_ff == 0 {
            return Err(fields.unsupported("width of the MLP", 0, "a positive number").into());
        }
        Ok(self)
    }
}
