//! Preprocessed photos against the image processors of transformers.

use std::path::Path;

use testing::{Golden, golden_folder, values};
use vision::{Preprocessing, read_image};

/// Largest and mean difference from the pixels of transformers, whose resizer is Pillow or torchvision.
fn compare(family: &str, resizer: &str, file: &str) -> (f32, f32) {
    let photos = golden_folder().join("vision/photos");
    let settings = photos.join(family).join("preprocessor_config.json");
    let text = std::fs::read_to_string(&settings).unwrap();
    let settings = Preprocessing::parse(&settings, &text).unwrap();
    let golden = Golden::open(&format!("vision/photos/{family}/{resizer}.safetensors"));
    let (shape, expected) = golden.floats(file);
    assert_eq!(shape, [3, settings.image_size, settings.image_size]);
    let image = read_image(&photos.join(Path::new(file))).unwrap();
    let found = values(settings.pixels(&[image], &testing::flex()));
    let differences = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    let largest = differences.clone().fold(0.0, f32::max);
    (largest, differences.sum::<f32>() / expected.len() as f32)
}

/// One level of 255, divided by the smallest standard deviation: 1 / 255 / 0.224.
const LEVEL: f32 = 0.0176;

#[test]
fn preprocessing_equals_pillow() {
    for family in ["clip", "dinov2"] {
        for file in ["astronaut.png", "coffee.webp"] {
            let (largest, _mean) = compare(family, "pillow", file);
            assert!(largest < 1e-3, "{family}, {file}: {largest}");
        }
    }
}

#[test]
fn preprocessing_is_within_one_level_of_torchvision() {
    for family in ["clip", "dinov2"] {
        for file in ["astronaut.png", "coffee.webp"] {
            let (largest, mean) = compare(family, "torchvision", file);
            assert!(largest < LEVEL && mean < 3e-4, "{family}, {file}: {largest}, {mean}");
        }
    }
}

#[test]
fn jpeg_is_within_decoder_tolerance() {
    for family in ["clip", "dinov2"] {
        let (largest, mean) = compare(family, "pillow", "coffee.jpg");
        assert!(largest < 4.0 * LEVEL && mean < LEVEL / 2.0, "{family}: {largest}, {mean}");
    }
}
