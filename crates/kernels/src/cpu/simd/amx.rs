//! AMX: tile registers of 16 rows of 64 bytes, and matrix multiplication of them in bf16.
//!
//! A process requests permission from Linux once: the registers make the saved state of a thread 8
//! KiB larger.

use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

use super::avx512_bf16::Avx512Bf16;

/// Proof that processor and system have AMX-TILE and AMX-BF16, and what [`Avx512Bf16`] stands for.
#[derive(Debug, Clone, Copy)]
pub struct Amx(Avx512Bf16);

impl Amx {
    /// The proof, if processor and system have them.
    pub fn new() -> Option<Self> {
        static PRESENT: OnceLock<bool> = OnceLock::new();
        let vectors = Avx512Bf16::new()?;
        PRESENT.get_or_init(|| has_amx(vectors) && request_permission()).then_some(Self(vectors))
    }

    /// The vector instructions.
    pub fn vectors(self) -> Avx512Bf16 {
        self.0
    }
}

/// Whether the processor has the instructions, and the system saves the registers.
fn has_amx(_vectors: Avx512Bf16) -> bool {
    /// AMX-BF16 and AMX-TILE, in EDX of leaf 7.
    const INSTRUCTIONS: u32 = 1 << 22 | 1 << 24;
    /// Configuration and data of the tiles.
    const STATE: u64 = 1 << 17 | 1 << 18;
    #[target_feature(enable = "xsave")]
    fn state() -> u64 {
        // SAFETY: a processor with usable AVX-512 has the instruction.
        unsafe { _xgetbv(0) }
    }
    #[allow(unused_unsafe, reason = "safe functions in newer versions of Rust")]
    // SAFETY: every x86-64 processor has the instruction.
    let instructions =
        unsafe { __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & INSTRUCTIONS == INSTRUCTIONS };
    // SAFETY: the proof shows that the processor has usable AVX-512, and so XSAVE.
    instructions && unsafe { state() } & STATE == STATE
}

/// Requests the registers for the whole process.
#[cfg(target_os = "linux")]
fn request_permission() -> bool {
    const ARCH_PRCTL: isize = 158;
    const REQUEST_PERMISSION: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let result: isize;
    // SAFETY: the system call accesses no memory of this process; the registers that it changes are
    // declared.
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

/// Not implemented for other systems.
#[cfg(not(target_os = "linux"))]
fn request_permission() -> bool {
    false
}
