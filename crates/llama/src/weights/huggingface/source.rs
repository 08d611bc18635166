//! Files with Hugging Face's tensor names as a [`TensorSource`].

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;
use checkpoint::{TensorSource, WeightFiles, equal_values};

use crate::config::{LlamaConfig, NamingScheme};
use crate::weights::TensorLayout;

/// A model's weights in files with Hugging Face's tensor names.
#[derive(Debug)]
pub struct HuggingFaceSource {
    files: WeightFiles,
    layout: TensorLayout,
}

impl HuggingFaceSource {
    /// Finds the tensors of `config` in the files. Unknown tensors keep their names, so that
    /// [`load`](crate::weights::load) reports them.
    pub fn new(files: WeightFiles, config: &LlamaConfig) -> Self {
        let layout = TensorLayout::new(config, NamingScheme::HuggingFace, files.shapes());
        Self { files, layout }
    }
}

impl TensorSource for HuggingFaceSource {
    fn path(&self) -> &Path {
        self.files.path()
    }

    fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.layout.shapes
    }

    fn read(&self, name: &str) -> checkpoint::Result<TensorData> {
        match self.layout.location(name) {
            Some(location) => Ok(location.extract(self.files.read(&location.name)?)),
            None => self.files.read(name),
        }
    }

    fn are_equal(&self, one: &str, other: &str) -> checkpoint::Result<bool> {
        let whole = |name: &str| match self.layout.location(name) {
            Some(location) => {
                let shape = self.files.shapes().get(&location.name)?;
                location.is_whole(shape).then(|| location.name.clone())
            }
            None => Some(name.to_owned()),
        };
        match (whole(one), whole(other)) {
            (Some(one), Some(other)) => self.files.are_equal(&one, &other),
            _ => Ok(equal_values(&self.read(one)?, &self.read(other)?)),
        }
    }

    fn name_in_file(&self, name: &str) -> String {
        self.layout.name_in_file(name)
    }
}
