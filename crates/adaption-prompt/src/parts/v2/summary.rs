//! Summary of Adapter V2.

use serde::Serialize;

use super::config::V2Scale;
use super::data::V2Data;
use crate::param::rms;
use crate::part::PartSummary;

/// Summary of Adapter V2.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct V2Summary {
    /// Position of the scales.
    pub scale: V2Scale,
    /// Number of linear layers with a scale or a bias.
    pub linears: usize,
    /// Number of norms with trained weights.
    pub norms: usize,
    /// Root mean square of the scales minus 1.
    pub scale_rms: f32,
    /// Root mean square of the biases.
    pub bias_rms: f32,
}

impl V2Summary {
    pub(super) fn from_data(data: &V2Data) -> Self {
        let linears = || data.linears.values();
        let scales = linears().flat_map(|own| own.scale.iter().flatten().map(|x| x - 1.0));
        let biases = linears().flat_map(|own| own.bias.iter().flatten().copied());
        Self {
            scale: data.scale,
            linears: data.linears.len(),
            norms: data.norms.len(),
            scale_rms: rms(scales),
            bias_rms: rms(biases),
        }
    }
}

impl PartSummary for V2Summary {
    fn short(&self) -> String {
        format!("V2 on {} linears", self.linears)
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let Self { linears, norms, scale_rms, bias_rms, .. } = self;
        let scale = match self.scale {
            V2Scale::None => "no scale".to_owned(),
            V2Scale::Output => format!("output scale, RMS deviation from 1: {scale_rms:.4}"),
            V2Scale::Input => format!("input scale, RMS deviation from 1: {scale_rms:.4}"),
        };
        let text =
            format!("{linears} linear layers, {norms} norms; {scale}; bias RMS {bias_rms:.4}");
        vec![("v2", text)]
    }
}
