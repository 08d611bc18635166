//! Image resizing with the same bytes as Pillow's bicubic filter.
//!
//! The filter is separable: a horizontal pass, rounding to bytes, a vertical pass. Weights have 22
//! fractional bits, and the support widens when the image shrinks. Other libraries differ by one level
//! of 256 in some pixels, which changes the input of an encoder.
//!
//! Source: Pillow, `Resample.c`.

use std::ops::Range;

use image::RgbImage;

use crate::cubic::cubic_kernel;

/// Fractional bits of a weight.
const PRECISION_BITS: u32 = 22;

/// The weighted input pixels of one output pixel.
struct FilterTaps {
    /// Index of the first input pixel.
    first: usize,
    /// Fixed-point weights of the input pixels from `first` on.
    weights: Vec<i64>,
}

/// The taps of the output pixels in `range`, for a line of `from` pixels resized to `to`.
///
/// `a = -0.5` as in Pillow.
fn taps(from: u32, to: u32, range: Range<u32>) -> Vec<FilterTaps> {
    const A: f64 = -0.5;
    const SUPPORT: f64 = 2.0;
    let scale = f64::from(from) / f64::from(to);
    // When the image grows, the kernel keeps its own support.
    let filter_scale = scale.max(1.0);
    let taps_of = |pixel: u32| {
        let center = (f64::from(pixel) + 0.5) * scale;
        let first = (center - SUPPORT * filter_scale + 0.5).max(0.0) as usize;
        let end = ((center + SUPPORT * filter_scale + 0.5) as usize).min(from as usize);
        let weights =
            (first..end).map(|at| cubic_kernel((at as f64 - center + 0.5) / filter_scale, A));
        let weights = weights.collect::<Vec<_>>();
        let sum = weights.iter().sum::<f64>();
        let fixed = |weight: &f64| (weight / sum * f64::from(1 << PRECISION_BITS)).round() as i64;
        FilterTaps { first, weights: weights.iter().map(fixed).collect() }
    };
    range.map(taps_of).collect()
}

/// The weighted sum of pixels, rounded to bytes.
fn weighted_sum<'a>(taps: &FilterTaps, pixel: impl Fn(usize) -> &'a [u8; 3]) -> [u8; 3] {
    let mut sums = [1_i64 << (PRECISION_BITS - 1); 3];
    for (at, weight) in (taps.first..).zip(&taps.weights) {
        for (sum, value) in sums.iter_mut().zip(pixel(at)) {
            *sum += weight * i64::from(*value);
        }
    }
    sums.map(|sum| (sum >> PRECISION_BITS).clamp(0, 255) as u8)
}

/// A crop of the image resized to `size`.
///
/// Time and memory depend on the crop, not on `size`: pixels outside of it are not computed.
pub(crate) fn resample(
    image: &RgbImage,
    size: [u32; 2],
    [columns, rows]: [Range<u32>; 2],
) -> RgbImage {
    let horizontal = taps(image.width(), size[0], columns);
    let vertical = taps(image.height(), size[1], rows);
    let [width, height] = [&horizontal, &vertical].map(|taps| taps.len() as u32);
    // Input rows that the vertical pass reads.
    let first = vertical.first().map_or(0, |taps| taps.first);
    let end = vertical.last().map_or(0, |taps| taps.first + taps.weights.len());
    let horizontal_pass = RgbImage::from_fn(width, (end - first) as u32, |x, y| {
        let y = y + first as u32;
        let taps = &horizontal[x as usize];
        image::Rgb(weighted_sum(taps, |at| &image.get_pixel(at as u32, y).0))
    });
    RgbImage::from_fn(width, height, |x, y| {
        let taps = &vertical[y as usize];
        let pixel = |at: usize| &horizontal_pass.get_pixel(x, (at - first) as u32).0;
        image::Rgb(weighted_sum(taps, pixel))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resize(image: &RgbImage, width: u32, height: u32) -> RgbImage {
        resample(image, [width, height], [0..width, 0..height])
    }

    #[test]
    fn crop_equals_the_crop_of_a_full_resize() {
        let image = RgbImage::from_fn(23, 31, |x, y| {
            image::Rgb([(x * 11) as u8, (y * 8) as u8, (x * y) as u8])
        });
        for [width, height] in [[11, 15], [50, 70], [9, 90]] {
            let crop = resample(&image, [width, height], [3..8, 5..13]);
            let resized = resize(&image, width, height);
            let expected = RgbImage::from_fn(5, 8, |x, y| *resized.get_pixel(x + 3, y + 5));
            assert_eq!(crop, expected, "{width} x {height}");
        }
    }

    #[test]
    fn same_size_is_unchanged() {
        let image = RgbImage::from_fn(7, 5, |x, y| image::Rgb([x as u8 * 30, y as u8 * 50, 9]));
        assert_eq!(resize(&image, 7, 5), image);
    }

    #[test]
    fn constant_image_stays_constant() {
        let image = RgbImage::from_pixel(9, 4, image::Rgb([1, 128, 255]));
        let found = resize(&image, 5, 13);
        assert_eq!(found.dimensions(), (5, 13));
        assert!(found.pixels().all(|pixel| pixel.0 == [1, 128, 255]));
    }

    #[test]
    fn filter_weights_sum_to_one() {
        for (from, to) in [(200, 73), (64, 98), (1, 5), (5, 1)] {
            for taps in taps(from, to, 0..to) {
                let sum = taps.weights.iter().sum::<i64>();
                assert!((sum - (1 << PRECISION_BITS)).abs() <= 16, "{from} to {to}: {sum}");
                assert!(taps.first + taps.weights.len() <= from as usize);
            }
        }
    }
}
