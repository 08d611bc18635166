//! How the C library's allocator treats large blocks.

/// Makes the allocator keep what is freed, for the whole process; to be called once, at the start
/// of a program.
///
/// A step allocates and frees the same large tensors again and again. By default glibc gives each of
/// them back to the system, and takes it again page by page, zeroed: a fifth of a forward pass.
/// Other allocators are left as they are.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        const TRIM_THRESHOLD: i32 = -1;
        const TOP_PAD: i32 = -2;
        const MMAP_THRESHOLD: i32 = -3;
        // Blocks above the last limit are still mapped, and given back: 32 MiB is the most it takes.
        let limits = [(MMAP_THRESHOLD, 32 << 20), (TRIM_THRESHOLD, 1 << 30), (TOP_PAD, 64 << 20)];
        for (parameter, value) in limits {
            // SAFETY: glibc's own function, with parameters it documents; it takes its own lock.
            unsafe { mallopt(parameter, value) };
        }
    }
}
