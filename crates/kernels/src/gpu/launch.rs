//! Sizes of launches, and their number.

use std::cell::Cell;

use cubecl::prelude::CubeCount;

/// Cubes along the first dimension of a launch, at most: every runtime has this many.
const MAX_CUBES_X: usize = 32_768;

thread_local! {
    static LAUNCHES: Cell<usize> = const { Cell::new(0) };
}

/// The launch of at least `cubes` cubes, counted. Kernels ignore positions from `cubes` on.
pub(super) fn cube_count(cubes: usize) -> CubeCount {
    LAUNCHES.set(LAUNCHES.get() + 1);
    let x = cubes.clamp(1, MAX_CUBES_X);
    CubeCount::Static(x as u32, cubes.div_ceil(x).max(1) as u32, 1)
}

/// The launch of cubes in three dimensions, counted.
pub(super) fn cube_grid(cubes: [usize; 3]) -> CubeCount {
    LAUNCHES.set(LAUNCHES.get() + 1);
    let [x, y, z] = cubes.map(|cubes| cubes.max(1) as u32);
    CubeCount::Static(x, y, z)
}

/// Calls `work`, and returns its result with the number of kernels of this crate that this thread
/// has launched in it. Burn's own operations are not counted.
pub fn count_launches<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LAUNCHES.get();
    let result = work();
    (result, LAUNCHES.get() - before)
}
