//! A storage, an offset and strides ─► elements in row-major order.

use burn::tensor::{DType, TensorData};

use super::tree::TensorInfo;

/// Bytes by which a tensor that repeats elements may exceed its file.
const SLACK: u64 = 1 << 16;

/// The reason if a tensor exceeds its storage of `storage` bytes. Strides of 0 repeat elements: such a tensor may
/// not be much larger than the `file` either.
pub(super) fn out_of_bounds(tensor: &TensorInfo, storage: u64, file: u64) -> Option<String> {
    let size = tensor.dtype.size() as u64;
    let elements = tensor.shape.iter().try_fold(1_u64, |n, &dim| n.checked_mul(dim as u64));
    let bytes = elements.and_then(|n| n.checked_mul(size));
    let Some(bytes) = bytes.filter(|&bytes| bytes <= storage.max(file).saturating_add(SLACK))
    else {
        return Some(format!("has the shape {:?}, which exceeds the file", tensor.shape));
    };
    if bytes == 0 {
        return None;
    }
    let last =
        tensor.shape.iter().zip(&tensor.strides).try_fold(tensor.offset, |at, (&dim, &step)| {
            at.checked_add((dim as u64 - 1).checked_mul(step as u64)?)
        });
    let end = last.and_then(|last| last.checked_add(1)?.checked_mul(size));
    if end.is_none_or(|end| end > storage) {
        let TensorInfo { shape, strides, offset, .. } = tensor;
        return Some(format!(
            "{shape:?} with strides {strides:?} from {offset} leaves its storage of {storage} bytes"
        ));
    }
    None
}

/// First byte and length of the part of the storage that a tensor uses.
pub(super) fn span(tensor: &TensorInfo) -> (u64, usize) {
    if tensor.shape.contains(&0) {
        return (0, 0);
    }
    let size = tensor.dtype.size();
    let steps = tensor.shape.iter().zip(&tensor.strides);
    let last: usize = steps.map(|(&dim, &step)| (dim - 1) * step).sum();
    (tensor.offset * size as u64, (last + 1) * size)
}

/// The tensor from the bytes of its [`span`].
pub(super) fn gather(tensor: &TensorInfo, dtype: DType, bytes: Vec<u8>) -> TensorData {
    let size = tensor.dtype.size();
    let elements: usize = tensor.shape.iter().product();
    let mut out = if elements == 0 || is_contiguous(tensor) {
        bytes
    } else {
        let mut out = Vec::with_capacity(elements * size);
        let mut place = vec![0; tensor.shape.len()];
        let mut at = 0;
        for _ in 0..elements {
            out.extend_from_slice(&bytes[at * size..(at + 1) * size]);
            // The next index: the last dimension that can be incremented; those after it restart at 0.
            for (dim, index) in place.iter_mut().enumerate().rev() {
                let step = tensor.strides[dim];
                *index += 1;
                // Dimensions of one element may have any stride.
                at = at.wrapping_add(step);
                if *index < tensor.shape[dim] {
                    break;
                }
                at = at.wrapping_sub(step.wrapping_mul(*index));
                *index = 0;
            }
        }
        out
    };
    if matches!(dtype, DType::Bool(_)) {
        for byte in &mut out {
            *byte = (*byte != 0).into();
        }
    }
    TensorData::from_bytes_vec(out, tensor.shape.clone(), dtype)
}

fn is_contiguous(tensor: &TensorInfo) -> bool {
    let mut expected = 1;
    tensor.shape.iter().zip(&tensor.strides).rev().all(|(&dim, &step)| {
        let fits = dim == 1 || step == expected;
        expected *= dim;
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element_type::ElementType;

    fn bytes_of(shape: &[usize], strides: &[usize], offset: u64) -> TensorInfo {
        TensorInfo {
            dtype: ElementType::U8,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
            offset,
            storage: "0".into(),
        }
    }

    fn gathered(tensor: &TensorInfo, storage: &[u8]) -> Vec<u8> {
        assert_eq!(out_of_bounds(tensor, storage.len() as u64, 0), None);
        let (start, len) = span(tensor);
        let bytes = storage[start as usize..start as usize + len].to_vec();
        gather(tensor, DType::U8, bytes).as_slice::<u8>().unwrap().to_vec()
    }

    #[test]
    fn strides_are_followed() {
        let storage = [0, 1, 2, 3, 4, 5, 6];
        assert_eq!(gathered(&bytes_of(&[2, 3], &[3, 1], 1), &storage), [1, 2, 3, 4, 5, 6]);
        assert_eq!(gathered(&bytes_of(&[3, 2], &[1, 3], 1), &storage), [1, 4, 2, 5, 3, 6]);
        assert_eq!(gathered(&bytes_of(&[2, 2], &[0, 2], 0), &storage), [0, 2, 0, 2]);
        assert_eq!(gathered(&bytes_of(&[], &[], 3), &storage), [3]);
        assert_eq!(gathered(&bytes_of(&[0, 4], &[4, 1], 99), &storage), [0_u8; 0]);
        assert_eq!(gathered(&bytes_of(&[1, 2], &[77, 1], 5), &storage), [5, 6]);
        let any = bytes_of(&[2, 1, 2], &[1, usize::MAX, 2], 0);
        assert_eq!(gathered(&any, &storage), [0, 2, 1, 3]);
    }

    #[test]
    fn tensors_outside_of_their_storage_are_rejected() {
        let refused = |tensor: TensorInfo| out_of_bounds(&tensor, 7, 100).unwrap();
        assert!(refused(bytes_of(&[2, 3], &[3, 1], 2)).contains("leaves its storage of 7 bytes"));
        assert!(refused(bytes_of(&[2], &[usize::MAX], 0)).contains("leaves its storage"));
        assert!(refused(bytes_of(&[2], &[1], u64::MAX)).contains("leaves its storage"));
        assert!(refused(bytes_of(&[1 << 40], &[0], 0)).contains("which exceeds the file"));
        assert!(refused(bytes_of(&[usize::MAX, 3], &[0, 0], 0)).contains("which exceeds the file"));
    }
}
