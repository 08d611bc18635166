//! The rows of a training run, and the features of their images.

use std::path::{Path, PathBuf};

use adaption_prompt::{AdapterSummary, ImageConfig};
use communicator::Communicator;
use train::data::{ConversationRows, RowReport};
use train::{FineTuningMethod, ImageFeatureCache, RowStore, TrainConfig};

use super::Args;
use crate::data_args::{RowRequest, finish_rejects};
use crate::error::Error;
use crate::failure::Result;
use crate::image_conditioning::PromptSpec;
use crate::image_features::{count_images, warn_ignored_images};
use crate::model::BaseModel;
use crate::warnings::warn_unknown_settings;

/// Training and held-out rows, and the counts of skipped and changed rows.
pub(super) struct TrainingData {
    pub train_rows: RowStore,
    pub eval_rows: RowStore,
    pub report: RowReport,
}

impl Args {
    /// Reads the rows; without --data those of `built_in`.
    pub(super) fn rows(
        &self,
        built_in: &built_in::Dataset,
        conversations: ConversationRows,
        notify: &dyn Fn(&str),
    ) -> Result<TrainingData> {
        /// Default of `--eval-fraction`.
        const HELD_OUT: f64 = 0.1;
        let rejects = self.row_options.reject_file()?;
        let read = |sources: &[PathBuf], split| {
            let images = self.row_images.image_folder.as_deref();
            let request =
                RowRequest { images, split, conversations, rejects: rejects.as_ref(), notify };
            self.row_options.stream_rows(sources, request)
        };
        let (rows, mut report) = match &self.data[..] {
            [] => (built_in.train()?.into(), RowReport::default()),
            sources => read(sources, "train")?,
        };
        let (train_rows, eval_rows) = if let Some(path) = &self.eval_data {
            let (eval_rows, eval_report) = read(std::slice::from_ref(path), "val")?;
            report.merge(eval_report);
            (rows, eval_rows)
        } else if self.data.is_empty() && self.eval_fraction.is_none() {
            (rows, built_in.test()?.into())
        } else {
            let fraction = self.eval_fraction.unwrap_or(HELD_OUT);
            rows.split(fraction, self.seed.unwrap_or(0))?
        };
        if !self.writes_nothing {
            finish_rejects(rejects.as_ref(), notify)?;
        }
        Ok(TrainingData { train_rows, eval_rows, report })
    }

    /// The image config of the adapter of `--from-adapter`, if that is multimodal.
    pub(super) fn initial_image_config(&self) -> Result<Option<ImageConfig>> {
        let summary = self.from_adapter.as_deref().map(AdapterSummary::read).transpose()?;
        if let Some(path) = &self.from_adapter
            && !self.quiet
        {
            warn_unknown_settings(path);
        }
        Ok(summary.and_then(|summary| summary.image))
    }

    /// The features of all images of the rows, if the adapter is to be multimodal. Adds the image
    /// config to a new adapter's config.
    pub(super) fn image_features(
        &self,
        base: &BaseModel,
        initial_image: Option<&ImageConfig>,
        data: &mut TrainingData,
        config: &mut TrainConfig,
        ranks: &dyn Communicator,
        notify: &dyn Fn(&str),
    ) -> Result<Option<ImageFeatureCache>> {
        let extractor = match (initial_image, self.encoder.source(notify)?) {
            (Some(_), _) if self.image_conditioning.is_any_given() => {
                let message = "the image options are fixed by the adapter in --from-adapter";
                return Err(Error::usage(message).into());
            }
            (Some(image), _) => self.encoder.feature_extractor(&[image], &base.device, notify)?,
            (None, Some(source)) => {
                let FineTuningMethod::Adapter(adapter) = &mut config.method else {
                    return Err(Error::usage("--method full does not support images").into());
                };
                let prompts = adapter.prompts.clone().unwrap_or_default();
                let spec = PromptSpec {
                    adapter_len: prompts.adapter_len,
                    d_model: base.llama.config().d_model,
                    gate: prompts.gate,
                    activation: prompts.activation,
                };
                let path = self.encoder.image_encoder.as_deref().unwrap_or(Path::new(""));
                let name = path.display().to_string();
                let (extractor, image) =
                    self.image_conditioning.load(&source, &name, spec, &base.device)?;
                adapter.image = Some(image);
                Some(extractor)
            }
            (None, None) => None,
        };
        let TrainingData { train_rows, eval_rows, report } = data;
        let Some(extractor) = extractor else {
            warn_ignored_images(train_rows, notify)?;
            return Ok(None);
        };
        if count_images(train_rows)? == 0 && self.from_adapter.is_none() {
            return Err(Error::usage("no training row has an image").into());
        }
        let rows = &mut [train_rows, eval_rows];
        let device = &base.device;
        self.row_images.encode_images(&extractor, rows, report, device, ranks, notify).map(Some)
    }
}
