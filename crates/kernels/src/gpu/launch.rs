//! Sizes of launches, and their number.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use cubecl::logging::{LaunchObservation, LaunchObserver};
use cubecl::prelude::CubeCount;

use crate::gpu_kernel::Launches;

/// Cubes along the first dimension of a launch, at most: every runtime has this many.
const MAX_CUBES_X: usize = 32_768;

/// The launch of at least `cubes` cubes. Kernels ignore positions from `cubes` on.
pub(super) fn cube_count(cubes: usize) -> CubeCount {
    let x = cubes.clamp(1, MAX_CUBES_X);
    CubeCount::Static(x as u32, cubes.div_ceil(x).max(1) as u32, 1)
}

/// The launch of cubes in three dimensions.
pub(super) fn cube_grid(cubes: [usize; 3]) -> CubeCount {
    let [x, y, z] = cubes.map(|cubes| cubes.max(1) as u32);
    CubeCount::Static(x, y, z)
}

/// Calls `work`, and returns its result with the number of kernels that this thread has launched in it,
/// Burn's included.
pub fn count_launches<T>(work: impl FnOnce() -> T) -> (T, Launches) {
    /// CubeCL has one observer at a time.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let counter = Arc::new(Counter {
        thread: thread::current().id(),
        all: AtomicUsize::new(0),
        fused: AtomicUsize::new(0),
    });
    let observation = LaunchObservation::new(counter.clone());
    let result = work();
    drop(observation);
    let [all, fused] = [&counter.all, &counter.fused].map(|count| count.load(Ordering::Relaxed));
    (result, Launches { all, fused })
}

struct Counter {
    thread: ThreadId,
    all: AtomicUsize,
    fused: AtomicUsize,
}

impl LaunchObserver for Counter {
    fn launched(&self, kernel: &'static str) {
        if thread::current().id() != self.thread {
            return;
        }
        self.all.fetch_add(1, Ordering::Relaxed);
        // Kernels are named after their types.
        if kernel.contains(concat!(env!("CARGO_CRATE_NAME"), "::gpu")) {
            self.fused.fetch_add(1, Ordering::Relaxed);
        }
    }
}
