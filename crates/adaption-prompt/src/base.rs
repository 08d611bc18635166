//! What is known of the base model of an adapter.

use llama::LlamaConfig;
use llama::config::{Architecture, ModelShape};
use llama::fingerprint::Fingerprint;

/// What is known of the base model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BaseInfo {
    /// Name or path, as the file gives it.
    pub name: Option<String>,
    /// Model family. It determines PEFT's module names.
    pub architecture: Option<&'static Architecture>,
    /// Shapes. Some formats cannot be written without them.
    pub sizes: Option<ModelShape>,
    /// Identifies the weights.
    pub fingerprint: Option<Fingerprint>,
}

impl BaseInfo {
    /// The family and shapes of a config.
    pub fn from_config(config: &LlamaConfig, name: Option<String>) -> Self {
        let sizes = Some(ModelShape::from(config));
        Self { name, architecture: Some(config.architecture), sizes, fingerprint: None }
    }
}
