//! image ─► shorter side resized ─► center crop ─► normalized pixels

use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;

use crate::config::EncoderFamily;
use crate::resample::resample;

/// How an image becomes the input of an encoder.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Preprocessing {
    /// Length of the shorter side after resizing (bicubic, antialiased), in pixels.
    pub shortest_edge: usize,
    /// Height and width of the center crop, in pixels.
    pub image_size: usize,
    /// Subtracted from red, green and blue, which are in `[0, 1]`.
    pub mean: [f32; 3],
    /// Divides the difference.
    pub std: [f32; 3],
}

impl Preprocessing {
    /// Preprocessing with the given sizes and normalization.
    pub fn new(shortest_edge: usize, image_size: usize, mean: [f32; 3], std: [f32; 3]) -> Self {
        Self { shortest_edge, image_size, mean, std }
    }

    /// The preprocessing that the encoders of a family were trained with.
    pub fn for_family(family: EncoderFamily, image_size: usize) -> Self {
        match family {
            // Statistics of CLIP's training images.
            EncoderFamily::Clip => Self {
                shortest_edge: image_size,
                image_size,
                mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
                std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
            },
            // Statistics of ImageNet; resizing to 256 and cropping 224.
            EncoderFamily::Dinov2 => Self {
                shortest_edge: image_size * 8 / 7,
                image_size,
                mean: [0.485, 0.456, 0.406],
                std: [0.229, 0.224, 0.225],
            },
        }
    }

    /// The same preprocessing at another image size. The crop covers the same part of an image.
    #[must_use]
    pub(crate) fn with_image_size(&self, image_size: usize) -> Self {
        let shortest_edge = self.shortest_edge * image_size / self.image_size;
        Self { shortest_edge, image_size, ..self.clone() }
    }

    /// The input of an encoder for a batch of images.
    ///
    /// # Shapes
    /// - output: `[images, 3, image_size, image_size]`
    pub fn pixels(&self, images: &[RgbImage], device: &Device) -> Tensor<4> {
        let values = images.iter().flat_map(|image| self.normalized_pixels(image));
        let shape = [images.len(), 3, self.image_size, self.image_size];
        Tensor::from_data(TensorData::new(values.collect::<Vec<_>>(), shape), device)
    }

    /// `[3, image_size, image_size]`
    fn normalized_pixels(&self, image: &RgbImage) -> Vec<f32> {
        let size = self.image_size;
        let dimensions = self.resized_dimensions(image);
        let starts = dimensions.map(|side| (i64::from(side) - size as i64).div_euclid(2));
        // Only the crop is resized: an image with a high aspect ratio may not fit into memory.
        let [columns, rows] = [0, 1].map(|axis| {
            let start = starts[axis].max(0) as u32;
            start..dimensions[axis].min(start + size as u32)
        });
        let cropped = resample(image, dimensions, [columns, rows]);
        // A side that is shorter than the crop is padded with black.
        let [left, top] = starts.map(|start| start.min(0));
        let mut pixels = Vec::with_capacity(3 * size * size);
        for channel in 0..3 {
            let normalize =
                |value: u8| (f32::from(value) / 255.0 - self.mean[channel]) / self.std[channel];
            for row in 0..size as i64 {
                for column in 0..size as i64 {
                    let position =
                        u32::try_from(column + left).ok().zip(u32::try_from(row + top).ok());
                    let pixel = position.and_then(|(x, y)| cropped.get_pixel_checked(x, y));
                    pixels.push(normalize(pixel.map_or(0, |pixel| pixel.0[channel])));
                }
            }
        }
        pixels
    }

    /// Width and height of the resized image.
    fn resized_dimensions(&self, image: &RgbImage) -> [u32; 2] {
        let (width, height) = image.dimensions();
        let shorter = self.shortest_edge as u64;
        let longer =
            |long: u32, short: u32| ((shorter * u64::from(long)) / u64::from(short)) as u32;
        if width <= height {
            [shorter as u32, longer(height, width)]
        } else {
            [longer(width, height), shorter as u32]
        }
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn wide_image_is_center_cropped() {
        // Red, green, blue: 4 columns each, 4 rows.
        let image = RgbImage::from_fn(12, 4, |x, _y| {
            let mut pixel = [0; 3];
            pixel[x as usize / 4] = 255;
            Rgb(pixel)
        });
        let settings = Preprocessing::new(4, 4, [0.0; 3], [1.0; 3]);
        let pixels = testing::values(settings.pixels(&[image], &testing::flex()));
        assert_eq!(pixels[16..32], [1.0; 16]);
        assert_eq!((&pixels[..16], &pixels[32..]), (&[0.0; 16][..], &[0.0; 16][..]));
    }

    #[test]
    fn center_crop_does_not_resize_the_whole_image() {
        // The whole resized image would be 409,600 x 4,096 pixels.
        let image =
            RgbImage::from_fn(1600, 16, |x, _y| Rgb(if x < 800 { [255, 0, 0] } else { [0; 3] }));
        let settings = Preprocessing::new(4096, 128, [0.0; 3], [1.0; 3]);
        let pixels = testing::values(settings.pixels(&[image], &testing::flex()));
        let row = &pixels[64 * 128..65 * 128];
        assert!(row[0] > 0.7 && row[127] < 0.3, "{} {}", row[0], row[127]);
        assert!((row[63] + row[64] - 1.0).abs() < 0.01, "{} {}", row[63], row[64]);
    }

    #[test]
    fn pixels_are_normalized_and_a_small_image_is_padded_with_black() {
        let image = RgbImage::from_pixel(2, 2, Rgb([255, 0, 51]));
        let settings = Preprocessing::new(2, 4, [0.5, 0.0, 0.2], [0.5, 1.0, 2.0]);
        let pixels = testing::values(settings.pixels(&[image], &testing::flex()));
        let inside = |row: usize, column: usize| (1..3).contains(&row) && (1..3).contains(&column);
        for row in 0..4 {
            for column in 0..4 {
                let found = [0, 1, 2].map(|channel| pixels[channel * 16 + row * 4 + column]);
                let expected =
                    if inside(row, column) { [1.0, 0.0, 0.0] } else { [-1.0, 0.0, -0.1] };
                for (found, expected) in found.iter().zip(expected) {
                    assert!((found - expected).abs() < 1e-6, "{found} at {row}, {column}");
                }
            }
        }
    }

    #[test]
    fn another_image_size_keeps_the_crop() {
        let settings = Preprocessing::for_family(EncoderFamily::Dinov2, 224);
        assert_eq!(settings.with_image_size(112).shortest_edge, 128);
    }
}
