//! Image conditioning options of `train` ─► [`ImageConfig`]

use adaption_prompt::{Gate, GateActivation, ImageConfig, ImageFusion, ImageProjectorConfig};
use burn::tensor::Device;
use clap::ValueEnum;
use vision::{EncoderSource, FeatureExtractor, FeatureSpec, HiddenState};

use crate::error::Error;
use crate::failure::Result;

/// How images condition the adapter. Each option needs `--image-encoder`.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Images")]
pub struct ImageConditioningArgs {
    /// Image projector: one token from multi-scale global features, as in the paper, or one token per
    /// learned visual query that cross-attends to all patches, as in the original multimodal release
    /// [default: global].
    #[arg(long, alias = "image-form", value_enum, requires = "image_encoder")]
    image_projector: Option<ImageProjectorChoice>,
    /// Early fusion (LLaMA-Adapter V2): use the image tokens as gated prompts of the first N layers
    /// instead of adding them to the adaption prompts.
    #[arg(long, alias = "image-layers", value_name = "N", requires = "image_encoder", value_parser = clap::value_parser!(u16).range(1..))]
    early_fusion_layers: Option<u16>,
    /// Input resolution of the image encoder in pixels per side; position embeddings are
    /// interpolated [default: the encoder's own].
    #[arg(long, value_name = "PIXELS", requires = "image_encoder")]
    image_size: Option<usize>,
    /// Encoder hidden states used as features, comma-separated: layer indices, normed (after the
    /// final norm) or projected (CLIP's joint embedding) [default: global: layers at 1/4, 1/2 and 3/4
    /// of the depth, and normed; queries: the last layer].
    #[arg(long, alias = "image-states", value_name = "LAYERS", value_delimiter = ',', value_parser = parse_hidden_state, requires = "image_encoder")]
    image_feature_layers: Vec<HiddenState>,
    /// Hidden size of the image projector [default: 256, at most the model's d_model].
    #[arg(long, alias = "image-width", value_name = "N", requires = "image_encoder")]
    image_hidden_size: Option<usize>,
    /// Transformer blocks of the visual queries [default: 2].
    #[arg(long, value_name = "N", requires = "image_encoder")]
    image_blocks: Option<usize>,
    /// Attention heads per block [default: 4].
    #[arg(long, value_name = "N", requires = "image_encoder")]
    image_heads: Option<usize>,
    /// Initial value of the gate that scales the image tokens before they are added to the prompts; 0
    /// starts training without image influence [default: 1].
    #[arg(
        long,
        value_name = "X",
        requires = "image_encoder",
        conflicts_with = "early_fusion_layers"
    )]
    image_gate: Option<f64>,
}

/// The values of `--image-projector`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ImageProjectorChoice {
    Global,
    Queries,
}

/// Parses a value of `--image-feature-layers`.
fn parse_hidden_state(text: &str) -> Result<HiddenState, String> {
    match text {
        "normed" => Ok(HiddenState::Normed),
        "projected" => Ok(HiddenState::Projected),
        layer => match layer.parse() {
            Ok(layer) => Ok(HiddenState::Layer(layer)),
            Err(_) => Err("expected a layer index, `normed` or `projected`".into()),
        },
    }
}

impl ImageConditioningArgs {
    /// Number of early-fusion layers; 0 without early fusion.
    pub fn early_fusion_layers(&self) -> usize {
        self.early_fusion_layers.unwrap_or(0).into()
    }

    /// Whether any option is given.
    pub fn is_any_given(&self) -> bool {
        self.image_projector.is_some()
            || self.early_fusion_layers.is_some()
            || self.image_size.is_some()
            || !self.image_feature_layers.is_empty()
            || self.image_hidden_size.is_some()
            || self.image_blocks.is_some()
            || self.image_heads.is_some()
            || self.image_gate.is_some()
    }

    /// Loads the encoder with the requested input size and hidden states, and returns the image
    /// config of the adapter. `name` is recorded as the encoder's path.
    pub fn load(
        &self,
        source: &EncoderSource,
        name: &str,
        prompts: PromptSpec,
        device: &Device,
    ) -> Result<(FeatureExtractor, ImageConfig)> {
        const MAX_HIDDEN: usize = 256;
        let choice = self.image_projector.unwrap_or(ImageProjectorChoice::Global);
        if choice == ImageProjectorChoice::Global
            && (self.image_blocks.is_some() || self.image_heads.is_some())
        {
            let message = "--image-blocks and --image-heads require --image-projector queries";
            return Err(Error::usage(message).into());
        }
        let config = source.config();
        let size = self.image_size.unwrap_or(source.preprocessing().image_size);
        let mut feature_spec = match choice {
            ImageProjectorChoice::Global => FeatureSpec::global(config, size),
            ImageProjectorChoice::Queries => FeatureSpec::all_tokens(config, size),
        };
        if !self.image_feature_layers.is_empty() {
            feature_spec.states.clone_from(&self.image_feature_layers);
        }
        let features = feature_spec.width(config)?;
        let hidden = self.image_hidden_size.unwrap_or(MAX_HIDDEN.min(prompts.d_model));
        let form = match choice {
            ImageProjectorChoice::Global => ImageProjectorConfig::Global { hidden },
            ImageProjectorChoice::Queries => ImageProjectorConfig::Queries {
                count: prompts.adapter_len,
                width: hidden,
                blocks: self.image_blocks.unwrap_or(2),
                heads: self.image_heads.unwrap_or(4),
            },
        };
        let fusion = match self.early_fusion_layers {
            Some(layers) => ImageFusion::Early {
                layers: layers.into(),
                gate: prompts.gate,
                activation: prompts.activation,
            },
            None => ImageFusion::Prompts { gate: self.image_gate.unwrap_or(1.0) },
        };
        let extractor = FeatureExtractor::load(source, feature_spec, device)?;
        let encoder = Some(extractor.info(name)?);
        Ok((extractor, ImageConfig { features, form, fusion, encoder }))
    }
}

/// The prompts that the image projector must match.
#[derive(Debug, Clone, Copy)]
pub struct PromptSpec {
    pub adapter_len: usize,
    pub d_model: usize,
    pub gate: Gate,
    pub activation: GateActivation,
}
