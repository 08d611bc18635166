//! Model, image encoder and data that are embedded in the program.

use std::path::Path;

use llama::ModelSource;
use train::Instruction;
use vision::EncoderSource;

use crate::failure::Result;

/// Name of the built-in model in an adapter's files.
pub const MODEL_NAME: &str = "tiny-llama";

/// Weights of the built-in model, a safetensors file.
pub const MODEL_WEIGHTS: &[u8] =
    include_bytes!("../../../crates/built-in/assets/tiny-llama/model.safetensors");

/// The built-in model, with its tokenizer.
pub fn model() -> Result<ModelSource> {
    let config = include_str!("../../../crates/built-in/assets/tiny-llama/config.json");
    let tokenizer = include_bytes!("../../../crates/built-in/assets/tiny-llama/tokenizer.json");
    let tokenizer_config =
        include_str!("../../../crates/built-in/assets/tiny-llama/tokenizer_config.json");
    let source = ModelSource::embedded(config, MODEL_WEIGHTS, tokenizer)?;
    Ok(source.with_tokenizer_config(tokenizer_config))
}

/// Whether a path is the name of the built-in image encoder. An existing file or folder of that
/// name takes precedence.
pub fn is_image_encoder(path: &Path) -> bool {
    path == Path::new("tiny-vit") && !path.exists()
}

/// The built-in image encoder, `tiny-vit`.
pub fn image_encoder() -> vision::Result<EncoderSource> {
    EncoderSource::from_embedded(
        include_str!("../../../crates/built-in/assets/tiny-vit/config.json"),
        include_bytes!("../../../crates/built-in/assets/tiny-vit/model.safetensors"),
        include_str!("../../../crates/built-in/assets/tiny-vit/preprocessor_config.json"),
    )
}

/// A built-in dataset, as JSON Lines.
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

/// Questions about images.
const PICTURES: BuiltInDataset = BuiltInDataset {
    name: "pictures",
    train: include_str!("../../../crates/built-in/assets/pictures/train.jsonl"),
    test: include_str!("../../../crates/built-in/assets/pictures/test.jsonl"),
};

impl BuiltInDataset {
    /// The dataset for a multimodal adapter or for a text adapter.
    pub fn for_adapter(multimodal: bool) -> &'static Self {
        if multimodal { &PICTURES } else { &INSTRUCTIONS }
    }

    /// Training rows.
    pub fn train(&self) -> train::Result<Vec<Instruction>> {
        self.parse("train.jsonl", self.train)
    }

    /// Held-out rows.
    pub fn test(&self) -> train::Result<Vec<Instruction>> {
        self.parse("test.jsonl", self.test)
    }

    fn parse(&self, file: &str, text: &str) -> train::Result<Vec<Instruction>> {
        Instruction::parse(&Path::new("built-in").join(self.name).join(file), text)
    }
}
