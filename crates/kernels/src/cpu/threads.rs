//! Parallel loops on the caller's rayon pool, and slices that several tasks write to.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Multiply-adds that one thread does in the time in which the others wake up.
const MIN_PARALLEL_MULTIPLY_ADDS: usize = 200_000;
/// Elements that make an elementwise operation worth a task.
pub(super) const ELEMENTS_PER_TASK: usize = 1 << 14;

/// Calls `work` for `0..tasks`, on the threads of the caller's rayon pool.
///
/// Each thread takes the next task that has not started. The caller works too: it does not wait for
/// threads that wake up late.
pub fn parallel_for(tasks: usize, work: impl Fn(usize) + Sync) {
    let threads = rayon::current_num_threads().min(tasks);
    if threads <= 1 {
        return (0..tasks).for_each(work);
    }
    let next = AtomicUsize::new(0);
    let run_tasks = || {
        loop {
            let task = next.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                break;
            }
            work(task);
        }
    };
    rayon::in_place_scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|_| run_tasks());
        }
        run_tasks();
    });
}

/// As [`parallel_for`], but on the calling thread alone if all tasks together have few
/// multiply-adds.
pub fn parallel_for_if_worth(multiply_adds: usize, tasks: usize, work: impl Fn(usize) + Sync) {
    if multiply_adds < MIN_PARALLEL_MULTIPLY_ADDS {
        (0..tasks).for_each(work);
    } else {
        parallel_for(tasks, work);
    }
}

/// Calls `work` with the first row and the number of rows of every task of a row-wise operation.
pub(super) fn for_each_row_block(rows: usize, width: usize, work: impl Fn(usize, usize) + Sync) {
    let rows_per_task = (ELEMENTS_PER_TASK / width.max(1)).max(1);
    parallel_for(rows.div_ceil(rows_per_task), |task| {
        let first = task * rows_per_task;
        work(first, rows_per_task.min(rows - first));
    });
}

/// How many of `total` items to put into a task: a multiple of `step`, at most `max`, and so that
/// each thread gets several tasks.
pub fn items_per_task(total: usize, step: usize, max: usize) -> usize {
    /// Enough to balance threads of unequal speed.
    const TASKS_PER_THREAD: usize = 4;
    let items = total.div_ceil(rayon::current_num_threads() * TASKS_PER_THREAD);
    items.next_multiple_of(step).clamp(step, max.max(step))
}

/// A mutable slice that several tasks write to, each at other indices.
#[derive(Debug)]
pub struct SharedSlice<'a, T> {
    ptr: *mut T,
    len: usize,
    slice: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: it is a `&mut [T]`. Threads get access to parts of it by `slice_mut` and through
// `ptr_at`, whose callers guarantee that the parts do not overlap.
unsafe impl<T: Send> Send for SharedSlice<'_, T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    /// Shares a slice for as long as it is borrowed.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { ptr: slice.as_mut_ptr(), len: slice.len(), slice: std::marker::PhantomData }
    }

    /// The `len` items from `start` on.
    ///
    /// # Safety
    /// While the returned slice is in use, nobody else accesses its items.
    ///
    /// # Panics
    /// If the range is out of bounds.
    #[expect(clippy::mut_from_ref, reason = "the caller guarantees that the parts do not overlap")]
    pub unsafe fn slice_mut(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "the range is out of bounds");
        // SAFETY: the range is in bounds, and the caller guarantees that nobody else accesses it.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(start), len) }
    }

    /// A pointer to the item at `index`, for kernels whose tasks write to interleaved parts.
    ///
    /// # Panics
    /// If the index is out of bounds.
    pub fn ptr_at(&self, index: usize) -> *mut T {
        assert!(index < self.len, "the index is out of bounds");
        // SAFETY: the index is in bounds.
        unsafe { self.ptr.add(index) }
    }
}
