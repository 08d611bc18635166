//! Buffers for intermediate results. Each thread keeps its buffers from call to call.

use std::cell::RefCell;

thread_local! {
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Maximum number of free buffers that a thread keeps.
const MAX_FREE_BUFFERS: usize = 8;

/// Runs `work` with a buffer of `len` elements with unspecified values. Calls may be nested.
pub fn with_buffer<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = FREE.with_borrow_mut(|free| take_best_fit(free, len));
    let result = work(&mut buffer[..len]);
    FREE.with_borrow_mut(|free| {
        if free.len() < MAX_FREE_BUFFERS {
            free.push(buffer);
        }
    });
    result
}

/// As [`with_buffer`], with `len` elements of 16 bits that are aligned to a cache line.
pub fn with_u16_buffer<R>(len: usize, work: impl FnOnce(&mut [u16]) -> R) -> R {
    const CACHE_LINE: usize = 64;
    with_buffer(len.div_ceil(2) + CACHE_LINE / size_of::<f32>(), |buffer| {
        let start = buffer.as_ptr().align_offset(CACHE_LINE);
        work(&mut bytemuck::cast_slice_mut(&mut buffer[start..])[..len])
    })
}

/// Takes the shortest free buffer that is long enough. If there is none, replaces the longest by a
/// new one.
fn take_best_fit(free: &mut Vec<Vec<f32>>, len: usize) -> Vec<f32> {
    let by_len = |index: &usize| free[*index].len();
    let best = (0..free.len()).filter(|&index| free[index].len() >= len).min_by_key(by_len);
    if let Some(index) = best {
        return free.swap_remove(index);
    }
    if let Some(index) = (0..free.len()).max_by_key(by_len) {
        free.swap_remove(index);
    }
    vec![0.0; len]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_reused_and_nested_buffers_are_distinct() {
        let (long, short) = with_buffer(100, |outer| {
            outer.fill(1.0);
            let short = with_buffer(50, |inner| {
                inner.fill(2.0);
                inner.as_ptr()
            });
            assert_eq!(outer, [1.0; 100]);
            (outer.as_ptr(), short)
        });
        // Each gets the shortest buffer that is long enough.
        with_buffer(40, |again| assert_eq!(again.as_ptr(), short));
        with_buffer(60, |again| assert_eq!(again.as_ptr(), long));
        with_buffer(100, |again| assert_eq!(again.as_ptr(), long));
    }

    #[test]
    fn a_thread_keeps_a_limited_number_of_buffers_and_replaces_the_longest() {
        fn nested(depth: usize) {
            if depth > 0 {
                with_buffer(10, |_| nested(depth - 1));
            }
        }
        nested(MAX_FREE_BUFFERS + 3);
        let lengths = || FREE.with_borrow(|free| free.iter().map(Vec::len).collect::<Vec<_>>());
        assert_eq!(lengths(), [10; MAX_FREE_BUFFERS]);
        with_buffer(20, |_| ());
        let mut sorted = lengths();
        sorted.sort_unstable();
        assert_eq!(sorted, [&[10; MAX_FREE_BUFFERS - 1][..], &[20]].concat());
    }

    #[test]
    fn u16_buffers_are_aligned_to_a_cache_line() {
        for len in [0, 1, 2, 33] {
            with_u16_buffer(len, |buffer| {
                assert_eq!((buffer.len(), buffer.as_ptr().addr() % 64), (len, 0));
            });
        }
    }
}
