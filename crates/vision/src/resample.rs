//! Pictures of another size, byte for byte as Pillow makes them.
//!
//! Bicubic, with as many neighbours as the new size takes: one direction after the other, rounded in
//! between, with weights of 22 bits behind the point. Libraries that come close differ by a level of
//! 256 here and there, which an encoder's input shows.
//!
//! Source: Pillow, `Resample.c`; R. Keys, "Cubic convolution interpolation", with a = -0.5.

use std::ops::Range;

use image::RgbImage;

/// Bits behind the point of a weight.
const BITS: u32 = 22;

/// What one pixel of a line is made of.
struct Taps {
    first: usize,
    /// Of the pixels from `first` on.
    weights: Vec<i64>,
}

/// Keys' cubic.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    match x {
        ..1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        ..2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

/// For each `wanted` of `to` pixels of a line, what it is made of among `from` ones.
fn taps(from: u32, to: u32, wanted: Range<u32>) -> Vec<Taps> {
    const SUPPORT: f64 = 2.0;
    let scale = f64::from(from) / f64::from(to);
    // Never fewer neighbours than the cubic has.
    let spread = scale.max(1.0);
    let of_pixel = |pixel: u32| {
        let center = (f64::from(pixel) + 0.5) * scale;
        let first = (center - SUPPORT * spread + 0.5).max(0.0) as usize;
        let end = ((center + SUPPORT * spread + 0.5) as usize).min(from as usize);
        let weights = (first..end).map(|at| cubic((at as f64 - center + 0.5) / spread));
        let weights = weights.collect::<Vec<_>>();
        let sum = weights.iter().sum::<f64>();
        let fixed = |weight: &f64| (weight / sum * f64::from(1 << BITS)).round() as i64;
        Taps { first, weights: weights.iter().map(fixed).collect() }
    };
    wanted.map(of_pixel).collect()
}

/// A pixel's weighted sum, rounded to bytes.
fn mixed<'a>(taps: &Taps, pixel: impl Fn(usize) -> &'a [u8; 3]) -> [u8; 3] {
    let mut sums = [1_i64 << (BITS - 1); 3];
    for (at, weight) in (taps.first..).zip(&taps.weights) {
        for (sum, value) in sums.iter_mut().zip(pixel(at)) {
            *sum += weight * i64::from(*value);
        }
    }
    sums.map(|sum| (sum >> BITS).clamp(0, 255) as u8)
}

/// Some columns and rows of a picture with another width and height. What is not asked for is not
/// computed: it takes the time and the memory of a picture of that size, whatever `size` is.
pub(crate) fn resample(
    picture: &RgbImage,
    size: [u32; 2],
    [columns, rows]: [Range<u32>; 2],
) -> RgbImage {
    let across = taps(picture.width(), size[0], columns);
    let down = taps(picture.height(), size[1], rows);
    let [width, height] = [&across, &down].map(|taps| taps.len() as u32);
    // The rows of the picture that any of the wanted ones is made of.
    let first = down.first().map_or(0, |taps| taps.first);
    let end = down.last().map_or(0, |taps| taps.first + taps.weights.len());
    let wide = RgbImage::from_fn(width, (end - first) as u32, |x, y| {
        let y = y + first as u32;
        image::Rgb(mixed(&across[x as usize], |at| &picture.get_pixel(at as u32, y).0))
    });
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb(mixed(&down[y as usize], |at| &wide.get_pixel(x, (at - first) as u32).0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
        resample(picture, [width, height], [0..width, 0..height])
    }

    #[test]
    fn a_part_is_cut_from_the_whole() {
        let picture = RgbImage::from_fn(23, 31, |x, y| {
            image::Rgb([(x * 11) as u8, (y * 8) as u8, (x * y) as u8])
        });
        for [width, height] in [[11, 15], [50, 70], [9, 90]] {
            let part = resample(&picture, [width, height], [3..8, 5..13]);
            let whole = whole(&picture, width, height);
            let cut = RgbImage::from_fn(5, 8, |x, y| *whole.get_pixel(x + 3, y + 5));
            assert_eq!(part, cut, "{width} x {height}");
        }
    }

    #[test]
    fn a_picture_of_the_same_size_stays_as_it_is() {
        let picture = RgbImage::from_fn(7, 5, |x, y| image::Rgb([x as u8 * 30, y as u8 * 50, 9]));
        assert_eq!(whole(&picture, 7, 5), picture);
    }

    #[test]
    fn an_even_picture_stays_even() {
        let picture = RgbImage::from_pixel(9, 4, image::Rgb([1, 128, 255]));
        let found = whole(&picture, 5, 13);
        assert_eq!(found.dimensions(), (5, 13));
        assert!(found.pixels().all(|pixel| pixel.0 == [1, 128, 255]));
    }

    #[test]
    fn the_weights_of_a_pixel_are_one_together() {
        for (from, to) in [(200, 73), (64, 98), (1, 5), (5, 1)] {
            for taps in taps(from, to, 0..to) {
                let sum = taps.weights.iter().sum::<i64>();
                assert!((sum - (1 << BITS)).abs() <= 16, "{from} to {to}: {sum}");
                assert!(taps.first + taps.weights.len() <= from as usize);
            }
        }
    }
}
