//! Several buffers out of one workspace, each starting on a cache line.

use crate::cpu::workspace;

/// Numbers in a cache line.
const LINE: usize = 16;

/// Runs `work` with one buffer for each length, holding any values.
pub fn with<const N: usize, R>(lens: [usize; N], work: impl FnOnce([&mut [f32]; N]) -> R) -> R {
    with_buffer_groups(lens, [], [], |buffers, [], []| work(buffers))
}

/// As [`with`], for buffers in three groups.
pub fn with_buffer_groups<const A: usize, const B: usize, const C: usize, R>(
    a: [usize; A],
    b: [usize; B],
    c: [usize; C],
    work: impl FnOnce([&mut [f32]; A], [&mut [f32]; B], [&mut [f32]; C]) -> R,
) -> R {
    let all = a.iter().chain(&b).chain(&c);
    let total: usize = all.map(|len| len.next_multiple_of(LINE)).sum();
    workspace::with(total + LINE - 1, |buffer| {
        let skipped = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE - 1);
        let rest = &mut buffer[skipped..];
        let (a, rest) = cut(rest, a);
        let (b, rest) = cut(rest, b);
        let (c, _) = cut(rest, c);
        work(a, b, c)
    })
}

/// Takes buffers off the start of a slice; gives the rest too.
fn cut<const N: usize>(mut rest: &mut [f32], lens: [usize; N]) -> ([&mut [f32]; N], &mut [f32]) {
    let parts = lens.map(|len| {
        let (part, after) = std::mem::take(&mut rest).split_at_mut(len.next_multiple_of(LINE));
        rest = after;
        &mut part[..len]
    });
    (parts, rest)
}

#[cfg(test)]
mod tests {
    #[test]
    fn buffers_have_their_lengths_and_start_on_cache_lines() {
        super::with([3, 0, 17], |buffers| {
            assert_eq!(buffers.each_ref().map(|buffer| buffer.len()), [3, 0, 17]);
            for buffer in buffers {
                assert_eq!(buffer.as_ptr().align_offset(64), 0);
            }
        });
    }
}
