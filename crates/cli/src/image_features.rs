//! images ─► features of the frozen image encoder

use std::collections::{BTreeMap, HashSet};
use std::io::{IsTerminal, stderr};
use std::path::Path;

use adaption_prompt::{AdapterSet, ImageBatch, PreparedAdapter};
use burn::tensor::Device;
use communicator::Communicator;
use indicatif::{ProgressBar, ProgressStyle};
use train::data::{DropReason, RowReport};
use train::{ImageFeatureCache, RowStore};
use vision::{FeatureExtractor, read_image};

use crate::error::Error;
use crate::failure::Result;
use crate::image_args::{BrokenImageChoice, EncoderArgs, RowImageArgs};
use crate::model::BaseModel;
use crate::output::note;
use crate::text_table::list_first;

impl RowImageArgs {
    /// Encodes every image of the rows once, each rank a share of them. Rows with a broken image end the run, or are removed
    /// and counted in `report`, as `--broken-images` says.
    pub fn encode_images(
        &self,
        extractor: &FeatureExtractor,
        groups: &mut [&mut RowStore],
        report: &mut RowReport,
        device: &Device,
        ranks: &dyn Communicator,
        notify: &dyn Fn(&str),
    ) -> Result<ImageFeatureCache> {
        let mut images = HashSet::new();
        for row in groups.iter().flat_map(|rows| rows.iter()) {
            images.extend(row?.image.clone());
        }
        let count = images.len();
        drop(images);
        let style = ProgressStyle::with_template("encoding images {wide_bar} {pos}/{len} {eta}")
            .expect("a valid template");
        let bar = ProgressBar::new(count as u64).with_style(style);
        if !stderr().is_terminal() && count > 0 {
            notify(&format!("encoding {count} images"));
        }
        let mut failed = None;
        let rows = groups.iter().flat_map(|rows| rows.iter());
        let rows = rows.map_while(|row| row.map_err(|error| failed = Some(error)).ok());
        let mut progress = |more| bar.inc(more as u64);
        let encoded =
            ImageFeatureCache::encode_by_ranks(ranks, extractor, rows, device, &mut progress);
        bar.finish_and_clear();
        if let Some(error) = failed {
            return Err(error.into());
        }
        let (features, broken) = encoded?;
        if broken.is_empty() {
            return Ok(features);
        }
        let errors = broken.iter().map(|broken| &broken.error).collect::<Vec<_>>();
        let list = list_first(&errors, MAX_LISTED, "\n  ");
        let message = format!("{} of {count} images cannot be read\n  {list}", broken.len());
        if self.broken_images == BrokenImageChoice::Fail {
            return Err(Error::usage_with_hint(
                message,
                "--broken-images skip skips the rows with these images",
            )
            .into());
        }
        let before = groups.iter().map(|rows| rows.len()).sum::<usize>();
        for rows in groups.iter_mut() {
            **rows = rows.filter(|row| {
                let has_image = features.has_image_of(row);
                if !has_image {
                    let image = row.image.as_deref().unwrap_or_default();
                    report.drop_row(DropReason::BrokenImage, image);
                }
                has_image
            })?;
        }
        let after = groups.iter().map(|rows| rows.len()).sum::<usize>();
        notify(&format!("{message}\n{} of {before} rows skipped", before - after));
        if after == 0 {
            return Err(Error::usage("no rows remain").into());
        }
        Ok(features)
    }
}

/// Broken images in a message.
const MAX_LISTED: usize = 5;

/// Warns about rows with images if there is no image encoder.
pub fn warn_ignored_images(rows: &RowStore, notify: &dyn Fn(&str)) -> Result {
    let count = count_images(rows)?;
    if count > 0 {
        notify(&format!("{count} rows have images, which are ignored without --image-encoder"));
    }
    Ok(())
}

/// Number of rows with an image.
pub fn count_images(rows: &RowStore) -> Result<usize> {
    let mut count = 0;
    for row in rows.iter() {
        count += usize::from(row?.image.is_some());
    }
    Ok(count)
}

/// Prepares adapters with single images. Each adapter's encoder is loaded once.
pub struct ImageConditioner<'a> {
    encoder: &'a EncoderArgs,
    base: &'a BaseModel,
    extractors: BTreeMap<String, FeatureExtractor>,
}

impl<'a> ImageConditioner<'a> {
    pub fn new(encoder: &'a EncoderArgs, base: &'a BaseModel) -> Self {
        Self { encoder, base, extractors: BTreeMap::new() }
    }

    /// The adapter `name`, prepared with an image. Fails for the base model (`None`) and for
    /// adapters that are not multimodal.
    pub fn prepare(
        &mut self,
        adapters: &AdapterSet,
        name: Option<&str>,
        image: &Path,
    ) -> Result<PreparedAdapter> {
        let unsupported = |what: &str| {
            Error::usage_with_hint(
                format!("{what} does not support images"),
                "use an --adapter trained with --image-encoder",
            )
        };
        let name = name.ok_or_else(|| unsupported("the base model"))?;
        let adapter = adapters.get(name)?;
        if !self.extractors.contains_key(name) {
            let images = adapter.image_configs();
            let extractor = self.encoder.feature_extractor(&images, &self.base.device, &note)?;
            let extractor = extractor.ok_or_else(|| unsupported(&format!("the adapter {name}")))?;
            self.extractors.insert(name.to_owned(), extractor);
        }
        let features = self.extractors[name].encode(&[read_image(image)?]);
        Ok(adapter.prepare_with_images(&self.base.llama, &ImageBatch::single(features)))
    }
}
