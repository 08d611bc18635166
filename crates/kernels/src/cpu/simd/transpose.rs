//! Transposition with AVX, for AVX2 and AVX-512.

use std::arch::x86_64::{
    _mm_loadu_ps, _mm256_castpd_ps, _mm256_castps_pd, _mm256_castps128_ps256, _mm256_insertf128_ps,
    _mm256_storeu_ps, _mm256_unpackhi_pd, _mm256_unpackhi_ps, _mm256_unpacklo_pd,
    _mm256_unpacklo_ps,
};

/// Transposes 16 x 16 elements, 8 x 4 at a time.
///
/// # Safety
/// The processor has AVX.
#[inline(always)]
pub unsafe fn transpose_16x16(from: &[f32; 256], to: &mut [f32; 256]) {
    /// Elements from a row to the next.
    const ROW: usize = 16;
    for (row, column) in (0..16).step_by(4).flat_map(|row| [(row, 0), (row, 8)]) {
        // SAFETY: the caller guarantees AVX. Rows `column` to `column + 8` have four elements from
        // `row` on.
        unsafe {
            // Rows that are four apart share a vector, so that each half is transposed by itself.
            let [a, b, c, d] = std::array::from_fn(|i| {
                let start = from.as_ptr().add((column + i) * ROW + row);
                let low = _mm256_castps128_ps256(_mm_loadu_ps(start));
                _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(start.add(4 * ROW)))
            });
            let pairs = [_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)];
            let next = [_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d)];
            for (i, (ab, cd)) in pairs.into_iter().zip(next).enumerate() {
                let (ab, cd) = (_mm256_castps_pd(ab), _mm256_castps_pd(cd));
                let to = to.as_mut_ptr().add((row + 2 * i) * ROW + column);
                _mm256_storeu_ps(to, _mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd)));
                _mm256_storeu_ps(to.add(ROW), _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd)));
            }
        }
    }
}
