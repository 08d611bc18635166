//! A picture ─► shorter side resized ─► middle cut out ─► numbers around zero.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use serde_json::Value;

use crate::config::Family;
use crate::error::{Error, Result};
use crate::resample::resample;

/// What a picture goes through before an encoder sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessing {
    /// Pixels of the shorter side after resizing, bicubic with as many neighbours as it takes.
    pub shorter_side: usize,
    /// Pixels a side of the square in the middle.
    pub image_size: usize,
    /// Taken from red, green and blue, of 0 to 1.
    pub mean: [f32; 3],
    /// What the rest is divided by.
    pub std: [f32; 3],
}

impl Preprocessing {
    /// What a family's encoders learned with.
    pub fn of_family(family: Family, image_size: usize) -> Self {
        match family {
            // Of the pictures that CLIP learned from.
            Family::Clip => Self {
                shorter_side: image_size,
                image_size,
                mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
                std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
            },
            // Of ImageNet; an eighth of each side is cut away.
            Family::Dinov2 => Self {
                shorter_side: image_size * 8 / 7,
                image_size,
                mean: [0.485, 0.456, 0.406],
                std: [0.229, 0.224, 0.225],
            },
        }
    }

    /// The same for pictures of another size: as much of a picture is seen.
    #[must_use]
    pub fn at(&self, image_size: usize) -> Self {
        let shorter_side = self.shorter_side * image_size / self.image_size;
        Self { shorter_side, image_size, ..self.clone() }
    }

    /// Reads Hugging Face's `preprocessor_config.json`.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that are not known here.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let wrong = |field: &str, found: String, expected: &str| Error::Config {
            path: path.into(),
            field: field.into(),
            found,
            expected: expected.into(),
        };
        let json: Value = serde_json::from_str(text)
            .map_err(|error| wrong("the file", error.to_string(), "JSON"))?;
        let side = |field: &str, keys: &[&str]| {
            let value = &json[field];
            let found = keys.iter().map(|key| &value[*key]).find_map(Value::as_u64);
            let side = found.or(value.as_u64()).filter(|side| (1..=4096).contains(side));
            side.map(|side| side as usize)
                .ok_or_else(|| wrong(field, value.to_string(), "a size from 1 to 4096"))
        };
        let three = |field: &str| {
            let numbers = json[field].as_array().map(|all| all.iter().filter_map(Value::as_f64));
            let numbers = numbers.map(|all| all.map(|number| number as f32).collect::<Vec<_>>());
            numbers
                .and_then(|all| <[f32; 3]>::try_from(all).ok())
                .ok_or_else(|| wrong(field, json[field].to_string(), "three numbers"))
        };
        for field in ["do_resize", "do_center_crop", "do_rescale", "do_normalize"] {
            if json[field] == Value::Bool(false) {
                return Err(wrong(field, "false".into(), "true"));
            }
        }
        // PIL's number for bicubic.
        if !matches!(json["resample"].as_u64(), None | Some(3)) {
            return Err(wrong("resample", json["resample"].to_string(), "3, which is bicubic"));
        }
        let image_size = side("crop_size", &["height"])?;
        if json["crop_size"]["width"].as_u64().is_some_and(|width| width != image_size as u64) {
            return Err(wrong("crop_size", json["crop_size"].to_string(), "a square"));
        }
        Ok(Self {
            shorter_side: side("size", &["shortest_edge"])?,
            image_size,
            mean: three("image_mean")?,
            std: three("image_std")?,
        })
    }

    /// Pictures as an encoder takes them.
    ///
    /// # Shapes
    /// - output: `[pictures, 3, image_size, image_size]`
    pub fn pixels(&self, pictures: &[RgbImage], device: &Device) -> Tensor<4> {
        let values = pictures.iter().flat_map(|picture| self.numbers(picture)).collect::<Vec<_>>();
        let shape = [pictures.len(), 3, self.image_size, self.image_size];
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// `[3, image_size, image_size]`
    fn numbers(&self, picture: &RgbImage) -> Vec<f32> {
        let resized = self.resized(picture);
        let size = self.image_size;
        let [left, top] = [resized.width(), resized.height()].map(|side| {
            // Where the picture is smaller than the square, black is around it.
            (i64::from(side) - size as i64).div_euclid(2)
        });
        let mut out = Vec::with_capacity(3 * size * size);
        for channel in 0..3 {
            let scale =
                |value: u8| (f32::from(value) / 255.0 - self.mean[channel]) / self.std[channel];
            for row in 0..size as i64 {
                for column in 0..size as i64 {
                    let place =
                        u32::try_from(column + left).ok().zip(u32::try_from(row + top).ok());
                    let pixel = place.and_then(|(x, y)| resized.get_pixel_checked(x, y));
                    out.push(scale(pixel.map_or(0, |pixel| pixel.0[channel])));
                }
            }
        }
        out
    }

    fn resized(&self, picture: &RgbImage) -> RgbImage {
        let (width, height) = picture.dimensions();
        let shorter = self.shorter_side as u64;
        let longer =
            |long: u32, short: u32| ((shorter * u64::from(long)) / u64::from(short)) as u32;
        let (to_width, to_height) = if width <= height {
            (shorter as u32, longer(height, width))
        } else {
            (longer(width, height), shorter as u32)
        };
        if (to_width, to_height) == (width, height) {
            return picture.clone();
        }
        resample(picture, to_width, to_height)
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn the_middle_of_a_long_picture_is_seen() {
        // Red, green, blue: 4 columns each, 4 rows.
        let picture = RgbImage::from_fn(12, 4, |x, _y| {
            let mut pixel = [0; 3];
            pixel[x as usize / 4] = 255;
            Rgb(pixel)
        });
        let plain = Preprocessing { shorter_side: 4, image_size: 4, mean: [0.0; 3], std: [1.0; 3] };
        let pixels = testing::values(plain.pixels(&[picture], &testing::flex()));
        assert_eq!(pixels[16..32], [1.0; 16]);
        assert_eq!((&pixels[..16], &pixels[32..]), (&[0.0; 16][..], &[0.0; 16][..]));
    }

    #[test]
    fn numbers_are_scaled_and_a_small_picture_gets_black_around_it() {
        let picture = RgbImage::from_pixel(2, 2, Rgb([255, 0, 51]));
        let settings = Preprocessing {
            shorter_side: 2,
            image_size: 4,
            mean: [0.5, 0.0, 0.2],
            std: [0.5, 1.0, 2.0],
        };
        let pixels = testing::values(settings.pixels(&[picture], &testing::flex()));
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
    fn hugging_faces_settings_are_read_in_both_spellings() {
        let path = Path::new("preprocessor_config.json");
        let settings = Preprocessing::parse(
            path,
            r#"{"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "resample": 3,
                "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}"#,
        );
        assert_eq!(settings.unwrap(), Preprocessing::of_family(Family::Dinov2, 224));
        let old = r#"{"size": 224, "crop_size": 224, "image_mean": [0.5, 0.5, 0.5], "image_std": [1, 1, 1]}"#;
        assert_eq!(Preprocessing::parse(path, old).unwrap().shorter_side, 224);
        let error = Preprocessing::parse(path, &old.replace("224,", "0,")).unwrap_err().to_string();
        assert!(error.contains("size is 0, expected a size from 1 to 4096"), "{error}");
        assert_eq!(Preprocessing::of_family(Family::Dinov2, 224).at(112).shorter_side, 128);
    }
}
