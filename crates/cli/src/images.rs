//! what `--image-encoder` and its companions say ─► pictures looked at

use std::collections::{BTreeMap, HashSet};
use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};

use adaption_prompt::{AdapterSet, ImageBatch, ImageConfig, PreparedAdapter};
use burn::tensor::Device;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use train::data::{DropReason, RowReport};
use train::{ImageFeatureCache, Instruction};
use vision::{EncoderSource, FeatureExtractor, read_image};

use crate::adapters::unknown;
use crate::error::Error;
use crate::failure::Result;
use crate::model::Base;
use crate::output::note;

/// Which image encoder.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Images")]
pub struct EncoderArgs {
    /// The frozen encoder that looks at images: a folder of a CLIP or a DINOv2 as Hugging Face has
    /// them, a file in OpenAI's layout, or tiny-vit, which is built in. With an adapter that sees
    /// images the default is the one that it learned with, where it was then.
    #[arg(long, value_name = "PATH")]
    pub image_encoder: Option<PathBuf>,
}

/// Images that rows name.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Images")]
pub struct RowImageArgs {
    /// Folder that the images' paths begin in [default: that of the file which names them].
    #[arg(long, value_name = "DIR")]
    pub image_folder: Option<PathBuf>,
    /// What to do if images cannot be read: stop before the work begins, or leave out the rows that
    /// name them and say how many.
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    broken_images: Broken,
}

/// The choices of `--broken-images`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Broken {
    #[default]
    Stop,
    Skip,
}

/// An encoder that is part of this program.
mod built_in {
    pub const NAME: &str = "tiny-vit";
    pub const CONFIG: &str = include_str!("../../../assets/tiny-vit/config.json");
    pub const WEIGHTS: &[u8] = include_bytes!("../../../assets/tiny-vit/model.safetensors");
    pub const PREPROCESSING: &str =
        include_str!("../../../assets/tiny-vit/preprocessor_config.json");
}

/// Whether a path is the built-in encoder's name; a file or folder of that name comes first.
fn is_built_in(path: &Path) -> bool {
    path == Path::new(built_in::NAME) && !path.exists()
}

/// Opens an encoder; `tell` hears of settings that nobody knows.
fn open(path: &Path, tell: &dyn Fn(&str)) -> vision::Result<EncoderSource> {
    if is_built_in(path) {
        use built_in::{CONFIG, PREPROCESSING, WEIGHTS};
        return EncoderSource::from_embedded(CONFIG, WEIGHTS, PREPROCESSING);
    }
    let source = EncoderSource::open(path)?;
    if let Some(words) = unknown(source.unknown_keys()) {
        tell(&format!("{}: {words}", path.display()));
    }
    Ok(source)
}

impl EncoderArgs {
    /// The encoder that was asked for.
    pub fn source(&self, tell: &dyn Fn(&str)) -> Result<Option<EncoderSource>> {
        Ok(self.image_encoder.as_deref().map(|path| open(path, tell)).transpose()?)
    }

    /// The encoder of adapters that see images, ready to look; none, if none of them does.
    pub fn viewer(
        &self,
        images: &[&ImageConfig],
        device: &Device,
        tell: &dyn Fn(&str),
    ) -> Result<Option<FeatureExtractor>> {
        let Some(first) = images.first() else { return Ok(None) };
        let info = first.encoder.as_ref();
        let Some(info) =
            info.filter(|info| images.iter().all(|own| own.encoder.as_ref() == Some(info)))
        else {
            return Err(Error::Usage {
                message: "the adapters of this mix see images through different encoders".into(),
                hint: Some("use one of them alone".into()),
            }
            .into());
        };
        let path = self.image_encoder.as_deref().unwrap_or(Path::new(&info.name));
        if !path.exists() && !is_built_in(path) {
            return Err(Error::Usage {
                message: format!(
                    "the adapter sees images through an encoder that is not here: {}",
                    path.display()
                ),
                hint: Some("say where it is with --image-encoder".into()),
            }
            .into());
        }
        let source = open(path, tell)?;
        let width = info.spec.width(source.config())?;
        if width != first.features {
            return Err(vision::Error::EncoderMismatch { name: info.name.clone() }.into());
        }
        let viewer = FeatureExtractor::load(&source, info.spec.clone(), device)?;
        info.check(&viewer)?;
        Ok(Some(viewer))
    }
}

impl RowImageArgs {
    /// Looks at every image that rows name; rows whose image cannot be read end the run or are left
    /// out, as was asked for, and counted in `report`.
    pub fn look(
        &self,
        viewer: &FeatureExtractor,
        groups: &mut [&mut Vec<Instruction>],
        report: &mut RowReport,
        device: &Device,
        tell: &dyn Fn(&str),
    ) -> Result<ImageFeatureCache> {
        let rows = groups.iter().flat_map(|rows| rows.iter());
        let count = rows.filter_map(|row| row.image.as_deref()).collect::<HashSet<_>>().len();
        let style = ProgressStyle::with_template("looking at images {wide_bar} {pos}/{len} {eta}")
            .expect("a valid template");
        let bar = ProgressBar::new(count as u64).with_style(style);
        if !stderr().is_terminal() && count > 0 {
            tell(&format!("looking at {count} images"));
        }
        let rows = groups.iter().flat_map(|rows| rows.iter());
        let found =
            ImageFeatureCache::encode(viewer, rows, device, &mut |more| bar.inc(more as u64));
        bar.finish_and_clear();
        let (pictures, broken) = found?;
        if broken.is_empty() {
            return Ok(pictures);
        }
        let told = broken.iter().take(TOLD).map(|own| format!("\n  {}", own.error));
        let mut message = format!("{} of {count} images cannot be read", broken.len());
        message += &told.collect::<String>();
        if broken.len() > TOLD {
            message += "\n  ...";
        }
        if self.broken_images == Broken::Stop {
            let hint = Some("--broken-images skip leaves out the rows that name them".into());
            return Err(Error::Usage { message, hint }.into());
        }
        let before = groups.iter().map(|rows| rows.len()).sum::<usize>();
        for rows in groups.iter_mut() {
            for row in rows.extract_if(.., |row| !pictures.has_image_of(row)) {
                report.drop_row(DropReason::BrokenImage, row.image.as_deref().unwrap_or_default());
            }
        }
        let after = groups.iter().map(|rows| rows.len()).sum::<usize>();
        tell(&format!("{message}\n{} of {before} rows are left out", before - after));
        if after == 0 {
            return Err(Error::Usage { message: "no row is left".into(), hint: None }.into());
        }
        Ok(pictures)
    }
}

/// Broken images that a message names.
const TOLD: usize = 5;

/// Says that images are not looked at, where rows name some.
pub fn warn_ignored_images(rows: &[Instruction], tell: &dyn Fn(&str)) {
    let count = rows.iter().filter(|row| row.image.is_some()).count();
    if count > 0 {
        tell(&format!("{count} rows name images, which nobody looks at: see --image-encoder"));
    }
}

/// Looks at single images for adapters; an encoder that was loaded once stays.
pub struct ImageConditioner<'a> {
    encoder: &'a EncoderArgs,
    base: &'a Base,
    viewers: BTreeMap<String, FeatureExtractor>,
}

impl<'a> ImageConditioner<'a> {
    pub fn new(encoder: &'a EncoderArgs, base: &'a Base) -> Self {
        Self { encoder, base, viewers: BTreeMap::new() }
    }

    /// An adapter, seeing an image; `None` is the base, which sees none.
    pub fn prepare(
        &mut self,
        adapters: &AdapterSet,
        name: Option<&str>,
        image: &Path,
    ) -> Result<PreparedAdapter> {
        let blind = |what: String| Error::Usage {
            message: format!("{what} does not see images"),
            hint: Some("give an --adapter that was trained with --image-encoder".into()),
        };
        let name = name.ok_or_else(|| blind("the base model".into()))?;
        let adapter = adapters.get(name)?;
        if !self.viewers.contains_key(name) {
            let viewer = self.encoder.viewer(&adapter.image_configs(), &self.base.device, &note)?;
            let viewer = viewer.ok_or_else(|| blind(format!("the adapter {name}")))?;
            self.viewers.insert(name.to_owned(), viewer);
        }
        let features = self.viewers[name].encode(&[read_image(image)?]);
        Ok(adapter.prepare_with_images(&self.base.llama, &ImageBatch::single(features)))
    }
}
