//! Config and method ─► bytes of the base, number of trainable parameters.

use llama::Precision;
use llama::weights::expected_tensors;
use train::FineTuningMethod;

use crate::trainable_layers::TrainableLayers;
use crate::workload::Workload;

/// Bytes of a trainable parameter and of an activation.
pub(super) const F32: f64 = 4.0;

/// Rows of a panel; a packed matrix has whole panels.
const PANEL_ROWS: usize = kernels::sizes::PANEL;

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
        FineTuningMethod::Adapter(_) => {
            TrainableLayers::new(workload).n_adapter_parameters() as f64
        }
    }
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
