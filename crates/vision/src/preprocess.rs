//! A picture ─► shorter side resized ─► middle cut out ─► numbers around zero.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use serde_json::Value;

use crate::config::EncoderFamily;
use crate::error::{Error, Result};
use crate::keys::{self, check};
use crate::resample::resample;

/// What a picture goes through before an encoder sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessing {
    /// Pixels of the shorter side after resizing, bicubic with as many neighbours as it takes.
    pub shortest_edge: usize,
    /// Pixels a side of the square in the middle.
    pub image_size: usize,
    /// Taken from red, green and blue, of 0 to 1.
    pub mean: [f32; 3],
    /// What the rest is divided by.
    pub std: [f32; 3],
}

impl Preprocessing {
    /// What a family's encoders learned with.
    pub fn for_family(family: EncoderFamily, image_size: usize) -> Self {
        match family {
            // Of the pictures that CLIP learned from.
            EncoderFamily::Clip => Self {
                shortest_edge: image_size,
                image_size,
                mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
                std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
            },
            // Of ImageNet; an eighth of each side is cut away.
            EncoderFamily::Dinov2 => Self {
                shortest_edge: image_size * 8 / 7,
                image_size,
                mean: [0.485, 0.456, 0.406],
                std: [0.229, 0.224, 0.225],
            },
        }
    }

    /// The same for pictures of another size: as much of a picture is seen.
    #[must_use]
    pub fn at(&self, image_size: usize) -> Self {
        let shortest_edge = self.shortest_edge * image_size / self.image_size;
        Self { shortest_edge, image_size, ..self.clone() }
    }

    /// Reads the settings that lie in an encoder's folder, as transformers does: those inside
    /// `processor_config.json`, or else `preprocessor_config.json`, or else what the family learned
    /// with, at `image_size`. Also gives the keys that nobody knows.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that are not known here, [`Error::Files`].
    pub(crate) fn from_folder(
        folder: &Path,
        family: EncoderFamily,
        image_size: usize,
    ) -> Result<(Self, Vec<String>)> {
        for (name, inside) in
            [("processor_config.json", Some("image_processor")), ("preprocessor_config.json", None)]
        {
            let path = folder.join(name);
            if !path.is_file() {
                continue;
            }
            let text = checkpoint::files::read_text(&path)?;
            let json = json_of(&path, &text)?;
            match inside {
                None => return Self::read(&path, &json),
                Some(inside) if !json[inside].is_null() => {
                    return Self::read(&path, &json[inside]);
                }
                Some(_) => {}
            }
        }
        Ok((Self::for_family(family, image_size), Vec::new()))
    }

    /// Reads Hugging Face's `preprocessor_config.json`.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that are not known here.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        Self::read(path, &json_of(path, text)?).map(|(settings, _unknown)| settings)
    }

    /// The settings, and the keys that nobody knows. What is not there is as transformers has it.
    fn read(path: &Path, json: &Value) -> Result<(Self, Vec<String>)> {
        /// Times that the resized picture may be larger than the square in its middle, or smaller.
        const MOST_CUT: usize = 32;
        /// Side that both processors resize and cut to when nothing is said.
        const SIDE: u64 = 224;
        let wrong = |field: &str, expected: &str| Error::Config {
            path: path.into(),
            field: field.into(),
            found: json[field].to_string(),
            expected: expected.into(),
        };
        let unknown = check(path, json, &[keys::PREPROCESSING])?;
        // What transformers 4 called fast is the same processor.
        let kinds = ["CLIPImageProcessor", "BitImageProcessor", "CLIPFeatureExtractor"];
        for field in ["image_processor_type", "feature_extractor_type"] {
            let own = json[field].as_str().unwrap_or_default();
            let plain = ["Fast", "Pil"].iter().find_map(|end| own.strip_suffix(end)).unwrap_or(own);
            if !json[field].is_null() && !kinds.contains(&plain) {
                return Err(wrong(field, "CLIPImageProcessor or BitImageProcessor"));
            }
        }
        if json["rescale_factor"]
            .as_f64()
            .map_or(!json["rescale_factor"].is_null(), |factor| (factor * 255.0 - 1.0).abs() > 1e-6)
        {
            return Err(wrong("rescale_factor", "1/255"));
        }
        // Each key that is read must be there alone: with another one a size means something else.
        let side = |field: &str, keys: &[&str]| {
            let value = &json[field];
            let found = match value {
                Value::Null => Some(SIDE),
                Value::Object(own) => {
                    let mut sides = own.iter().filter(|(_, side)| !side.is_null());
                    let first = sides.clone().next().and_then(|(_, side)| side.as_u64());
                    first.filter(|first| {
                        sides.all(|(key, side)| {
                            keys.contains(&key.as_str()) && side.as_u64() == Some(*first)
                        })
                    })
                }
                value => value.as_u64(),
            };
            found.filter(|side| (1..=4096).contains(side)).map(|side| side as usize)
        };
        let expected = "a size from 1 to 4096 as `shortest_edge`";
        let shortest_edge =
            side("size", &["shortest_edge"]).ok_or_else(|| wrong("size", expected))?;
        let expected = "a square, with a size from 1 to 4096 as `height` and `width`";
        let image_size =
            side("crop_size", &["height", "width"]).ok_or_else(|| wrong("crop_size", expected))?;
        // At another size both change alike: what is resized to would vanish.
        if shortest_edge > MOST_CUT * image_size || image_size > MOST_CUT * shortest_edge {
            return Err(wrong("size", "a size within 32 times of crop_size"));
        }
        let usual = Self::for_family(EncoderFamily::Clip, image_size);
        let three = |field: &str, usual: [f32; 3]| {
            let Value::Array(numbers) = &json[field] else {
                let is_none = json[field].is_null();
                return is_none.then_some(usual).ok_or_else(|| wrong(field, "three numbers"));
            };
            let numbers = numbers.iter().map(|number| Some(number.as_f64()? as f32));
            let numbers = numbers.collect::<Option<Vec<_>>>();
            numbers
                .and_then(|all| <[f32; 3]>::try_from(all).ok())
                .ok_or_else(|| wrong(field, "three numbers"))
        };
        let (mean, std) = (three("image_mean", usual.mean)?, three("image_std", usual.std)?);
        if std.contains(&0.0) {
            return Err(wrong("image_std", "numbers other than 0"));
        }
        Ok((Self { shortest_edge, image_size, mean, std }, unknown))
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
        let size = self.image_size;
        let sides = self.resized(picture);
        let starts = sides.map(|side| (i64::from(side) - size as i64).div_euclid(2));
        // All of a long picture may be too much for the memory: only what is seen is made.
        let [columns, rows] = [0, 1].map(|axis| {
            let start = starts[axis].max(0) as u32;
            start..sides[axis].min(start + size as u32)
        });
        let seen = resample(picture, sides, [columns, rows]);
        // Where the picture is smaller than the square, black is around it.
        let [left, top] = starts.map(|start| start.min(0));
        let mut out = Vec::with_capacity(3 * size * size);
        for channel in 0..3 {
            let scale =
                |value: u8| (f32::from(value) / 255.0 - self.mean[channel]) / self.std[channel];
            for row in 0..size as i64 {
                for column in 0..size as i64 {
                    let place =
                        u32::try_from(column + left).ok().zip(u32::try_from(row + top).ok());
                    let pixel = place.and_then(|(x, y)| seen.get_pixel_checked(x, y));
                    out.push(scale(pixel.map_or(0, |pixel| pixel.0[channel])));
                }
            }
        }
        out
    }

    /// Width and height that a picture is resized to.
    fn resized(&self, picture: &RgbImage) -> [u32; 2] {
        let (width, height) = picture.dimensions();
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

fn json_of(path: &Path, text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| Error::Config {
        path: path.into(),
        field: "the file".into(),
        found: error.to_string(),
        expected: "JSON".into(),
    })
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
        let plain =
            Preprocessing { shortest_edge: 4, image_size: 4, mean: [0.0; 3], std: [1.0; 3] };
        let pixels = testing::values(plain.pixels(&[picture], &testing::flex()));
        assert_eq!(pixels[16..32], [1.0; 16]);
        assert_eq!((&pixels[..16], &pixels[32..]), (&[0.0; 16][..], &[0.0; 16][..]));
    }

    #[test]
    fn the_middle_of_a_picture_that_would_fill_the_memory_is_seen() {
        // Resized it has 409,600 x 4,096 pixels.
        let picture =
            RgbImage::from_fn(1600, 16, |x, _y| Rgb(if x < 800 { [255, 0, 0] } else { [0; 3] }));
        let settings =
            Preprocessing { shortest_edge: 4096, image_size: 128, mean: [0.0; 3], std: [1.0; 3] };
        let pixels = testing::values(settings.pixels(&[picture], &testing::flex()));
        let row = &pixels[64 * 128..65 * 128];
        assert!(row[0] > 0.7 && row[127] < 0.3, "{} {}", row[0], row[127]);
        assert!((row[63] + row[64] - 1.0).abs() < 0.01, "{} {}", row[63], row[64]);
    }

    #[test]
    fn numbers_are_scaled_and_a_small_picture_gets_black_around_it() {
        let picture = RgbImage::from_pixel(2, 2, Rgb([255, 0, 51]));
        let settings = Preprocessing {
            shortest_edge: 2,
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
        assert_eq!(settings.unwrap(), Preprocessing::for_family(EncoderFamily::Dinov2, 224));
        let old = r#"{"size": 224, "crop_size": 224, "image_mean": [0.5, 0.5, 0.5], "image_std": [1, 1, 1]}"#;
        assert_eq!(Preprocessing::parse(path, old).unwrap().shortest_edge, 224);
        let error = Preprocessing::parse(path, &old.replace("224,", "0,")).unwrap_err().to_string();
        assert!(error.contains("size is 0, expected a size from 1 to 4096"), "{error}");
        assert_eq!(
            Preprocessing::for_family(EncoderFamily::Dinov2, 224).at(112).shortest_edge,
            128
        );
    }

    #[test]
    fn what_is_not_said_is_as_in_transformers() {
        let settings = Preprocessing::parse(Path::new("a"), r#"{"resample": null}"#).unwrap();
        assert_eq!(settings, Preprocessing::for_family(EncoderFamily::Clip, 224));
    }

    #[test]
    fn settings_that_would_change_pictures_are_refused_by_name() {
        for (text, told) in [
            (r#"{"rescale_factor": 1}"#, "rescale_factor is 1, expected 1/255"),
            (r#"{"resample": 2}"#, "resample is 2, expected 3"),
            (r#"{"do_center_crop": false}"#, "do_center_crop is false, expected true"),
            (r#"{"do_pad": true}"#, "do_pad is true, expected false"),
            (
                r#"{"size": {"shortest_edge": 224, "longest_edge": 300}}"#,
                "size is {\"shortest_edge\"",
            ),
            (r#"{"size": 4096, "crop_size": 1}"#, "size is 4096, expected a size within 32 times"),
            (r#"{"size": 1, "crop_size": 224}"#, "size is 1, expected a size within 32 times"),
            (r#"{"size": {"height": 224, "width": 224}}"#, "size is {\"height\""),
            (r#"{"crop_size": {"height": 224, "width": 192}}"#, "crop_size is "),
            (r#"{"image_mean": [0.5, "x", 0.5, 0.5]}"#, "image_mean is "),
            (r#"{"image_std": 0.5}"#, "image_std is 0.5, expected three numbers"),
            (r#"{"image_std": [0, 1, 1]}"#, "image_std is [0,1,1], expected numbers other than 0"),
            (
                r#"{"image_processor_type": "ConvNextImageProcessor"}"#,
                "image_processor_type is \"ConvNextImageProcessor\", expected CLIPImageProcessor",
            ),
        ] {
            let error = Preprocessing::parse(Path::new("a"), text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("a: {told}")), "{error}");
        }
    }

    #[test]
    fn the_settings_inside_a_processors_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let read = || Preprocessing::from_folder(folder.path(), EncoderFamily::Dinov2, 70).unwrap();
        assert_eq!(read(), (Preprocessing::for_family(EncoderFamily::Dinov2, 70), vec![]));
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("preprocessor_config.json", r#"{"crop_size": 98, "swirl": 1}"#);
        assert_eq!((read().0.image_size, &read().1[..]), (98, &["swirl".to_owned()][..]));
        write("processor_config.json", r#"{"processor_class": "CLIPProcessor"}"#);
        assert_eq!(read().0.image_size, 98);
        write("processor_config.json", r#"{"image_processor": {"crop_size": 112}}"#);
        assert_eq!(read().0.image_size, 112);
    }
}
