//! Tiles with AMX: one instruction multiplies 16 rows of 32 elements by 16 columns of 32.
//!
//! ```text
//!                     registers 6 and 7: 16 pairs of 16 columns each
//! 4: 16 rows     ─►   0  1
//! 5: 16 rows     ─►   2  3      sums
//! ```
//!
//! Four loads of 1 KiB serve four multiplications.

use std::arch::asm;

use super::super::simd::Amx;
use super::tile_kernel::{HALF_BLOCK_LEN, TileArgs, TileKernel};
use crate::sizes::PANEL;

/// Rows of a register.
const REGISTER_ROWS: usize = 16;

/// This thread's tile registers, released when it is dropped.
#[derive(Debug)]
pub struct TileRegisters {
    amx: Amx,
    /// Rows and columns of the sums that the registers are configured for.
    configured: [usize; 2],
}

/// The operand of the instruction LDTILECFG.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

impl TileRegisters {
    /// Registers without a configuration.
    pub fn new(amx: Amx) -> Self {
        Self { amx, configured: [0, 0] }
    }

    /// Configures the registers for sums of up to 32 rows and columns.
    fn configure(&mut self, [rows, columns]: [usize; 2]) {
        // A configuration for two registers also serves one whole register.
        let whole = |count: usize| if count == REGISTER_ROWS { 2 * REGISTER_ROWS } else { count };
        let configured = [whole(rows), whole(columns)];
        if configured == self.configured {
            return;
        }
        let halves = |count: usize| [count.min(REGISTER_ROWS), count.saturating_sub(REGISTER_ROWS)];
        let (rows, columns) = (halves(configured[0]), halves(configured[1]));
        let mut config = TileConfig {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes_per_row: [0; 16],
            rows: [0; 16],
        };
        let mut set = |register: usize, rows: usize, bytes: usize| {
            // Registers without rows or columns stay disabled.
            if rows > 0 && bytes > 0 {
                config.rows[register] = rows as u8;
                config.bytes_per_row[register] = bytes as u16;
            }
        };
        for (i, rows) in rows.into_iter().enumerate() {
            for (j, columns) in columns.into_iter().enumerate() {
                set(2 * i + j, rows, columns * 4);
            }
            set(4 + i, rows, 64);
            set(6 + i, REGISTER_ROWS, columns[i] * 4);
        }
        // SAFETY: `self.amx` proves that the instruction exists; all shapes are within 16 rows of
        // 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly)) };
        self.configured = configured;
    }
}

impl Drop for TileRegisters {
    fn drop(&mut self) {
        // SAFETY: `self.amx` proves that the instruction exists.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

impl TileKernel for TileRegisters {
    const TILE_ROWS: usize = 2 * REGISTER_ROWS;

    #[inline(always)]
    fn transpose_pairs(&self, columns: &[u16; HALF_BLOCK_LEN], to: &mut [u16; HALF_BLOCK_LEN]) {
        self.amx.vectors().transpose_pairs(columns, to);
    }

    #[inline(always)]
    unsafe fn tile(&mut self, tile: &TileArgs) {
        self.configure([tile.rows, tile.columns]);
        // SAFETY: the caller guarantees that the tile is valid; the registers are configured for
        // it.
        unsafe {
            match (tile.rows > REGISTER_ROWS, tile.columns > PANEL) {
                (false, false) => multiply_tile::<1, 1>(tile),
                (false, true) => multiply_tile::<1, 2>(tile),
                (true, false) => multiply_tile::<2, 1>(tile),
                (true, true) => multiply_tile::<2, 2>(tile),
            }
        }
    }
}

/// Multiplies one tile with `M` registers of rows and `N` of columns.
///
/// # Safety
/// As [`TileKernel::tile`]; the registers are configured for the tile.
#[inline(always)]
unsafe fn multiply_tile<const M: usize, const N: usize>(tile: &TileArgs) {
    let out_row_stride = tile.out_row_stride * size_of::<f32>();
    // SAFETY: the caller guarantees that the tile is valid; loads and stores are within it, row by
    // row.
    unsafe {
        asm!(
            "test {accumulate}, {accumulate}",
            "jz 2f",
            "tileloadd tmm0, [{out} + {out_row_stride}]",
            ".if {n} > 1",
            "tileloadd tmm1, [{out} + {out_row_stride} + 64]",
            ".endif",
            ".if {m} > 1",
            "tileloadd tmm2, [{out_lower} + {out_row_stride}]",
            ".if {n} > 1",
            "tileloadd tmm3, [{out_lower} + {out_row_stride} + 64]",
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
            "tileloadd tmm4, [{lhs} + {row_bytes}]",
            "tileloadd tmm6, [{rhs} + {row_bytes}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            ".if {n} > 1",
            "tileloadd tmm7, [{rhs_second} + {row_bytes}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            ".endif",
            ".if {m} > 1",
            "tileloadd tmm5, [{lhs} + {row_bytes} + 1024]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            ".if {n} > 1",
            "tdpbf16ps tmm3, tmm5, tmm7",
            ".endif",
            ".endif",
            "add {lhs}, {lhs_block_stride}",
            "add {rhs}, 1024",
            "add {rhs_second}, 1024",
            "dec {blocks}",
            "jnz 3b",
            "tilestored [{out} + {out_row_stride}], tmm0",
            ".if {n} > 1",
            "tilestored [{out} + {out_row_stride} + 64], tmm1",
            ".endif",
            ".if {m} > 1",
            "tilestored [{out_lower} + {out_row_stride}], tmm2",
            ".if {n} > 1",
            "tilestored [{out_lower} + {out_row_stride} + 64], tmm3",
            ".endif",
            ".endif",
            m = const M,
            n = const N,
            accumulate = in(reg) usize::from(tile.accumulate),
            out = in(reg) tile.out,
            out_lower = in(reg) tile.out.wrapping_add(REGISTER_ROWS * tile.out_row_stride),
            out_row_stride = in(reg) out_row_stride,
            row_bytes = in(reg) 64_usize,
            lhs = inout(reg) tile.lhs => _,
            lhs_block_stride = in(reg) tile.lhs_block_stride * size_of::<u16>(),
            rhs = inout(reg) tile.rhs => _,
            rhs_second = inout(reg) tile.rhs.wrapping_add(tile.rhs_panel_stride) => _,
            blocks = inout(reg) tile.blocks => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
