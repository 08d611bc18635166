//! The adapters that are evaluated, with the features of the rows' images.

use adaption_prompt::{AdapterSet, AdapterStatus};
use llama::Llama;
use text::{PromptFormat, PromptTemplate};
use train::data::RowReport;
use train::{ImageFeatureCache, Instruction, MultimodalAdapter, RowStore};
use vision::EncoderInfo;

use super::args::Args;
use crate::failure::Result;
use crate::image_features::warn_ignored_images;
use crate::model::BaseModel;
use crate::output::note;

/// An adapter with its image features.
pub struct EvaluatedAdapter<'a> {
    pub name: String,
    pub adapter: MultimodalAdapter<'a>,
    /// How its prompts are made.
    pub prompt: PromptFormat,
}

/// The features of the rows' images, once per image encoder.
pub struct ImageFeatureSets {
    sets: Vec<(Option<EncoderInfo>, ImageFeatureCache)>,
    /// The set of each adapter; `None` for text adapters.
    set_indices: Vec<Option<usize>>,
}

/// Whether any of the adapters is multimodal.
pub fn any_multimodal(adapters: &AdapterSet) -> Result<bool> {
    for AdapterStatus { name, .. } in adapters.statuses() {
        if !adapters.get(&name)?.image_configs().is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

impl ImageFeatureSets {
    /// For rows without images.
    pub fn without_images(adapters: &AdapterSet) -> Self {
        Self { sets: Vec::new(), set_indices: vec![None; adapters.statuses().len()] }
    }

    /// Encodes the rows' images with the encoder of each adapter.
    pub fn encode(
        args: &Args,
        adapters: &AdapterSet,
        rows: &mut Vec<Instruction>,
        report: &mut RowReport,
        base: &BaseModel,
    ) -> Result<Self> {
        let mut sets: Vec<(Option<EncoderInfo>, ImageFeatureCache)> = Vec::new();
        let mut set_indices = Vec::new();
        for AdapterStatus { name, .. } in adapters.statuses() {
            let images = adapters.get(&name)?.image_configs();
            let info = images.first().and_then(|image| image.encoder.clone());
            let index = sets.iter().position(|(other, _)| info.is_some() && *other == info);
            let extractor = match index {
                Some(_) => None,
                None => args.encoder.feature_extractor(&images, &base.device, &note)?,
            };
            set_indices.push(match extractor {
                Some(extractor) => {
                    let mut store = RowStore::from(std::mem::take(rows));
                    let groups = &mut [&mut store];
                    let features = args.row_images.encode_images(
                        &extractor,
                        groups,
                        report,
                        &base.device,
                        &communicator::Alone,
                        &note,
                    )?;
                    *rows = store.to_vec()?;
                    sets.push((info, features));
                    Some(sets.len() - 1)
                }
                None => index,
            });
        }
        if sets.is_empty() {
            warn_ignored_images(&rows.as_slice().into(), &note)?;
        }
        Ok(Self { sets, set_indices })
    }

    /// All adapters with their features.
    pub fn evaluated_adapters<'a>(
        &'a self,
        args: &Args,
        adapters: &AdapterSet,
        llama: &'a Llama,
    ) -> Result<Vec<EvaluatedAdapter<'a>>> {
        let formats = args.prompt_formats()?;
        let pairs = adapters.statuses().into_iter().zip(&self.set_indices);
        let evaluated = pairs.map(|(AdapterStatus { name, .. }, index)| {
            let features = index.map(|index| &self.sets[index].1);
            let adapter = MultimodalAdapter::new(llama, adapters.get(&name)?.clone(), features);
            let prompt = formats.of_or(Some(&name), PromptTemplate::Alpaca);
            Ok(EvaluatedAdapter { name, adapter, prompt })
        });
        evaluated.collect()
    }
}
