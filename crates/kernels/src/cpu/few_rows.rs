//! Products of a few rows: memory sets the pace, so numbers are used as they are stored.
//!
//! ```text
//! a panel's numbers ─► f32 ─► × one number of each row ─► sums, several columns in flight
//!                      blocks of 8 and 4 bits: sums of a block × its scale, plus its minimum
//! ```

use super::packed::{Blocks, Data, PANEL};
use super::product::{Place, groups};
use super::simd::{Simd, SimdLevel, dispatch, prefetch};
use super::threads::{self, Shared};
use super::workspace;

/// What a few rows are.
pub(super) const MOST: usize = 4;
/// Multiplications below which a second thread takes longer to wake than it saves.
const WORTH_A_THREAD: usize = 1 << 16;
/// Columns whose sums are apart, so that one need not wait for the other.
const IN_FLIGHT: usize = 4;
/// Bytes of a cache line.
const LINE: usize = 64;
/// How far ahead numbers of few bits are asked for, in bytes.
const AHEAD: usize = 2048;

/// As [`product`](super::product::product), of 0 to [`MOST`] rows.
pub(super) fn product(
    level: SimdLevel,
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
            Data::F32(lines) => self.each(
                simd,
                rows,
                lines.as_slice(),
                out,
                #[inline(always)]
                |from| {
                    // SAFETY: `each` stays within the panels.
                    unsafe { simd.load(from) }
                },
            ),
            Data::Bf16(lines) => self.each(
                simd,
                rows,
                lines.as_slice(),
                out,
                #[inline(always)]
                |from| {
                    // SAFETY: `each` stays within the panels.
                    unsafe { simd.load_bf16(from) }
                },
            ),
            Data::F16(lines) => self.each(
                simd,
                rows,
                lines.as_slice(),
                out,
                #[inline(always)]
                |from| {
                    // SAFETY: `each` stays within the panels.
                    unsafe { simd.load_f16(from) }
                },
            ),
            Data::Blocks(blocks) if S::LANES == PANEL => {
                self.blocks::<S, R, 1>(simd, rows, blocks, sums, out);
            }
            Data::Blocks(blocks) => self.blocks::<S, R, 2>(simd, rows, blocks, sums, out),
        }
    }

    /// All panels of the task; `load` reads the vector that begins at a number of the matrix.
    #[inline(always)]
    fn each<S: Simd, const R: usize, T>(
        &self,
        simd: S,
        rows: [&[f32]; R],
        numbers: &[T],
        out: &Shared<f32>,
        load: impl Fn(*const T) -> S::F,
    ) {
        let [first, last] = self.panels;
        for panel in first..last {
            let from = numbers[panel * self.columns * PANEL..].as_ptr();
            let mut all = [[0.0_f32; PANEL]; R];
            if S::LANES == PANEL {
                let sums = dot::<S, R, 1, T>(simd, rows, from, &load);
                write(simd, &sums, &mut all);
            } else {
                let sums = dot::<S, R, 2, T>(simd, rows, from, &load);
                write(simd, &sums, &mut all);
            }
            self.put(panel, &all, out);
        }
    }

    #[inline(always)]
    fn blocks<S: Simd, const R: usize, const V: usize>(
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
            let mut sums = [[simd.splat(0.0); V]; R];
            for block in 0..count {
                let start = (panel * self.columns + block * len) / in_a_byte * PANEL;
                // SAFETY: the block's `len / in_a_byte` times 16 bytes.
                let from = unsafe { quants.as_ptr().add(start) };
                ahead(from, len / in_a_byte * PANEL);
                let parts: [&[f32]; R] = rows.map(|row| &row[block * len..][..len]);
                // SAFETY: as above.
                let own = unsafe {
                    if in_a_byte == 1 {
                        dot_bytes::<S, R, V>(simd, parts, from)
                    } else {
                        dot_nibbles::<S, R, V>(simd, parts, from)
                    }
                };
                for v in 0..V {
                    let at = (panel * count + block) * PANEL + v * S::LANES;
                    let scale = blocks.scales.load(simd, at);
                    let min = blocks.mins.as_ref().map(|mins| mins.load(simd, at));
                    for (r, (sums, own)) in sums.iter_mut().zip(own).enumerate() {
                        let row_sum = simd.splat(row_sums[r * count + block]);
                        let (sum, own) = (&mut sums[v], own[v]);
                        *sum = match min {
                            Some(min) => simd.mul_add(min, row_sum, simd.mul_add(own, scale, *sum)),
                            None => simd.mul_add(simd.mul_add(zero, row_sum, own), scale, *sum),
                        };
                    }
                }
            }
            let mut all = [[0.0_f32; PANEL]; R];
            write(simd, &sums, &mut all);
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

/// Sums over all columns of each row; `load` reads the vector that begins at a number of the panel.
#[inline(always)]
fn dot<S: Simd, const R: usize, const V: usize, T>(
    simd: S,
    rows: [&[f32]; R],
    from: *const T,
    load: &impl Fn(*const T) -> S::F,
) -> [[S::F; V]; R] {
    let depth = rows[0].len();
    let mut sums = [[[simd.splat(0.0); V]; R]; IN_FLIGHT];
    let whole = depth / IN_FLIGHT * IN_FLIGHT;
    for k in (0..whole).step_by(IN_FLIGHT) {
        for i in 0..IN_FLIGHT {
            // Several rows keep enough sums in flight by themselves.
            step(simd, rows, k + i, from, load, &mut sums[if R <= 2 { i } else { 0 }]);
        }
    }
    for k in whole..depth {
        step(simd, rows, k, from, load, &mut sums[0]);
    }
    let [a, b, c, d] = sums;
    if R > 2 {
        return a;
    }
    std::array::from_fn(|r| {
        std::array::from_fn(|v| simd.add(simd.add(a[r][v], b[r][v]), simd.add(c[r][v], d[r][v])))
    })
}

/// Adds the products of one column.
#[inline(always)]
fn step<S: Simd, const R: usize, const V: usize, T>(
    simd: S,
    rows: [&[f32]; R],
    k: usize,
    from: *const T,
    load: &impl Fn(*const T) -> S::F,
    sums: &mut [[S::F; V]; R],
) {
    let column = from.wrapping_add(k * PANEL);
    let numbers: [S::F; V] = std::array::from_fn(|v| load(column.wrapping_add(v * S::LANES)));
    for (row, sums) in rows.iter().zip(sums) {
        // SAFETY: `k` is less than the length of the first row, and all rows are equally long.
        let x = simd.splat(unsafe { *row.get_unchecked(k) });
        for (sum, number) in sums.iter_mut().zip(numbers) {
            *sum = simd.mul_add(x, number, *sum);
        }
    }
}

/// The vectors of each row's sums, one behind the other.
#[inline(always)]
fn write<S: Simd, const R: usize, const V: usize>(
    simd: S,
    sums: &[[S::F; V]; R],
    all: &mut [[f32; PANEL]; R],
) {
    for (all, sums) in all.iter_mut().zip(sums) {
        for (to, &sum) in all.chunks_exact_mut(S::LANES).zip(sums) {
            simd.write(to, sum);
        }
    }
}

/// Asks for what comes [`AHEAD`] bytes behind `from`, `bytes` of it: a processor follows a stream of
/// its own accord, but not far enough ahead to keep memory busy.
#[inline(always)]
fn ahead<T>(from: *const T, bytes: usize) {
    for line in (0..bytes).step_by(LINE) {
        prefetch(from.cast::<u8>().wrapping_add(AHEAD + line));
    }
}

/// Sums over a block of bytes.
///
/// # Safety
/// `from` points to as many times 16 bytes as the rows have numbers.
#[inline(always)]
unsafe fn dot_bytes<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: [&[f32]; R],
    from: *const u8,
) -> [[S::F; V]; R] {
    pairs(
        simd,
        rows,
        #[inline(always)]
        |pair, v| {
            // SAFETY: the caller's.
            unsafe {
                let at = from.add(2 * pair * PANEL + v * S::LANES);
                (simd.load_u8(at), simd.load_u8(at.add(PANEL)))
            }
        },
    )
}

/// Sums over a block of nibbles.
///
/// # Safety
/// As [`dot_bytes`], for half as many bytes.
#[inline(always)]
unsafe fn dot_nibbles<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: [&[f32]; R],
    from: *const u8,
) -> [[S::F; V]; R] {
    pairs(
        simd,
        rows,
        #[inline(always)]
        |pair, v| {
            // SAFETY: the caller's.
            unsafe { simd.load_nibbles(from.add(pair * PANEL + v * S::LANES)) }
        },
    )
}

/// Sums over the columns of a block, even and odd ones apart, so that one need not wait for the
/// other.
#[inline(always)]
fn pairs<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: [&[f32]; R],
    load: impl Fn(usize, usize) -> (S::F, S::F),
) -> [[S::F; V]; R] {
    let mut sums = [[[simd.splat(0.0); V]; R]; 2];
    for pair in 0..rows[0].len() / 2 {
        let numbers: [(S::F, S::F); V] = std::array::from_fn(|v| load(pair, v));
        for (r, row) in rows.iter().enumerate() {
            // SAFETY: `2 * pair + 1` is less than the length of the rows.
            let (a, b) =
                unsafe { (*row.get_unchecked(2 * pair), *row.get_unchecked(2 * pair + 1)) };
            let (a, b) = (simd.splat(a), simd.splat(b));
            for (v, (even, odd)) in numbers.into_iter().enumerate() {
                sums[0][r][v] = simd.mul_add(a, even, sums[0][r][v]);
                sums[1][r][v] = simd.mul_add(b, odd, sums[1][r][v]);
            }
        }
    }
    let [even, odd] = sums;
    std::array::from_fn(|r| std::array::from_fn(|v| simd.add(even[r][v], odd[r][v])))
}
