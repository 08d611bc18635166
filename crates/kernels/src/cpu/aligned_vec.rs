//! Vectors whose elements start at a cache line.

use bytemuck::{Pod, Zeroable};

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([u8; 64]);

// SAFETY: bytes without padding, for which every bit pattern is valid.
unsafe impl Zeroable for CacheLine {}
// SAFETY: bytes without padding, for which every bit pattern is valid.
unsafe impl Pod for CacheLine {}

/// A vector whose first element is aligned to a cache line of 64 bytes.
#[derive(Debug, Clone)]
pub struct AlignedVec<T> {
    storage: Vec<CacheLine>,
    len: usize,
    element: std::marker::PhantomData<T>,
}

impl<T: Pod> AlignedVec<T> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let lines = (len * size_of::<T>()).div_ceil(size_of::<CacheLine>());
        let storage = vec![CacheLine([0; 64]); lines];
        Self { storage, len, element: std::marker::PhantomData }
    }

    /// All elements.
    pub fn as_slice(&self) -> &[T] {
        &bytemuck::cast_slice(&self.storage)[..self.len]
    }

    /// All elements.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.storage)[..self.len]
    }
}
