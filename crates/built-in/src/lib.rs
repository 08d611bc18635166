//! A model, an adapter, an image encoder and data sets inside the program: nothing to download.
//!
//! The model is a Llama of 1.4 million parameters that was trained on a small world of towns and
//! people, but not on instructions. Examples, tests and the program's defaults use it.
//!
//! ```
//! use llama::{GenerationConfig, NoAdapter, Precision, generate};
//!
//! # fn main() -> llama::Result<()> {
//! # let device = testing::flex();
//! let source = built_in::model()?;
//! let llama = source.load(Precision::F32, &device)?;
//! let tokenizer = source.tokenizer()?;
//!
//! let prompts = [tokenizer.encode("The plural of cow is")?];
//! let config = GenerationConfig { max_new_tokens: 4, ..GenerationConfig::new(&tokenizer) };
//! let responses = generate(&llama, &NoAdapter, &prompts, &config)?;
//! assert!(tokenizer.decode(&responses[0].tokens)?.starts_with(" cows"));
//!
//! let instructions = built_in::INSTRUCTIONS.train().unwrap();
//! assert!(instructions.len() > 500);
//! # Ok(())
//! # }
//! ```

use std::path::Path;

use adaption_prompt::AdapterData;
use llama::ModelSource;
use train::Instruction;
use vision::EncoderSource;

/// The model's name, which adapters record as their base model.
pub const MODEL_NAME: &str = "tiny-llama";

/// The image encoder's name.
pub const IMAGE_ENCODER_NAME: &str = "tiny-vit";

/// The model's weights, a safetensors file.
pub const MODEL_WEIGHTS: &[u8] = include_bytes!("../assets/tiny-llama/model.safetensors");

/// The model: config, weights and tokenizer.
///
/// # Errors
///
/// None with the files of this crate; the type is that of every other source.
pub fn model() -> llama::Result<ModelSource> {
    let source = ModelSource::embedded(
        include_str!("../assets/tiny-llama/config.json"),
        MODEL_WEIGHTS,
        include_bytes!("../assets/tiny-llama/tokenizer.json"),
    )?;
    Ok(source.with_tokenizer_config(include_str!("../assets/tiny-llama/tokenizer_config.json")))
}

/// The image encoder: a DINOv2 of 32 x 32 pixels, trained on the drawings of [`IMAGE_QUESTIONS`].
///
/// # Errors
///
/// None with the files of this crate; the type is that of every other source.
pub fn image_encoder() -> vision::Result<EncoderSource> {
    EncoderSource::from_embedded(
        include_str!("../assets/tiny-vit/config.json"),
        include_bytes!("../assets/tiny-vit/model.safetensors"),
        include_str!("../assets/tiny-vit/preprocessor_config.json"),
    )
}

/// The adapter's name.
pub const ADAPTER_NAME: &str = "instructions";

/// An adapter for the built-in model, trained on [`INSTRUCTIONS`] with the program's defaults.
///
/// # Errors
///
/// None with the files of this crate; the type is that of every other adapter.
pub fn adapter() -> adaption_prompt::Result<AdapterData> {
    adaption_prompt::files::read_embedded(
        include_str!("../assets/instructions-adapter/adapter_config.json"),
        include_str!("../assets/instructions-adapter/llama_adapter.json"),
        include_bytes!("../assets/instructions-adapter/adapter_model.safetensors"),
    )
}

/// Instructions about the built-in model's world, and their responses.
pub const INSTRUCTIONS: Dataset = Dataset {
    name: "instructions",
    train: include_str!("../assets/instructions/train.jsonl"),
    test: include_str!("../assets/instructions/test.jsonl"),
};

/// Questions about small drawings, which are part of the rows.
pub const IMAGE_QUESTIONS: Dataset = Dataset {
    name: "pictures",
    train: include_str!("../assets/pictures/train.jsonl"),
    test: include_str!("../assets/pictures/test.jsonl"),
};

/// Rows for training and for evaluation.
#[derive(Debug, Clone, Copy)]
pub struct Dataset {
    name: &'static str,
    train: &'static str,
    test: &'static str,
}

impl Dataset {
    /// Rows to train on.
    ///
    /// # Errors
    ///
    /// None with the files of this crate; the type is that of every other file of rows.
    pub fn train(&self) -> train::Result<Vec<Instruction>> {
        self.parse("train.jsonl", self.train)
    }

    /// Held-out rows.
    ///
    /// # Errors
    ///
    /// As for [`Self::train`].
    pub fn test(&self) -> train::Result<Vec<Instruction>> {
        self.parse("test.jsonl", self.test)
    }

    fn parse(&self, file: &str, rows: &str) -> train::Result<Vec<Instruction>> {
        Instruction::parse(&Path::new("built-in").join(self.name).join(file), rows)
    }
}

#[cfg(test)]
mod tests {
    use adaption_prompt::{AdapterWeights, AnyAdapter, files};
    use llama::{GenerationConfig, Precision, generate};

    use super::*;

    fn adapter_folder() -> std::path::PathBuf {
        testing::golden_folder().join("../../crates/built-in/assets/instructions-adapter")
    }

    #[test]
    fn the_embedded_adapter_is_that_of_its_folder() {
        let data = adapter().unwrap();
        assert_eq!(data, files::read_folder(&adapter_folder()).unwrap());
        assert_eq!(data.base.name.as_deref(), Some(MODEL_NAME));
    }

    #[test]
    fn the_adapter_is_for_the_built_in_model() {
        let llama = model().unwrap().load(Precision::F32, &testing::flex()).unwrap();
        let loaded = AnyAdapter::load(&adapter_folder(), &llama, &testing::flex());
        assert!(loaded.is_ok(), "{}", loaded.unwrap_err());
    }

    #[test]
    fn the_adapter_answers_held_out_instructions() {
        let device = testing::flex();
        let source = model().unwrap();
        let (llama, tokenizer) =
            (source.load(Precision::F32, &device).unwrap(), source.tokenizer().unwrap());
        let data = adapter().unwrap();
        let path = Path::new("built-in");
        let weights =
            AdapterWeights::from_data(&data, &llama.config().into(), path, &device).unwrap();
        let rows = INSTRUCTIONS.test().unwrap();
        let rows = &rows[..20];
        let prompts = rows.iter().map(|row| tokenizer.encode(&row.prompt()).unwrap());
        let config = GenerationConfig { max_new_tokens: 40, ..GenerationConfig::new(&tokenizer) };
        let prompts = prompts.collect::<Vec<_>>();
        let responses = generate(&llama, &weights.prepare(&llama), &prompts, &config).unwrap();
        let texts = responses.iter().map(|own| tokenizer.decode(&own.tokens).unwrap());
        let correct = texts.zip(rows).filter(|(text, row)| text.trim() == row.output.trim());
        assert!(correct.count() >= 15);
    }
}
