//! shapes of OpenAI's tensors ─► [`EncoderConfig`]

use checkpoint::TensorSource;
use checkpoint::settings::Fields;
use serde_json::Value;

use crate::config::{EncoderConfig, EncoderFamily};
use crate::error::{Error, Result};

impl EncoderConfig {
    /// Reads the sizes from the shapes of OpenAI's tensors, whose files have no config.
    ///
    /// # Errors
    /// [`Error::NotAnEncoder`] if the tensors are not those of a vision transformer.
    pub(crate) fn from_openai_tensors(prefix: &str, source: &dyn TensorSource) -> Result<Self> {
        /// Width of a head in all of OpenAI's models.
        const HEAD_DIM: usize = 64;
        let path = source.path();
        let shape = |name: &str| {
            let found = source.shapes().get(&format!("{prefix}{name}"));
            found.cloned().ok_or_else(|| Error::NotAnEncoder {
                path: path.into(),
                reason: format!("there is no tensor `{prefix}{name}`"),
            })
        };
        let invalid = |name: &str, shape: &[usize]| Error::NotAnEncoder {
            path: path.into(),
            reason: format!("`{prefix}{name}` has the shape {shape:?}"),
        };
        let patches = shape("conv1.weight")?;
        let &[d_model, 3, patch_size, _] = &patches[..] else {
            return Err(invalid("conv1.weight", &patches));
        };
        let positions = shape("positional_embedding")?;
        let grid = positions.first().map_or(0, |rows| rows.saturating_sub(1).isqrt());
        if positions.first() != Some(&(grid * grid + 1)) {
            return Err(invalid("positional_embedding", &positions));
        }
        let up = shape("transformer.resblocks.0.mlp.c_fc.weight")?;
        let has_block = |layer: &usize| {
            let name = format!("{prefix}transformer.resblocks.{layer}.ln_1.weight");
            source.shapes().contains_key(&name)
        };
        let config = Self {
            image_size: grid * patch_size,
            patch_size,
            d_model,
            d_ff: up.first().copied().unwrap_or_default(),
            n_layers: (0..source.shapes().len()).take_while(has_block).count(),
            n_heads: d_model / HEAD_DIM,
            ..Self::for_family(EncoderFamily::Clip)
        };
        config.validate(&Fields::new(path, &Value::Null))
    }
}
