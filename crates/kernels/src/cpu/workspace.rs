//! Buffers for one call's intermediate numbers, kept by each thread from call to call.

use std::cell::RefCell;

thread_local! {
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Buffers that a thread keeps at the most.
const KEPT: usize = 8;

/// Runs `work` with `len` numbers of any value. Calls may be nested.
pub fn with<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = FREE.with_borrow_mut(|free| take(free, len));
    let result = work(&mut buffer[..len]);
    FREE.with_borrow_mut(|free| {
        if free.len() < KEPT {
            free.push(buffer);
        }
    });
    result
}

/// As [`with`]: `len` numbers of 16 bits that begin at a cache line.
pub fn with_u16_buffer<R>(len: usize, work: impl FnOnce(&mut [u16]) -> R) -> R {
    const LINE: usize = 64;
    with(len.div_ceil(2) + LINE / size_of::<f32>(), |buffer| {
        let start = buffer.as_ptr().align_offset(LINE);
        work(&mut bytemuck::cast_slice_mut(&mut buffer[start..])[..len])
    })
}

/// The smallest buffer that is long enough, or a new one in place of the longest.
fn take(free: &mut Vec<Vec<f32>>, len: usize) -> Vec<f32> {
    let by_len = |index: &usize| free[*index].len();
    let enough = (0..free.len()).filter(|&index| free[index].len() >= len).min_by_key(by_len);
    if let Some(index) = enough {
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
    fn a_buffer_is_used_again_and_nested_ones_are_apart() {
        let (long, short) = with(100, |outer| {
            outer.fill(1.0);
            let short = with(50, |inner| {
                inner.fill(2.0);
                inner.as_ptr()
            });
            assert_eq!(outer, [1.0; 100]);
            (outer.as_ptr(), short)
        });
        // The smallest that is long enough.
        with(40, |again| assert_eq!(again.as_ptr(), short));
        with(60, |again| assert_eq!(again.as_ptr(), long));
        with(100, |again| assert_eq!(again.as_ptr(), long));
    }

    #[test]
    fn a_thread_keeps_a_few_buffers_and_a_longer_one_takes_the_place_of_the_longest() {
        fn nested(depth: usize) {
            if depth > 0 {
                with(10, |_| nested(depth - 1));
            }
        }
        nested(KEPT + 3);
        let lengths = || FREE.with_borrow(|free| free.iter().map(Vec::len).collect::<Vec<_>>());
        assert_eq!(lengths(), [10; KEPT]);
        with(20, |_| ());
        let mut found = lengths();
        found.sort_unstable();
        assert_eq!(found, [&[10; KEPT - 1][..], &[20]].concat());
    }

    #[test]
    fn numbers_of_16_bits_begin_at_a_cache_line() {
        for len in [0, 1, 2, 33] {
            with_u16_buffer(len, |numbers| {
                assert_eq!((numbers.len(), numbers.as_ptr().addr() % 64), (len, 0));
            });
        }
    }
}
