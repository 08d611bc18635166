//! Sums over the units of a cube.

use cubecl::prelude::*;

/// Units of a cube that works on one row.
pub(super) const ROW_UNITS: usize = 64;

/// The sum of every unit's value, in the order of the units, for all units.
///
/// Called by all units of a cube. `scratch` has room for two sums of every unit; calls one after
/// another alternate between its halves, so that one barrier each is enough.
#[cube]
pub(super) fn cube_sum(
    value: f32,
    scratch: &mut Shared<[f32]>,
    #[comptime] half: usize,
    #[comptime] units: usize,
) -> f32 {
    scratch[half * units + UNIT_POS as usize] = value;
    sync_cube();
    let mut sum = 0.0f32;
    for unit in 0..units {
        sum += scratch[half * units + unit];
    }
    sum
}

/// The maximum of every unit's value, for all units; otherwise as [`cube_sum`].
#[cube]
pub(super) fn cube_max(
    value: f32,
    scratch: &mut Shared<[f32]>,
    #[comptime] half: usize,
    #[comptime] units: usize,
) -> f32 {
    scratch[half * units + UNIT_POS as usize] = value;
    sync_cube();
    let mut max = value;
    for unit in 0..units {
        let other = scratch[half * units + unit];
        if other > max {
            max = other;
        }
    }
    max
}
