//! What becomes of photos, against the reference processors.

use std::path::Path;

use testing::{Golden, golden_folder, values};
use vision::{Preprocessing, read_image};

/// Largest and mean difference from what transformers makes of a photo.
fn compare(family: &str, by: &str, file: &str) -> (f32, f32) {
    let photos = golden_folder().join("vision/photos");
    let settings = photos.join(family).join("preprocessor_config.json");
    let text = std::fs::read_to_string(&settings).unwrap();
    let settings = Preprocessing::parse(&settings, &text).unwrap();
    let golden = Golden::open(&format!("vision/photos/{family}/{by}.safetensors"));
    let (shape, expected) = golden.floats(file);
    assert_eq!(shape, [3, settings.image_size, settings.image_size]);
    let picture = read_image(&photos.join(Path::new(file))).unwrap();
    let found = values(settings.pixels(&[picture], &testing::flex()));
    let differences = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    let largest = differences.clone().fold(0.0, f32::max);
    (largest, differences.sum::<f32>() / expected.len() as f32)
}

/// One level of 256, divided by the smallest deviation: 1 / 255 / 0.224.
const LEVEL: f32 = 0.0176;

#[test]
fn photos_become_what_pillow_makes_of_them() {
    for family in ["clip", "dinov2"] {
        for file in ["astronaut.png", "coffee.webp"] {
            let (largest, _mean) = compare(family, "pillow", file);
            assert!(largest < 1e-3, "{family}, {file}: {largest}");
        }
    }
}

#[test]
fn torchvision_differs_by_a_level_here_and_there() {
    for family in ["clip", "dinov2"] {
        for file in ["astronaut.png", "coffee.webp"] {
            let (largest, mean) = compare(family, "torchvision", file);
            assert!(largest < LEVEL && mean < 3e-4, "{family}, {file}: {largest}, {mean}");
        }
    }
}

#[test]
fn a_jpeg_differs_by_what_decoders_differ() {
    for family in ["clip", "dinov2"] {
        let (largest, mean) = compare(family, "pillow", "coffee.jpg");
        assert!(largest < 4.0 * LEVEL && mean < LEVEL / 2.0, "{family}: {largest}, {mean}");
    }
}
