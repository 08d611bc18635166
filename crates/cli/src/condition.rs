//! `train`'s options for how images are seen ─► [`ImageConfig`]

use adaption_prompt::{Gate, GateActivation, ImageConfig, ImageFusion, ImageProjectorConfig};
use burn::tensor::Device;
use clap::ValueEnum;
use vision::{EncoderSource, FeatureExtractor, FeatureSpec, HiddenState};

use crate::error::Error;
use crate::failure::Result;

/// How images join the adapter. Each option needs `--image-encoder`.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Images")]
#[expect(clippy::struct_field_names, reason = "the names of the options")]
pub struct ImageConditioningArgs {
    /// How an image becomes tokens: one of the whole image at several scales, as in the paper; or
    /// those of learned queries that look at every part of it, as in the original multi-modal
    /// release [default: global].
    #[arg(long, value_enum, requires = "image_encoder")]
    image_form: Option<FormChoice>,
    /// Make images the prompts of the first N layers, which have gates of their own, instead of
    /// adding them to the prompts of adapted layers: the early fusion of LLaMA-Adapter V2.
    #[arg(long, value_name = "N", requires = "image_encoder", value_parser = clap::value_parser!(u16).range(1..))]
    image_layers: Option<u16>,
    /// Pixels a side at which images are looked at; fewer are faster, more show more [default: the
    /// encoder's own].
    #[arg(long, value_name = "PIXELS", requires = "image_encoder")]
    image_size: Option<usize>,
    /// States of the encoder that are looked at, separated by commas: numbers of its layers, normed
    /// (behind the last one) or projected (CLIP's shared space) [default: with global a quarter, a
    /// half and three quarters of the way up, and normed; with queries the last].
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = state, requires = "image_encoder")]
    image_states: Vec<HiddenState>,
    /// Width inside what makes tokens of an image [default: 256, or the model's own if that is less].
    #[arg(long, value_name = "N", requires = "image_encoder")]
    image_width: Option<usize>,
    /// Blocks in which queries look at an image [default: 2].
    #[arg(long, value_name = "N", requires = "image_encoder")]
    image_blocks: Option<usize>,
    /// Heads of such a block [default: 4].
    #[arg(long, value_name = "N", requires = "image_encoder")]
    image_heads: Option<usize>,
    /// What the gate starts at that an image passes before it is added to prompts; at 0 training
    /// starts from what prompts do without images [default: 1].
    #[arg(long, value_name = "X", requires = "image_encoder", conflicts_with = "image_layers")]
    image_gate: Option<f64>,
}

/// The choices of `--image-form`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormChoice {
    Global,
    Queries,
}

/// What a user calls a state of an encoder.
fn state(text: &str) -> Result<HiddenState, String> {
    match text {
        "normed" => Ok(HiddenState::Normed),
        "projected" => Ok(HiddenState::Projected),
        layer => {
            let layer = layer.parse().map_err(|_| "expected a number, normed or projected");
            Ok(HiddenState::Layer(layer?))
        }
    }
}

impl ImageConditioningArgs {
    /// Layers whose prompts images are to be.
    pub fn image_layers(&self) -> usize {
        self.image_layers.unwrap_or(0).into()
    }

    /// Whether anything was asked for.
    pub fn any(&self) -> bool {
        self.image_form.is_some()
            || self.image_layers.is_some()
            || self.image_size.is_some()
            || !self.image_states.is_empty()
            || self.image_width.is_some()
            || self.image_blocks.is_some()
            || self.image_heads.is_some()
            || self.image_gate.is_some()
    }

    /// Loads the encoder as it is to be read, and says how its features join the adapter.
    pub fn load(
        &self,
        source: &EncoderSource,
        name: &str,
        prompts: PromptSpec,
        device: &Device,
    ) -> Result<(FeatureExtractor, ImageConfig)> {
        const WIDTH: usize = 256;
        let form = self.image_form.unwrap_or(FormChoice::Global);
        if form == FormChoice::Global && (self.image_blocks.is_some() || self.image_heads.is_some())
        {
            return Err(Error::Usage {
                message: "--image-blocks and --image-heads belong to --image-form queries".into(),
                hint: None,
            }
            .into());
        }
        let config = source.config();
        let size = self.image_size.unwrap_or(source.preprocessing().image_size);
        let mut reading = match form {
            FormChoice::Global => FeatureSpec::global(config, size),
            FormChoice::Queries => FeatureSpec::all_tokens(config, size),
        };
        if !self.image_states.is_empty() {
            reading.states.clone_from(&self.image_states);
        }
        let features = reading.width(config)?;
        let width = self.image_width.unwrap_or(WIDTH.min(prompts.d_model));
        let form = match form {
            FormChoice::Global => ImageProjectorConfig::Global { hidden: width },
            FormChoice::Queries => ImageProjectorConfig::Queries {
                count: prompts.adapter_len,
                width,
                blocks: self.image_blocks.unwrap_or(2),
                heads: self.image_heads.unwrap_or(4),
            },
        };
        let fusion = match self.image_layers {
            Some(layers) => ImageFusion::Early {
                layers: layers.into(),
                gate: prompts.gate,
                activation: prompts.activation,
            },
            None => ImageFusion::Prompts { gate: self.image_gate.unwrap_or(1.0) },
        };
        let viewer = FeatureExtractor::load(source, reading, device)?;
        let encoder = Some(viewer.info(name)?);
        Ok((viewer, ImageConfig { features, form, fusion, encoder }))
    }
}

/// What an image condition must know of the prompts beside it.
#[derive(Debug, Clone, Copy)]
pub struct PromptSpec {
    pub adapter_len: usize,
    pub d_model: usize,
    pub gate: Gate,
    pub activation: GateActivation,
}
