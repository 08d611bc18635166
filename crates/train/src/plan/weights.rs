//! sizes ─► bytes of the base and of what learns

use adaption_prompt::{AdapterConfig, V2Scale};
use llama::config::{ModelShape, NormKind};
use llama::weights::expected_tensors;
use llama::{LinearName, Precision};

use super::learning::Learning;
use super::request::Workload;
use crate::learner::FineTuningMethod;

/// Bytes of a number that learns, and of everything between the products.
pub(super) const F32: f64 = 4.0;

/// Rows of a panel: those of a packed matrix are filled up to whole ones.
const PANEL: usize = 16;

/// Bytes of the model in its precision. Vectors stay f32; of a matrix in blocks each block has a scale
/// and a minimum in f16, and one whose rows are no whole blocks stays f32.
pub(super) fn base(request: &Workload) -> f64 {
    let bytes =
        expected_tensors(&request.config).into_iter().map(|tensor| match tensor.shape[..] {
            [rows, columns] => {
                let rows = if request.device.fused { rows.next_multiple_of(PANEL) } else { rows };
                rows as f64 * columns as f64 * of_a_weight(columns, request.precision)
            }
            ref shape => shape.iter().map(|&size| size as f64).product::<f64>() * F32,
        });
    bytes.sum()
}

/// Bytes of one number of a matrix, its share of scale and minimum included.
fn of_a_weight(columns: usize, precision: Precision) -> f64 {
    let Some(bits) = precision.bits() else {
        return if precision == Precision::F32 { F32 } else { 2.0 };
    };
    match [32_u32, 16].into_iter().find(|len| columns.is_multiple_of(*len as usize)) {
        Some(block) => bits.count() as f64 / 8.0 + 4.0 / f64::from(block),
        None => F32,
    }
}

/// Numbers that learn.
pub(super) fn learned(request: &Workload) -> f64 {
    match &request.method {
        FineTuningMethod::Full => request.config.n_parameters() as f64,
        FineTuningMethod::Adapter(adapter) => adapter_numbers(adapter, request),
    }
}

fn adapter_numbers(adapter: &AdapterConfig, request: &Workload) -> f64 {
    let config = &request.config;
    let learning = Learning::new(request);
    let sizes = ModelShape::from(config);
    let d = config.d_model as f64;
    let mut numbers = 0.0;
    if let Some(prompts) = &adapter.prompts {
        let gates =
            prompts.gates_per_layer(config.n_heads) as f64 + f64::from(u8::from(prompts.factor));
        let each = prompts.adapter_len as f64 * d + gates;
        numbers += learning.prompt_layers.len() as f64 * each;
    }
    let linears = |names: &[LinearName], numbers: &dyn Fn(f64, f64) -> f64| {
        let places = (0..=config.n_layers).flat_map(|layer| names.iter().map(move |n| (layer, *n)));
        let here = places
            .filter(|&(layer, name)| sizes.has_linear(layer, name) && learning.linear(layer, name));
        here.map(|(_, name)| {
            let [d_out, d_in] = sizes.linear_shape(name).map(|size| size as f64);
            numbers(d_out, d_in)
        })
        .sum::<f64>()
    };
    if let Some(v2) = &adapter.v2 {
        numbers += linears(&v2.linears, &|d_out, d_in| {
            let scale = match v2.scale {
                V2Scale::None => 0.0,
                V2Scale::Output => d_out,
                V2Scale::Input => d_in,
            };
            scale + if v2.bias { d_out } else { 0.0 }
        });
        if v2.norms {
            let each = if config.norm == NormKind::Layer { 2.0 * d } else { d };
            numbers += (2.0 * config.n_layers as f64 + 1.0) * each;
        }
    }
    if let Some(lora) = &adapter.lora {
        numbers += linears(&lora.linears, &|d_out, d_in| lora.rank as f64 * (d_out + d_in));
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_takes_its_bits_and_its_share_of_a_block() {
        assert_eq!(of_a_weight(64, Precision::F32), 4.0);
        assert_eq!(of_a_weight(64, Precision::BF16), 2.0);
        assert_eq!(of_a_weight(64, Precision::Bits8), 1.125);
        assert_eq!(of_a_weight(48, Precision::Bits4), 0.75);
        // No whole blocks: kept as it is.
        assert_eq!(of_a_weight(40, Precision::Bits4), 4.0);
    }
}
