//! `params.json` ─► the same in Hugging Face's words ─► [`LlamaConfig`].
//!
//! Source: `transformers`, `models/llama/convert_llama_weights_to_hf.py`.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::LlamaConfig;
use crate::error::Result;
use crate::weights::huggingface;

/// What `params.json` leaves to the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightSizes {
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Inner width of the feed-forward.
    pub d_ff: usize,
    /// Whether there is no output head.
    pub tied_head: bool,
}

#[derive(Debug, Deserialize)]
struct ParamsJson {
    dim: usize,
    n_layers: usize,
    n_heads: usize,
    n_kv_heads: Option<usize>,
    /// Mistral's files have it.
    head_dim: Option<usize>,
    /// As in Mistral's files, where Meta's have the rule below.
    hidden_dim: Option<usize>,
    multiple_of: Option<usize>,
    ffn_dim_multiplier: Option<f64>,
    norm_eps: Option<f64>,
    /// -1 in Llama 1 and 2: as many as the tokenizer has.
    vocab_size: Option<i64>,
    rope_theta: Option<f64>,
    use_scaled_rope: Option<bool>,
    rope_scaling_factor: Option<f64>,
    max_seq_len: Option<usize>,
    sliding_window: Option<usize>,
}

/// Reads `params.json`.
///
/// # Errors
/// [`crate::Error::Config`], or [`checkpoint::Error::Format`] for text that is no such JSON.
pub fn parse_params(path: &Path, text: &str, sizes: WeightSizes) -> Result<LlamaConfig> {
    let params: ParamsJson = serde_json::from_str(text).map_err(|error| {
        checkpoint::Error::Format { path: path.into(), format: "JSON", reason: error.to_string() }
    })?;
    let vocab_size = params.vocab_size.and_then(|size| usize::try_from(size).ok());
    let config = json!({
        "model_type": if params.sliding_window.is_some() { "mistral" } else { "llama" },
        "hidden_size": params.dim,
        "intermediate_size": params.d_ff().unwrap_or(sizes.d_ff),
        "num_hidden_layers": params.n_layers,
        "num_attention_heads": params.n_heads,
        "num_key_value_heads": params.n_kv_heads,
        "head_dim": params.head_dim,
        "vocab_size": vocab_size.unwrap_or(sizes.vocab_size),
        "max_position_embeddings": params.max_positions(),
        "rms_norm_eps": params.norm_eps,
        "rope_theta": params.rope_theta,
        "rope_scaling": params.rope_scaling(),
        "tie_word_embeddings": sizes.tied_head,
        "sliding_window": params.sliding_window,
    });
    huggingface::parse_config(path, &config.to_string())
}

impl ParamsJson {
    /// Two thirds of four times the width, stretched, and rounded up.
    fn d_ff(&self) -> Option<usize> {
        if self.hidden_dim.is_some() {
            return self.hidden_dim;
        }
        let multiple = self.multiple_of.filter(|&multiple| multiple > 0)?;
        let two_thirds = self.dim.checked_mul(8)? / 3;
        let stretched = match self.ffn_dim_multiplier {
            Some(factor) => (factor * two_thirds as f64) as usize,
            None => two_thirds,
        };
        stretched.checked_next_multiple_of(multiple)
    }

    /// Meta's files do not say it; their generations differ in other numbers.
    fn max_positions(&self) -> usize {
        match self.max_seq_len {
            Some(len) => len,
            None if self.use_scaled_rope == Some(true) => 131_072,
            None if self.rope_theta == Some(1_000_000.0) => 16_384, // Code Llama
            None if self.rope_theta == Some(500_000.0) => 8192,     // Llama 3
            None if self.norm_eps == Some(1e-5) => 4096,            // Llama 2
            None => 2048,
        }
    }

    /// Llama 3.1's rule; Llama 3.2, whose models are smaller, stretches further.
    fn rope_scaling(&self) -> Value {
        /// Width of the largest Llama 3.2.
        const SMALL: usize = 3072;
        if self.use_scaled_rope != Some(true) {
            return Value::Null;
        }
        let usual = if self.dim <= SMALL { 32.0 } else { 8.0 };
        json!({
            "rope_type": "llama3",
            "factor": self.rope_scaling_factor.unwrap_or(usual),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::config::RopeScaling;

    fn parse(text: &str) -> Result<LlamaConfig> {
        let sizes = WeightSizes { vocab_size: 32_000, d_ff: 99, tied_head: false };
        parse_params(Path::new(PARAMS), text, sizes)
    }

    const PARAMS: &str = "params.json";

    #[test]
    fn each_generation_has_its_numbers() {
        let one = r#"{"dim": 4096, "multiple_of": 256, "n_heads": 32, "n_layers": 32,
            "norm_eps": 1e-06, "vocab_size": -1}"#;
        let config = parse(one).unwrap();
        assert_eq!((config.d_ff, config.vocab_size, config.max_positions), (11_008, 32_000, 2048));
        assert_eq!((config.n_kv_heads, config.head_dim, config.rope.theta), (32, 128, 10_000.0));

        let two = r#"{"dim": 8192, "multiple_of": 4096, "ffn_dim_multiplier": 1.3, "n_heads": 64,
            "n_kv_heads": 8, "n_layers": 80, "norm_eps": 1e-05, "vocab_size": -1}"#;
        let config = parse(two).unwrap();
        assert_eq!((config.d_ff, config.n_kv_heads, config.max_positions), (28_672, 8, 4096));

        let three = r#"{"dim": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 8,
            "vocab_size": 128256, "ffn_dim_multiplier": 1.3, "multiple_of": 1024,
            "norm_eps": 1e-05, "rope_theta": 500000.0}"#;
        let config = parse(three).unwrap();
        assert_eq!((config.d_ff, config.vocab_size, config.max_positions), (14_336, 128_256, 8192));
        assert_eq!(config.rope.scaling, RopeScaling::None);

        for (dim, expected) in [(4096, 8.0), (2048, 32.0)] {
            let scaled = three
                .replace("4096", &dim.to_string())
                .replace("500000.0", "500000.0, \"use_scaled_rope\": true");
            let config = parse(&scaled).unwrap();
            assert_eq!(config.max_positions, 131_072);
            let RopeScaling::Llama3 { factor, original_max_positions, .. } = config.rope.scaling
            else {
                panic!("{:?}", config.rope)
            };
            assert_eq!((factor, original_max_positions), (expected, 8192));
        }
    }

    #[test]
    fn the_weights_say_what_the_file_does_not() {
        let bare = r#"{"dim": 8, "n_heads": 2, "n_layers": 1}"#;
        assert_eq!(parse(bare).unwrap().d_ff, 99);
        let mistral = r#"{"dim": 8, "n_heads": 2, "n_layers": 1, "head_dim": 6, "hidden_dim": 20,
            "sliding_window": 16}"#;
        let config = parse(mistral).unwrap();
        assert_eq!((config.d_ff, config.head_dim, config.sliding_window), (20, 6, Some(16)));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(parse("{}").unwrap_err().to_string().contains("missing field `dim`"));
        for bad in [
            r#"{"dim": 8, "n_heads": 0, "n_layers": 1}"#,
            r#"{"dim": 18446744073709551615, "n_heads": 2, "n_layers": 1, "multiple_of": 2}"#,
            r#"{"dim": 8, "n_heads": 2, "n_layers": 1, "multiple_of": 2,
                "ffn_dim_multiplier": -1e300}"#,
        ] {
            assert!(matches!(parse(bad), Err(Error::Config { .. })), "{bad}");
        }
    }
}
