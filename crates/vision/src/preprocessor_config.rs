//! preprocessor_config.json ─► [`Preprocessing`]

use std::path::Path;

use checkpoint::settings::Fields;
use serde_json::Value;

use crate::config::EncoderFamily;
use crate::config_keys::{PREPROCESSOR_CONFIG, check_keys};
use crate::error::Result;
use crate::hugging_face_config::parse_json;
use crate::preprocess::Preprocessing;

/// Largest supported size in pixels.
const MAX_SIZE: usize = 4096;
/// `size` and `crop_size` of both processors where the config has none.
const DEFAULT_SIZE: usize = 224;
/// Largest ratio of `size` to `crop_size` and the reverse: beyond it, the shorter side would become
/// zero at small image sizes.
const MAX_CROP_RATIO: usize = 32;

impl Preprocessing {
    /// Reads the preprocessing of an encoder's folder, with the unknown keys of the file.
    ///
    /// Looks for the files in the order of transformers: `processor_config.json`, then
    /// `preprocessor_config.json`. Without either it is that of the family at `image_size`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for unsupported settings, [`Error::Files`](crate::Error::Files).
    pub(crate) fn from_folder(
        folder: &Path,
        family: EncoderFamily,
        image_size: usize,
    ) -> Result<(Self, Vec<String>)> {
        for (name, parent_key) in
            [("processor_config.json", Some("image_processor")), ("preprocessor_config.json", None)]
        {
            let path = folder.join(name);
            if !path.is_file() {
                continue;
            }
            let json = parse_json(&path, &checkpoint::files::read_text(&path)?)?;
            let json = parent_key.map_or(&json, |key| &json[key]);
            if parent_key.is_none() || !json.is_null() {
                return Self::from_json(&path, json);
            }
        }
        Ok((Self::for_family(family, image_size), Vec::new()))
    }

    /// Reads a Hugging Face `preprocessor_config.json`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for unsupported settings, [`Error::Files`](crate::Error::Files) for invalid JSON.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        Self::from_json(path, &parse_json(path, text)?).map(|(settings, _unknown)| settings)
    }

    /// The settings and the unknown keys. Absent settings have the defaults of transformers.
    fn from_json(path: &Path, json: &Value) -> Result<(Self, Vec<String>)> {
        let unknown = check_keys(path, json, &[PREPROCESSOR_CONFIG])?;
        let fields = Fields::new(path, json);
        check_processor_type(&fields)?;
        fields.parsed("rescale_factor", (), "1/255", |value| {
            value.as_f64().filter(|factor| (factor * 255.0 - 1.0).abs() <= 1e-6).map(|_| ())
        })?;

        let expected = format!("a size from 1 to {MAX_SIZE} as `shortest_edge`");
        let shortest_edge = fields
            .parsed("size", DEFAULT_SIZE, &expected, |value| size(value, &["shortest_edge"]))?;
        let expected = format!("a square: a size from 1 to {MAX_SIZE} as `height` and `width`");
        let image_size = fields.parsed("crop_size", DEFAULT_SIZE, &expected, |value| {
            size(value, &["height", "width"])
        })?;
        if shortest_edge > MAX_CROP_RATIO * image_size
            || image_size > MAX_CROP_RATIO * shortest_edge
        {
            let expected = format!("a size within {MAX_CROP_RATIO} times of crop_size");
            return Err(fields.unsupported("size", fields.value("size"), expected).into());
        }

        let defaults = Self::for_family(EncoderFamily::Clip, image_size);
        let mean = fields.parsed("image_mean", defaults.mean, "three numbers", channels)?;
        let std = fields.parsed("image_std", defaults.std, "three numbers", channels)?;
        if std.contains(&0.0) {
            let found = fields.value("image_std");
            return Err(fields.unsupported("image_std", found, "numbers other than 0").into());
        }
        Ok((Self { shortest_edge, image_size, mean, std }, unknown))
    }
}

fn check_processor_type(fields: &Fields<'_>) -> Result<()> {
    let supported = ["CLIPImageProcessor", "BitImageProcessor", "CLIPFeatureExtractor"];
    for key in ["image_processor_type", "feature_extractor_type"] {
        fields.parsed(key, (), "CLIPImageProcessor or BitImageProcessor", |value| {
            let name = value.as_str()?;
            // Suffixes of implementations of the same processor.
            let base_name = ["Fast", "Pil"].iter().find_map(|suffix| name.strip_suffix(suffix));
            supported.contains(&base_name.unwrap_or(name)).then_some(())
        })?;
    }
    Ok(())
}

/// A size: a number, or an object whose only keys are `keys`, with equal values. Another key would
/// change the meaning of these.
fn size(value: &Value, keys: &[&str]) -> Option<usize> {
    let size = match value {
        Value::Object(object) => {
            let mut sizes = object.iter().filter(|(_key, size)| !size.is_null());
            let first = sizes.clone().next()?.1.as_u64()?;
            let is_expected = |(key, size): (&String, &Value)| {
                keys.contains(&key.as_str()) && size.as_u64() == Some(first)
            };
            sizes.all(is_expected).then_some(first)?
        }
        value => value.as_u64()?,
    };
    usize::try_from(size).ok().filter(|size| (1..=MAX_SIZE).contains(size))
}

/// One number for each of red, green and blue.
fn channels(value: &Value) -> Option<[f32; 3]> {
    let numbers = value.as_array()?.iter().map(|number| Some(number.as_f64()? as f32));
    numbers.collect::<Option<Vec<_>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_hugging_face_size_formats_are_read() {
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
    }

    #[test]
    fn defaults_equal_transformers() {
        let settings = Preprocessing::parse(Path::new("a"), r#"{"resample": null}"#).unwrap();
        assert_eq!(settings, Preprocessing::for_family(EncoderFamily::Clip, 224));
    }

    #[test]
    fn unsupported_settings_are_refused_by_name() {
        for (text, expected) in [
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
            assert!(error.starts_with(&format!("a: {expected}")), "{error}");
        }
    }

    #[test]
    fn processor_config_takes_precedence() {
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
