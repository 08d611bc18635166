//! AMX: registers of 16 rows of 64 bytes, and products of them in bf16.
//!
//! A process asks Linux for the registers once: they make a thread's saved state 8 KiB larger.

use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

use super::Avx512Bf16;

/// Proof that processor and system have AMX-TILE and AMX-BF16, and all that [`Avx512Bf16`] stands
/// for.
#[derive(Debug, Clone, Copy)]
pub struct Amx(Avx512Bf16);

impl Amx {
    /// The proof, if they have them.
    pub fn new() -> Option<Self> {
        static PRESENT: OnceLock<bool> = OnceLock::new();
        let vectors = Avx512Bf16::new()?;
        PRESENT.get_or_init(|| has_tiles(vectors) && is_permitted()).then_some(Self(vectors))
    }

    /// The vectors beside the tiles.
    pub fn vectors(self) -> Avx512Bf16 {
        self.0
    }
}

/// Whether the processor has the instructions, and the system keeps the registers.
fn has_tiles(_vectors: Avx512Bf16) -> bool {
    /// AMX-BF16 and AMX-TILE, of leaf 7's last register.
    const INSTRUCTIONS: u32 = 1 << 22 | 1 << 24;
    /// Configuration and data of the tiles.
    const STATE: u64 = 1 << 17 | 1 << 18;
    #[target_feature(enable = "xsave")]
    fn state() -> u64 {
        // SAFETY: a processor whose vectors of 512 bits are usable has the instruction.
        unsafe { _xgetbv(0) }
    }
    #[allow(unused_unsafe, reason = "safe functions in newer versions of Rust")]
    // SAFETY: every such processor has the instruction.
    let instructions =
        unsafe { __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & INSTRUCTIONS == INSTRUCTIONS };
    // SAFETY: as above.
    instructions && unsafe { state() } & STATE == STATE
}

/// Asks for the registers on behalf of the whole process.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_PRCTL: isize = 158;
    const REQUEST_PERMISSION: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let result: isize;
    // SAFETY: a system call that touches no memory of ours, with the registers that it may change.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// How other systems are asked is not known here.
#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}
