//! Numbers that begin at a cache line.

/// A number that panels are made of.
pub trait Number: bytemuck::Pod {}

impl Number for f32 {}
impl Number for u16 {}
impl Number for u8 {}

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

// SAFETY: plain bytes without padding; any value is one.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Line {}

/// A vector whose first number lies at the start of a cache line.
#[derive(Debug, Clone)]
pub struct Lines<T> {
    storage: Vec<Line>,
    len: usize,
    number: std::marker::PhantomData<T>,
}

impl<T: Number> Lines<T> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let storage = vec![Line([0; 64]); (len * size_of::<T>()).div_ceil(size_of::<Line>())];
        Self { storage, len, number: std::marker::PhantomData }
    }

    /// All numbers.
    pub fn as_slice(&self) -> &[T] {
        &bytemuck::cast_slice(&self.storage)[..self.len]
    }

    /// All numbers.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.storage)[..self.len]
    }
}
