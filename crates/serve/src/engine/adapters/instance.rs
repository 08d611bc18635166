//! A prepared adapter in memory.

/// An adapter, a mix or an adapter with an image, prepared for passes. Rows hold it while they run.
#[derive(Debug)]
pub(crate) struct Instance<P> {
    /// Unique in the process: an adapter that was loaded again has another number. The base model is 0.
    pub(crate) id: u64,
    pub(crate) prepared: P,
    pub(crate) bytes: usize,
}
