//! TileKernel of AMX: an instruction multiplies 16 rows of 32 terms with 16 columns of them.
//!
//! ```text
//!                  registers 6, 7: 16 pairs of terms of 16 columns
//! 4: 16 rows  ─►   0  1
//! 5: 16 more  ─►   2  3      sums
//! ```
//!
//! Four loads of 1 KiB serve four products.

use std::arch::asm;

use super::super::packed::PANEL;
use super::super::simd::Amx;
use super::pairs;
use super::task::{Tile, TileKernel};

/// Rows of a register.
const REGISTER: usize = 16;

/// The registers in use by this thread, until it is dropped.
#[derive(Debug)]
pub(super) struct TileRegisters {
    amx: Amx,
    /// Rows and columns of the sums that they have room for.
    room: [usize; 2],
}

/// What the instruction LDTILECFG reads.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_of_a_row: [u16; 16],
    rows: [u8; 16],
}

impl TileRegisters {
    /// TileRegisters without a shape.
    pub fn new(amx: Amx) -> Self {
        Self { amx, room: [0, 0] }
    }

    /// Gives the registers shapes for sums of up to 32 rows and columns.
    fn shape(&mut self, [rows, columns]: [usize; 2]) {
        // One whole register of two in use is as good.
        let whole = |count: usize| if count == REGISTER { 2 * REGISTER } else { count };
        let room = [whole(rows), whole(columns)];
        if room == self.room {
            return;
        }
        let halves = |count: usize| [count.min(REGISTER), count.saturating_sub(REGISTER)];
        let (rows, columns) = (halves(room[0]), halves(room[1]));
        let mut shapes = Shapes {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes_of_a_row: [0; 16],
            rows: [0; 16],
        };
        let mut set = |register: usize, rows: usize, bytes: usize| {
            // One that is empty either way is not in use.
            if rows > 0 && bytes > 0 {
                shapes.rows[register] = rows as u8;
                shapes.bytes_of_a_row[register] = bytes as u16;
            }
        };
        for (i, rows) in rows.into_iter().enumerate() {
            for (j, columns) in columns.into_iter().enumerate() {
                set(2 * i + j, rows, columns * 4);
            }
            set(4 + i, rows, 64);
            set(6 + i, REGISTER, columns[i] * 4);
        }
        // SAFETY: the instruction exists; shapes are within a register's 16 rows of 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) };
        self.room = room;
    }
}

impl Drop for TileRegisters {
    fn drop(&mut self) {
        // SAFETY: the instruction exists.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

impl TileKernel for TileRegisters {
    const ROWS: usize = 2 * REGISTER;

    #[inline(always)]
    fn turn(&self, columns: &[u16; pairs::HALF_BLOCK_LEN], to: &mut [u16; pairs::HALF_BLOCK_LEN]) {
        self.amx.vectors().turn(columns, to);
    }

    #[inline(always)]
    unsafe fn tile(&mut self, tile: &Tile) {
        self.shape([tile.rows, tile.columns]);
        // SAFETY: the caller's; the registers have the tile's shape.
        unsafe {
            match (tile.rows > REGISTER, tile.columns > PANEL) {
                (false, false) => multiply::<1, 1>(tile),
                (false, true) => multiply::<1, 2>(tile),
                (true, false) => multiply::<2, 1>(tile),
                (true, true) => multiply::<2, 2>(tile),
            }
        }
    }
}

/// One tile, in `M` registers of rows and `N` of columns.
///
/// # Safety
/// As [`TileKernel::tile`]; the registers have the tile's shape.
#[inline(always)]
unsafe fn multiply<const M: usize, const N: usize>(tile: &Tile) {
    let out_row = tile.out_row * size_of::<f32>();
    // SAFETY: the caller's: registers are read and written row by row within the tile's numbers.
    unsafe {
        asm!(
            "test {add}, {add}",
            "jz 2f",
            "tileloadd tmm0, [{out} + {out_row}]",
            ".if {n} > 1",
            "tileloadd tmm1, [{out} + {out_row} + 64]",
            ".endif",
            ".if {m} > 1",
            "tileloadd tmm2, [{lower} + {out_row}]",
            ".if {n} > 1",
            "tileloadd tmm3, [{lower} + {out_row} + 64]",
            ".endif",
            ".endif",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            ".if {n} > 1",
            "tilezero tmm1",
            ".endif",
            ".if {m} > 1",
            "tilezero tmm2",
            ".if {n} > 1",
            "tilezero tmm3",
            ".endif",
            ".endif",
            "3:",
            "tileloadd tmm4, [{left} + {line}]",
            "tileloadd tmm6, [{right} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            ".if {n} > 1",
            "tileloadd tmm7, [{second} + {line}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            ".endif",
            ".if {m} > 1",
            "tileloadd tmm5, [{left} + {line} + 1024]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            ".if {n} > 1",
            "tdpbf16ps tmm3, tmm5, tmm7",
            ".endif",
            ".endif",
            "add {left}, {lhs_block_stride}",
            "add {right}, 1024",
            "add {second}, 1024",
            "dec {blocks}",
            "jnz 3b",
            "tilestored [{out} + {out_row}], tmm0",
            ".if {n} > 1",
            "tilestored [{out} + {out_row} + 64], tmm1",
            ".endif",
            ".if {m} > 1",
            "tilestored [{lower} + {out_row}], tmm2",
            ".if {n} > 1",
            "tilestored [{lower} + {out_row} + 64], tmm3",
            ".endif",
            ".endif",
            m = const M,
            n = const N,
            add = in(reg) usize::from(tile.add),
            out = in(reg) tile.out,
            lower = in(reg) tile.out.wrapping_add(REGISTER * tile.out_row),
            out_row = in(reg) out_row,
            line = in(reg) 64_usize,
            left = inout(reg) tile.left => _,
            lhs_block_stride = in(reg) tile.lhs_block_stride * size_of::<u16>(),
            right = inout(reg) tile.right => _,
            second = inout(reg) tile.right.wrapping_add(tile.rhs_panel_stride) => _,
            blocks = inout(reg) tile.blocks => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
