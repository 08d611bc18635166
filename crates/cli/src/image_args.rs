//! `--image-encoder` and the options of the rows' images

use std::path::{Path, PathBuf};

use adaption_prompt::ImageConfig;
use burn::tensor::Device;
use clap::ValueEnum;
use vision::{EncoderSource, FeatureExtractor};

use crate::error::Error;
use crate::failure::Result;
use crate::warnings::unknown_settings_message;

/// The image encoder.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Images")]
pub struct EncoderArgs {
    /// Frozen image encoder: a Hugging Face CLIP or DINOv2 folder, an OpenAI CLIP checkpoint, or the
    /// built-in tiny-vit. For multimodal adapters the default is the encoder used in training, at its
    /// recorded path.
    #[arg(long, value_name = "PATH")]
    pub image_encoder: Option<PathBuf>,
}

/// The images of rows.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Images")]
pub struct RowImageArgs {
    /// Base folder of relative image paths [default: the folder of the data file].
    #[arg(long, value_name = "DIR")]
    pub image_folder: Option<PathBuf>,
    /// Unreadable images: fail before training or evaluation starts, or skip their rows and report
    /// the count.
    #[arg(long, value_enum, default_value_t, value_name = "POLICY")]
    pub broken_images: BrokenImageChoice,
}

/// The values of `--broken-images`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum BrokenImageChoice {
    #[default]
    #[value(alias = "stop")]
    Fail,
    Skip,
}

/// Whether a path is the name of the built-in image encoder. An existing file or folder of that
/// name takes precedence.
fn is_built_in(path: &Path) -> bool {
    path == Path::new(built_in::IMAGE_ENCODER_NAME) && !path.exists()
}

impl EncoderArgs {
    /// The encoder of `--image-encoder`. Warnings about unknown settings go to `notify`.
    pub fn source(&self, notify: &dyn Fn(&str)) -> Result<Option<EncoderSource>> {
        Ok(self.image_encoder.as_deref().map(|path| open_encoder(path, notify)).transpose()?)
    }

    /// The feature extractor that the image configs of an adapter or a mix require; `None` without
    /// any image config.
    pub fn feature_extractor(
        &self,
        images: &[&ImageConfig],
        device: &Device,
        notify: &dyn Fn(&str),
    ) -> Result<Option<FeatureExtractor>> {
        let Some(first) = images.first() else { return Ok(None) };
        let info = first.encoder.as_ref();
        let Some(info) =
            info.filter(|info| images.iter().all(|image| image.encoder.as_ref() == Some(info)))
        else {
            return Err(Error::usage_with_hint(
                "the adapters of this mix use different image encoders",
                "use a single adapter",
            )
            .into());
        };
        let path = self.image_encoder.as_deref().unwrap_or(Path::new(&info.name));
        if !path.exists() && !is_built_in(path) {
            return Err(Error::usage_with_hint(
                format!("the adapter's image encoder was not found: {}", path.display()),
                "pass its path with --image-encoder",
            )
            .into());
        }
        let source = open_encoder(path, notify)?;
        let width = info.spec.width(source.config())?;
        if width != first.features {
            return Err(vision::Error::EncoderMismatch { name: info.name.clone() }.into());
        }
        let extractor = FeatureExtractor::load(&source, info.spec.clone(), device)?;
        info.check(&extractor)?;
        Ok(Some(extractor))
    }
}

fn open_encoder(path: &Path, notify: &dyn Fn(&str)) -> vision::Result<EncoderSource> {
    if is_built_in(path) {
        return built_in::image_encoder();
    }
    let source = EncoderSource::open(path)?;
    if let Some(message) = unknown_settings_message(source.unknown_keys()) {
        notify(&format!("{}: {message}", path.display()));
    }
    Ok(source)
}
