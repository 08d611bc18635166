//! Summary of an image condition: its config.

use vision::{EncoderInfo, HiddenState};

use super::config::{ImageConfig, ImageFusion, ImageProjectorConfig};
use crate::part::PartSummary;

impl PartSummary for ImageConfig {
    fn short(&self) -> String {
        "images".into()
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let tokens = match self.form {
            ImageProjectorConfig::Global { hidden } => {
                format!("global features, hidden size {hidden}")
            }
            ImageProjectorConfig::Queries { count, width, blocks, heads } => {
                format!(
                    "{count} visual queries, {blocks} blocks, hidden size {width}, {heads} heads"
                )
            }
        };
        let fusion = match self.fusion {
            ImageFusion::Prompts { .. } => "added to the adaption prompts".to_owned(),
            ImageFusion::Early { layers, .. } => {
                format!("early fusion in the first {layers} layers")
            }
        };
        let mut lines = vec![("images", format!("{tokens}; {fusion}"))];
        if let Some(EncoderInfo { name, spec, .. }) = &self.encoder {
            let state = |state: &HiddenState| match state {
                HiddenState::Layer(layer) => layer.to_string(),
                HiddenState::Normed => "normed".into(),
                HiddenState::Projected => "projected".into(),
            };
            let states = spec.states.iter().map(state).collect::<Vec<_>>().join(", ");
            let (size, name) = (spec.image_size, name.escape_debug());
            let text = format!("{name}, input {size} x {size} pixels, features {states}");
            lines.push(("encoder", text));
        }
        lines
    }
}
