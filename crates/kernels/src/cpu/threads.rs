//! Work split over rayon's threads: those of the pool that the caller is in.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls `work` with `0`, `1`, ... `tasks - 1`. Each thread takes the next one that nobody has yet:
/// those of the rayon pool that the caller is in, and the caller itself, which need not wait for
/// threads that wake up late.
pub fn for_each(tasks: usize, work: impl Fn(usize) + Sync) {
    let threads = rayon::current_num_threads().min(tasks);
    if threads <= 1 {
        return (0..tasks).for_each(work);
    }
    let next = AtomicUsize::new(0);
    let take = || {
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
            scope.spawn(|_| take());
        }
        take();
    });
}

/// How many of `total` items a task should take, so that each thread gets several tasks, none has
/// more than `most` items, and all are multiples of `step`.
pub fn share(total: usize, step: usize, most: usize) -> usize {
    /// Tasks a thread: enough to even out threads of unequal speed.
    const TASKS: usize = 4;
    let share = total.div_ceil(rayon::current_num_threads() * TASKS);
    share.next_multiple_of(step).clamp(step, most.max(step))
}

/// A slice that several tasks write to, each at its own places.
#[derive(Debug)]
pub struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    slice: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: it is a `&mut [T]` whose parts are handed out one by one; whoever calls `part` promises
// that they do not overlap.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// Shares a slice for as long as it is borrowed.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: std::marker::PhantomData }
    }

    /// Items of the whole slice.
    pub fn count(&self) -> usize {
        self.len
    }

    /// `len` items from `start`.
    ///
    /// # Safety
    /// No other part that is in use at the same time has any of these items.
    ///
    /// # Panics
    /// If the slice is shorter.
    #[expect(clippy::mut_from_ref, reason = "the caller keeps the parts apart")]
    pub unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "a part outside the slice");
        // SAFETY: inside the slice, as was just checked, and nobody else's, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }

    /// A pointer to the item at `at`, for kernels that write parts which interleave.
    ///
    /// # Panics
    /// If the slice has no such item.
    pub fn pointer(&self, at: usize) -> *mut T {
        assert!(at < self.len, "an item outside the slice");
        // SAFETY: inside the slice, as was just checked.
        unsafe { self.start.add(at) }
    }
}
