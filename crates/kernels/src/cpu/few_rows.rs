//! Products of a few rows: memory sets the pace, so numbers are used as they are stored.
//!
//! ```text
//! a panel's numbers ─► f32 ─► × one number of each row ─► sums, several columns in flight
//!                      blocks of 8 and 4 bits: sums of a block × its scale, plus its minimum
//! ```

use super::packed::{Blocks, Data, PANEL};
use super::product::{Place, groups};
use super::simd::{Level, Simd, dispatch};
use super::threads::{self, Shared};
use super::workspace;

/// What a few rows are.
pub(super) const MOST: usize = 4;
/// Multiplications below which a second thread takes longer to wake than it saves.
const WORTH_A_THREAD: usize = 1 << 16;
/// Columns whose sums are apart, so that one need not wait for the other.
const IN_FLIGHT: usize = 4;

/// As [`product`](super::product::product), of 0 to [`MOST`] rows.
pub(super) fn product(
    level: Level,
    input: &[f32],
    places: &[Place],
    width: usize,
    out: &mut [f32],
    add: bool,
) {
    let [_rows, columns] = places[0].weight.dims();
    let total = places.iter().map(|place| place.weight.panels()).sum::<usize>();
    let alone = input.len() * total * PANEL <= WORTH_A_THREAD;
    let share = if alone { total } else { threads::share(total, 1, total) };
    let tasks = groups(places, share);
    let out = Shared::new(out);
    let work = |task: usize| {
        let (place, first, last) = tasks[task];
        let task = Task { input, columns, place, panels: [first, last], width, add };
        // Outside of what is compiled for the level: only what is inlined there is.
        workspace::with(task.scratch(), |sums| {
            dispatch!(level, simd => match input.len() / columns {
                0 => (),
                1 => task.run::<_, 1>(simd, sums, &out),
                2 => task.run::<_, 2>(simd, sums, &out),
                3 => task.run::<_, 3>(simd, sums, &out),
                _ => task.run::<_, 4>(simd, sums, &out),
            });
        });
    };
    if alone { (0..tasks.len()).for_each(work) } else { threads::for_each(tasks.len(), work) }
}

struct Task<'a> {
    input: &'a [f32],
    columns: usize,
    place: Place<'a>,
    panels: [usize; 2],
    width: usize,
    add: bool,
}

impl Task<'_> {
    /// Numbers of the workspace: one for each row and block.
    fn scratch(&self) -> usize {
        match &self.place.weight.data {
            Data::Blocks(blocks) => self.input.len() / blocks.block_len,
            _ => 0,
        }
    }

    #[inline(always)]
    fn run<S: Simd, const R: usize>(&self, simd: S, sums: &mut [f32], out: &Shared<f32>) {
        let rows: [&[f32]; R] =
            std::array::from_fn(|r| &self.input[r * self.columns..][..self.columns]);
        let weight = self.place.weight;
        match &weight.data {
            Data::F32(lines) => {
                let numbers = lines.as_slice();
                self.each(
                    simd,
                    rows,
                    out,
                    #[inline(always)]
                    |at| {
                        // SAFETY: `each` stays within the panels.
                        unsafe { simd.load(numbers.as_ptr().add(at)) }
                    },
                );
            }
            Data::Bf16(lines) => {
                let numbers = lines.as_slice();
                self.each(
                    simd,
                    rows,
                    out,
                    #[inline(always)]
                    |at| {
                        // SAFETY: as above.
                        unsafe { simd.load_bf16(numbers.as_ptr().add(at)) }
                    },
                );
            }
            Data::F16(lines) => {
                let numbers = lines.as_slice();
                self.each(
                    simd,
                    rows,
                    out,
                    #[inline(always)]
                    |at| {
                        // SAFETY: as above.
                        unsafe { simd.load_f16(numbers.as_ptr().add(at)) }
                    },
                );
            }
            Data::Blocks(blocks) => self.blocks(simd, rows, blocks, sums, out),
        }
    }

    /// All panels of the task; `load` gives the vector that begins at a place of the matrix.
    #[inline(always)]
    fn each<S: Simd, const R: usize>(
        &self,
        simd: S,
        rows: [&[f32]; R],
        out: &Shared<f32>,
        load: impl Fn(usize) -> S::F,
    ) {
        let [first, last] = self.panels;
        for panel in first..last {
            let mut sums = [[0.0_f32; PANEL]; R];
            for lane in (0..PANEL).step_by(2 * S::LANES) {
                let start = panel * self.columns * PANEL + lane;
                if S::LANES == PANEL {
                    let found = dot::<S, R, 1>(
                        simd,
                        rows,
                        #[inline(always)]
                        |k, _| load(start + k * PANEL),
                    );
                    for (sums, found) in sums.iter_mut().zip(found) {
                        simd.write(sums, found[0]);
                    }
                } else {
                    let found = dot::<S, R, 2>(
                        simd,
                        rows,
                        #[inline(always)]
                        |k, v| load(start + k * PANEL + v * S::LANES),
                    );
                    for (sums, found) in sums.iter_mut().zip(found) {
                        simd.write(&mut sums[lane..], found[0]);
                        simd.write(&mut sums[lane + S::LANES..], found[1]);
                    }
                }
            }
            self.put(panel, &sums, out);
        }
    }

    #[inline(always)]
    fn blocks<S: Simd, const R: usize>(
        &self,
        simd: S,
        rows: [&[f32]; R],
        blocks: &Blocks,
        row_sums: &mut [f32],
        out: &Shared<f32>,
    ) {
        let len = blocks.block_len;
        let count = self.columns / len;
        // Sums of each row's numbers over each block: what minima and zeros are multiplied by.
        for (row, sums) in rows.iter().zip(row_sums.chunks_exact_mut(count)) {
            for (sum, numbers) in sums.iter_mut().zip(row.chunks_exact(len)) {
                *sum = numbers.iter().sum();
            }
        }
        let in_a_byte = 8 / blocks.bits;
        let quants = blocks.quants.as_slice();
        let zero = simd.splat(-blocks.zero);
        let [first, last] = self.panels;
        for panel in first..last {
            let mut all = [[0.0_f32; PANEL]; R];
            for lane in (0..PANEL).step_by(S::LANES) {
                let mut sums = [simd.splat(0.0); R];
                for block in 0..count {
                    let at = (panel * count + block) * PANEL + lane;
                    let start = (panel * self.columns + block * len) / in_a_byte * PANEL + lane;
                    // SAFETY: the block's `len / in_a_byte` times 16 bytes.
                    let from = unsafe { quants.as_ptr().add(start) };
                    let parts: [&[f32]; R] = rows.map(|row| &row[block * len..][..len]);
                    // SAFETY: as above.
                    let own = unsafe {
                        if in_a_byte == 1 {
                            dot_bytes::<S, R>(simd, parts, from)
                        } else {
                            dot_nibbles::<S, R>(simd, parts, from)
                        }
                    };
                    let scale = blocks.scales.load(simd, at);
                    let min = blocks.mins.as_ref().map(|mins| mins.load(simd, at));
                    for (r, (sum, own)) in sums.iter_mut().zip(own).enumerate() {
                        let row_sum = simd.splat(row_sums[r * count + block]);
                        *sum = match min {
                            Some(min) => simd.mul_add(min, row_sum, simd.mul_add(own, scale, *sum)),
                            None => simd.mul_add(simd.mul_add(zero, row_sum, own), scale, *sum),
                        };
                    }
                }
                for (all, sum) in all.iter_mut().zip(sums) {
                    simd.write(&mut all[lane..], sum);
                }
            }
            self.put(panel, &all, out);
        }
    }

    #[inline(always)]
    fn put<const R: usize>(&self, panel: usize, sums: &[[f32; PANEL]; R], out: &Shared<f32>) {
        let [weight_rows, _columns] = self.place.weight.dims();
        let own = PANEL.min(weight_rows - panel * PANEL);
        for (r, sums) in sums.iter().enumerate() {
            let at = r * self.width + self.place.column + panel * PANEL;
            // SAFETY: these columns of these rows are this task's alone.
            let to = unsafe { out.part(at, own) };
            if self.add {
                to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
            } else {
                to.copy_from_slice(&sums[..own]);
            }
        }
    }
}

/// Sums over all columns of each row; `load` gives vector `v` of column `k`.
#[inline(always)]
fn dot<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: [&[f32]; R],
    load: impl Fn(usize, usize) -> S::F,
) -> [[S::F; V]; R] {
    let depth = rows[0].len();
    if R <= 2 {
        let mut sums = [[[simd.splat(0.0); V]; R]; IN_FLIGHT];
        let whole = depth / IN_FLIGHT * IN_FLIGHT;
        for k in (0..whole).step_by(IN_FLIGHT) {
            for (i, sums) in sums.iter_mut().enumerate() {
                step(simd, rows, k + i, &load, sums);
            }
        }
        for k in whole..depth {
            step(simd, rows, k, &load, &mut sums[0]);
        }
        let [a, b, c, d] = sums;
        std::array::from_fn(|r| {
            std::array::from_fn(|v| {
                simd.add(simd.add(a[r][v], b[r][v]), simd.add(c[r][v], d[r][v]))
            })
        })
    } else {
        let mut sums = [[simd.splat(0.0); V]; R];
        for k in 0..depth {
            step(simd, rows, k, &load, &mut sums);
        }
        sums
    }
}

#[inline(always)]
fn step<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: [&[f32]; R],
    k: usize,
    load: &impl Fn(usize, usize) -> S::F,
    sums: &mut [[S::F; V]; R],
) {
    let numbers: [S::F; V] = std::array::from_fn(|v| load(k, v));
    for (row, sums) in rows.iter().zip(sums) {
        // SAFETY: `k` is less than the length of the first row, and all rows are equally long.
        let x = simd.splat(unsafe { *row.get_unchecked(k) });
        for (sum, number) in sums.iter_mut().zip(numbers) {
            *sum = simd.mul_add(x, number, *sum);
        }
    }
}

/// Sums over a block of bytes.
///
/// # Safety
/// `from` points to as many times 16 bytes as the rows have numbers, less the lanes before it.
#[inline(always)]
unsafe fn dot_bytes<S: Simd, const R: usize>(
    simd: S,
    rows: [&[f32]; R],
    from: *const u8,
) -> [S::F; R] {
    let [even, odd] = pairs(
        simd,
        rows,
        #[inline(always)]
        |pair| {
            // SAFETY: the caller's.
            unsafe {
                let at = from.add(2 * pair * PANEL);
                (simd.load_u8(at), simd.load_u8(at.add(PANEL)))
            }
        },
    );
    std::array::from_fn(|r| simd.add(even[r], odd[r]))
}

/// Sums over a block of nibbles.
///
/// # Safety
/// As [`dot_bytes`], for half as many bytes.
#[inline(always)]
unsafe fn dot_nibbles<S: Simd, const R: usize>(
    simd: S,
    rows: [&[f32]; R],
    from: *const u8,
) -> [S::F; R] {
    let [even, odd] = pairs(
        simd,
        rows,
        #[inline(always)]
        |pair| {
            // SAFETY: the caller's.
            unsafe { simd.load_nibbles(from.add(pair * PANEL)) }
        },
    );
    std::array::from_fn(|r| simd.add(even[r], odd[r]))
}

/// Sums over even columns, and over odd ones.
#[inline(always)]
fn pairs<S: Simd, const R: usize>(
    simd: S,
    rows: [&[f32]; R],
    load: impl Fn(usize) -> (S::F, S::F),
) -> [[S::F; R]; 2] {
    let mut sums = [[simd.splat(0.0); R]; 2];
    for pair in 0..rows[0].len() / 2 {
        let (even, odd) = load(pair);
        for (r, row) in rows.iter().enumerate() {
            // SAFETY: `2 * pair + 1` is less than the length of the rows.
            let (a, b) =
                unsafe { (*row.get_unchecked(2 * pair), *row.get_unchecked(2 * pair + 1)) };
            sums[0][r] = simd.mul_add(simd.splat(a), even, sums[0][r]);
            sums[1][r] = simd.mul_add(simd.splat(b), odd, sums[1][r]);
        }
    }
    sums
}
