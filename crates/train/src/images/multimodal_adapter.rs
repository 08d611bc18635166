//! An adapter for a batch: the batch's images ─► features ─► the adapter of its rows.

use std::cell::OnceCell;

use adaption_prompt::{AnyAdapter, PreparedAdapter};
use llama::{Adapter, Llama};

use super::image_feature_cache::ImageFeatureCache;
use crate::data::Batch;

/// An adapter that depends on the images of a batch.
///
/// Every [`Adapter`] is one that ignores images; [`MultimodalAdapter`] uses them.
pub trait BatchAdapter {
    /// The adapter of a batch whose rows have images with these names.
    fn for_images<'a>(&'a self, images: &[Option<&str>]) -> Box<dyn Adapter + 'a>;

    /// The adapter of a batch.
    fn for_batch<'a>(&'a self, batch: &Batch) -> Box<dyn Adapter + 'a> {
        self.for_images(&batch.image_names())
    }
}

impl<A: Adapter> BatchAdapter for A {
    fn for_images<'a>(&'a self, _images: &[Option<&str>]) -> Box<dyn Adapter + 'a> {
        Box::new(self)
    }
}

/// An adapter with image conditioning, and the features of the images that rows may name.
#[derive(Debug)]
pub struct MultimodalAdapter<'a> {
    llama: &'a Llama,
    adapter: AnyAdapter,
    image_features: Option<&'a ImageFeatureCache>,
    /// For batches without images, prepared once.
    text_only: OnceCell<PreparedAdapter>,
}

impl<'a> MultimodalAdapter<'a> {
    /// An adapter for batches of rows. Rows whose image is not in `image_features` are treated as
    /// rows without an image.
    pub fn new(
        llama: &'a Llama,
        adapter: impl Into<AnyAdapter>,
        image_features: Option<&'a ImageFeatureCache>,
    ) -> Self {
        Self { llama, adapter: adapter.into(), image_features, text_only: OnceCell::new() }
    }
}

impl BatchAdapter for MultimodalAdapter<'_> {
    fn for_images<'a>(&'a self, images: &[Option<&str>]) -> Box<dyn Adapter + 'a> {
        match self.image_features.and_then(|features| features.image_batch(images)) {
            Some(images) => Box::new(self.adapter.prepare_with_images(self.llama, &images)),
            None => Box::new(self.text_only.get_or_init(|| self.adapter.prepare(self.llama))),
        }
    }
}
