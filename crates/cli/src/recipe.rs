//! What `train` and `eval` use when nothing is said: data and settings.

use std::path::Path;

use adaption_prompt::{AdaptedLayers, AdapterConfig, AdaptionPromptConfig};
use train::{FineTuningMethod, Instruction, TrainConfig};

use crate::error::Error;
use crate::failure::Result;
use crate::model::ModelArgs;

/// Rows that are part of this program, as JSON lines.
pub struct BuiltInDataset {
    name: &'static str,
    train: &'static str,
    test: &'static str,
}

const INSTRUCTIONS: BuiltInDataset = BuiltInDataset {
    name: "instructions",
    train: include_str!("../../../crates/built-in/assets/instructions/train.jsonl"),
    test: include_str!("../../../crates/built-in/assets/instructions/test.jsonl"),
};

/// Questions about pictures.
const PICTURES: BuiltInDataset = BuiltInDataset {
    name: "pictures",
    train: include_str!("../../../crates/built-in/assets/pictures/train.jsonl"),
    test: include_str!("../../../crates/built-in/assets/pictures/test.jsonl"),
};

impl BuiltInDataset {
    /// What suits an adapter that sees, or one that does not.
    pub fn of(sees: bool) -> &'static Self {
        if sees { &PICTURES } else { &INSTRUCTIONS }
    }

    /// Rows to learn from.
    pub fn train(&self) -> train::Result<Vec<Instruction>> {
        self.parse("train.jsonl", self.train)
    }

    /// Rows to check with.
    pub fn test(&self) -> train::Result<Vec<Instruction>> {
        self.parse("test.jsonl", self.test)
    }

    fn parse(&self, file: &str, text: &str) -> train::Result<Vec<Instruction>> {
        Instruction::parse(&Path::new("built-in").join(self.name).join(file), text)
    }
}

/// Refuses a model without data: the built-in instructions are about the built-in model's world.
pub fn require_data(model: &ModelArgs, option: &str) -> Result {
    if model.model.is_none() {
        return Ok(());
    }
    Err(Error::Usage {
        message: format!("{option} is needed with --model"),
        hint: Some(
            "give a JSON or JSON-lines file of rows with `instruction`, `input` and `output`; \
             the built-in instructions fit the built-in model only"
                .into(),
        ),
    }
    .into())
}

/// Prompts for a model of `n_layers` layers: the paper's, or what suits the built-in model. The first
/// `taken` layers have others.
pub fn prompts(n_layers: usize, built_in: bool, taken: usize) -> AdaptionPromptConfig {
    // The paper leaves the first two of 32 layers as they are.
    let untouched = taken.max(if built_in { 1 } else { 2 });
    let layers = AdaptedLayers::Last(n_layers.saturating_sub(untouched).max(1));
    AdaptionPromptConfig { layers, ..Default::default() }
}

/// Highest learning rate: what each method is usually trained with, or what suits the built-in
/// model.
pub fn learning_rate(method: &FineTuningMethod, built_in: bool) -> f64 {
    let (usual, of_built_in) = match method {
        FineTuningMethod::Full => (1e-4, 1e-3),
        FineTuningMethod::Adapter(AdapterConfig { v2: Some(_), .. }) => (3e-3, 1e-2),
        FineTuningMethod::Adapter(AdapterConfig { lora: Some(_), .. }) => (1e-3, 1e-2),
        FineTuningMethod::Adapter(_) => (TrainConfig::default().learning_rate, 3e-2),
    };
    if built_in { of_built_in } else { usual }
}
