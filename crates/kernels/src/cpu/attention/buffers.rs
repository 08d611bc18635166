//! Several buffers in one workspace, each aligned to a cache line.

use crate::cpu::workspace;

/// Elements of a cache line.
const CACHE_LINE_FLOATS: usize = 16;

/// Runs `work` with one buffer for each length, with unspecified values.
pub fn with_buffers<const N: usize, R>(
    lens: [usize; N],
    work: impl FnOnce([&mut [f32]; N]) -> R,
) -> R {
    with_buffer_groups(lens, [], [], |buffers, [], []| work(buffers))
}

/// As [`with_buffers`], for three groups of buffers.
pub fn with_buffer_groups<const A: usize, const B: usize, const C: usize, R>(
    a: [usize; A],
    b: [usize; B],
    c: [usize; C],
    work: impl FnOnce([&mut [f32]; A], [&mut [f32]; B], [&mut [f32]; C]) -> R,
) -> R {
    let all = a.iter().chain(&b).chain(&c);
    let total: usize = all.map(|len| len.next_multiple_of(CACHE_LINE_FLOATS)).sum();
    workspace::with_buffer(total + CACHE_LINE_FLOATS - 1, |buffer| {
        let skipped = buffer
            .as_ptr()
            .align_offset(CACHE_LINE_FLOATS * size_of::<f32>())
            .min(CACHE_LINE_FLOATS - 1);
        let rest = &mut buffer[skipped..];
        let (a, rest) = split_lens(rest, a);
        let (b, rest) = split_lens(rest, b);
        let (c, _) = split_lens(rest, c);
        work(a, b, c)
    })
}

/// Splits buffers off the start of a slice; also returns the rest.
fn split_lens<const N: usize>(
    mut rest: &mut [f32],
    lens: [usize; N],
) -> ([&mut [f32]; N], &mut [f32]) {
    let parts = lens.map(|len| {
        let (part, after) =
            std::mem::take(&mut rest).split_at_mut(len.next_multiple_of(CACHE_LINE_FLOATS));
        rest = after;
        &mut part[..len]
    });
    (parts, rest)
}

#[cfg(test)]
mod tests {
    #[test]
    fn buffers_have_their_lengths_and_start_on_cache_lines() {
        super::with_buffers([3, 0, 17], |buffers| {
            assert_eq!(buffers.each_ref().map(|buffer| buffer.len()), [3, 0, 17]);
            for buffer in buffers {
                assert_eq!(buffer.as_ptr().align_offset(64), 0);
            }
        });
    }
}
