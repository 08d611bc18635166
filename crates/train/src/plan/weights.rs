//! sizes ─► bytes of the base and of what learns

use llama::Precision;
use llama::weights::expected_tensors;

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
        FineTuningMethod::Adapter(_) => Learning::new(request).n_adapter_parameters() as f64,
    }
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
