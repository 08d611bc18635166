//! Config and method ─► bytes of the base, number of trainable parameters.

use adaption_prompt::{AdapterConfig, V2Scale};
use llama::weights::expected_tensors;
use llama::{LinearName, ModelShape, NormKind, Precision};
use train::FineTuningMethod;

use crate::trainable_layers::TrainableLayers;
use crate::workload::Workload;

/// Bytes of a trainable parameter and of an activation.
pub(super) const F32: f64 = 4.0;

/// Rows of a panel; a packed matrix has whole panels.
const PANEL_ROWS: usize = 16;

/// Bytes of the model in its precision. Vectors are f32. Each block of a quantized matrix has a scale and
/// a minimum in f16; a matrix whose rows are not whole blocks stays f32.
pub(super) fn base_bytes(workload: &Workload) -> f64 {
    let bytes =
        expected_tensors(&workload.config).into_iter().map(|tensor| match tensor.shape[..] {
            [rows, columns] => {
                let rows =
                    if workload.device.fused { rows.next_multiple_of(PANEL_ROWS) } else { rows };
                rows as f64 * columns as f64 * bytes_per_weight(columns, workload.precision)
            }
            ref shape => shape.iter().map(|&size| size as f64).product::<f64>() * F32,
        });
    bytes.sum()
}

/// Bytes per weight of a matrix, scale and minimum included.
fn bytes_per_weight(columns: usize, precision: Precision) -> f64 {
    let Some(bits) = precision.bits() else {
        return if precision == Precision::F32 { F32 } else { 2.0 };
    };
    match [32_u32, 16].into_iter().find(|len| columns.is_multiple_of(*len as usize)) {
        Some(block) => bits.count() as f64 / 8.0 + 4.0 / f64::from(block),
        None => F32,
    }
}

/// Number of trainable parameters.
pub(super) fn n_trainable(workload: &Workload) -> f64 {
    match &workload.method {
        FineTuningMethod::Full => workload.config.n_parameters() as f64,
        FineTuningMethod::Adapter(adapter) => n_adapter_parameters(adapter, workload),
    }
}

fn n_adapter_parameters(adapter: &AdapterConfig, workload: &Workload) -> f64 {
    let config = &workload.config;
    let trainable = TrainableLayers::new(workload);
    let sizes = ModelShape::from(config);
    let d = config.d_model as f64;
    let mut count = 0.0;
    if let Some(prompts) = &adapter.prompts {
        let gates =
            prompts.gates_per_layer(config.n_heads) as f64 + f64::from(u8::from(prompts.factor));
        let each = prompts.adapter_len as f64 * d + gates;
        count += trainable.prompt_layers.len() as f64 * each;
    }
    let linears = |names: &[LinearName], parameters: &dyn Fn(f64, f64) -> f64| {
        let linears =
            (0..=config.n_layers).flat_map(|layer| names.iter().map(move |n| (layer, *n)));
        let present = linears.filter(|&(layer, name)| {
            sizes.has_linear(layer, name) && trainable.trains_linear(layer, name)
        });
        present
            .map(|(_, name)| {
                let [d_out, d_in] = sizes.linear_shape(name).map(|size| size as f64);
                parameters(d_out, d_in)
            })
            .sum::<f64>()
    };
    if let Some(v2) = &adapter.v2 {
        count += linears(&v2.linears, &|d_out, d_in| {
            let scale = match v2.scale {
                V2Scale::None => 0.0,
                V2Scale::Output => d_out,
                V2Scale::Input => d_in,
            };
            scale + if v2.bias { d_out } else { 0.0 }
        });
        if v2.norms {
            let each = if config.norm == NormKind::Layer { 2.0 * d } else { d };
            count += (2.0 * config.n_layers as f64 + 1.0) * each;
        }
    }
    if let Some(lora) = &adapter.lora {
        count += linears(&lora.linears, &|d_out, d_in| lora.rank as f64 * (d_out + d_in));
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_per_weight_include_the_block_scale() {
        assert_eq!(bytes_per_weight(64, Precision::F32), 4.0);
        assert_eq!(bytes_per_weight(64, Precision::BF16), 2.0);
        assert_eq!(bytes_per_weight(64, Precision::Bits8), 1.125);
        assert_eq!(bytes_per_weight(48, Precision::Bits4), 0.75);
        // Not whole blocks: not quantized.
        assert_eq!(bytes_per_weight(40, Precision::Bits4), 4.0);
    }
}
