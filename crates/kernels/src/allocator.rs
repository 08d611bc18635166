//! Settings of the C library's allocator for large tensors.

/// Makes the allocator keep freed memory, for the whole process. Call it once, at the start of a
/// program.
///
/// A training step allocates and frees the same large tensors again and again. By default glibc
/// returns each of them to the system and gets it back page by page, zeroed, which takes a fifth of
/// a forward pass. Other allocators are not changed.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        const TRIM_THRESHOLD: i32 = -1;
        const TOP_PAD: i32 = -2;
        const MMAP_THRESHOLD: i32 = -3;
        // Blocks above the mmap threshold are still returned to the system; 32 MiB is its maximum.
        let limits = [(MMAP_THRESHOLD, 32 << 20), (TRIM_THRESHOLD, 1 << 30), (TOP_PAD, 64 << 20)];
        for (parameter, value) in limits {
            // SAFETY: `mallopt` is glibc's, is called with parameters that glibc documents, and
            // takes its own lock.
            unsafe { mallopt(parameter, value) };
        }
    }
}
