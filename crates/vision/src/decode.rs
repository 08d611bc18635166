//! JPEG, PNG and WebP files ─► RGB images
//!
//! Truncated files are refused, as by Pillow: JPEG decoders fill in the missing part.

use std::io::Cursor;
use std::path::Path;

use checkpoint::Placeholder;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, RgbImage};

use crate::error::{Error, Result};
use crate::image_limits::ImageLimits;

/// Maximum ratio of the longer side to the shorter side.
const MAX_ASPECT_RATIO: u64 = 100;

/// Reads a JPEG, PNG or WebP file. The format is detected by content.
///
/// Alpha is dropped and gray is converted to RGB. The orientation in the metadata is ignored, as by
/// CLIP's processor.
///
/// # Errors
/// [`Error::UnreadableImage`] for other formats, damaged files and aspect ratios above 100;
/// [`Error::ImageTooLarge`] and [`Error::ImageBytes`] beyond [`ImageLimits::LOCAL`].
pub fn read_image(path: &Path) -> Result<RgbImage> {
    let bytes = std::fs::read(path)
        .map_err(|error| Error::UnreadableImage { path: path.into(), reason: error.to_string() })?;
    decode_image(path, &bytes)
}

/// Decodes the bytes of an image file like [`read_image`]; `name` is used in messages.
///
/// # Errors
/// As [`read_image`].
pub fn decode_image(name: &Path, bytes: &[u8]) -> Result<RgbImage> {
    decode_image_within(name, bytes, &ImageLimits::LOCAL)
}

/// As [`decode_image`], with other limits.
///
/// # Errors
/// As [`read_image`], beyond `limits`.
pub fn decode_image_within(name: &Path, bytes: &[u8], limits: &ImageLimits) -> Result<RgbImage> {
    let too_many_bytes =
        |what, found, max| Error::ImageBytes { path: name.into(), what, found, max };
    if bytes.len() as u64 > limits.file_bytes {
        return Err(too_many_bytes("file", bytes.len() as u64, limits.file_bytes));
    }
    let unreadable = |reason: String| Error::UnreadableImage { path: name.into(), reason };
    if let Some(found) = Placeholder::of(bytes) {
        return Err(unreadable(format!("it is {found}: {}", found.hint())));
    }
    let reader = |bytes| {
        let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
        reader.map_err(|error| unreadable(error.to_string()))
    };
    if !reader(bytes)?.format().is_some_and(|format| format.reading_enabled()) {
        return Err(unreadable("it is neither JPEG nor PNG nor WebP".into()));
    }
    if is_truncated(bytes) {
        return Err(unreadable("the file is cut short: the end of the image is missing".into()));
    }
    // The size is in the header: nothing is allocated for an image that is too large.
    let mut reader = reader(bytes)?;
    let mut decoder_limits = Limits::default();
    decoder_limits.max_alloc = Some(limits.decoded_bytes);
    reader.limits(decoder_limits);
    let decoder = reader.into_decoder().map_err(|error| unreadable(one_line(&error)))?;
    let (width, height) = decoder.dimensions();
    let max_side = limits.side;
    if width > max_side || height > max_side {
        return Err(Error::ImageTooLarge { path: name.into(), width, height, max_side });
    }
    if decoder.total_bytes() > limits.decoded_bytes {
        return Err(too_many_bytes("decoded image", decoder.total_bytes(), limits.decoded_bytes));
    }
    // The center crop of such an image would show almost nothing of it.
    if u64::from(width.max(height)) > MAX_ASPECT_RATIO * u64::from(width.min(height)) {
        let ratio = MAX_ASPECT_RATIO;
        let reason = format!("it is {width} x {height} pixels, the aspect ratio exceeds {ratio}");
        return Err(unreadable(reason));
    }
    let image =
        DynamicImage::from_decoder(decoder).map_err(|error| unreadable(one_line(&error)))?;
    Ok(image.into_rgb8())
}

/// Whether a JPEG or WebP file ends before its image does. The PNG decoder reports that itself.
fn is_truncated(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xd8, segments @ ..] => !has_end_marker(segments),
        [b'R', b'I', b'F', b'F', a, b, c, d, b'W', b'E', b'B', b'P', ..] => {
            // The padding byte after a chunk of odd length may be absent.
            let size = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
            (bytes.len() as u64) < (size + 8) & !1
        }
        _ => false,
    }
}

/// Whether the segments of a JPEG, which follow its first marker, lead to the end marker.
///
/// Source: ITU-T T.81, annex B.
fn has_end_marker(mut rest: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xd9;
    const START_OF_SCAN: u8 = 0xda;
    // In a scan 0xff is data before 0x00, and starts a restart marker before 0xd0 to 0xd7.
    let is_marker = |code: u8, in_scan: bool| match code {
        0x00 | 0xff => false,
        0xd0..=0xd7 => !in_scan,
        _ => true,
    };
    let mut in_scan = false;
    loop {
        let found = rest.windows(2).position(|two| two[0] == 0xff && is_marker(two[1], in_scan));
        let Some(at) = found else { return false };
        let code = rest[at + 1];
        rest = &rest[at + 2..];
        match code {
            END_OF_IMAGE => return true,
            // Markers without a segment.
            0x01 | 0xd0..=0xd8 => {}
            code => {
                let &[high, low, ..] = rest else { return false };
                let length = usize::from(u16::from_be_bytes([high, low]));
                let Some(after_segment) = rest.get(length..) else { return false };
                rest = after_segment;
                in_scan = code == START_OF_SCAN;
            }
        }
    }
}

/// The message of a decoder on one line.
fn one_line(error: &ImageError) -> String {
    error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgba, RgbaImage};

    use super::*;

    fn encoded(image: &RgbaImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn alpha_is_dropped_and_the_format_is_detected_from_the_bytes() {
        let image = RgbaImage::from_pixel(3, 2, Rgba([10, 200, 30, 0]));
        for format in [ImageFormat::Png, ImageFormat::WebP] {
            let read = decode_image(Path::new("a.txt"), &encoded(&image, format)).unwrap();
            assert_eq!(read.dimensions(), (3, 2));
            assert!(read.pixels().all(|pixel| pixel.0 == [10, 200, 30]), "{format:?}");
        }
    }

    #[test]
    fn non_images_are_refused_with_a_reason() {
        let fail = |bytes: &[u8]| decode_image(Path::new("a.png"), bytes).unwrap_err().to_string();
        assert!(fail(b"").contains("it is an empty file"));
        assert!(fail(b"version https://git-lfs.github.com/spec/v1\n").contains("Git LFS pointer"));
        assert!(fail(b"GIF89a and more").contains("neither JPEG nor PNG nor WebP"));
        assert!(fail(b"version https://git-lfs.github.com/spec/v1\noid").contains("git lfs pull"));
        let complete = encoded(&RgbaImage::new(40, 40), ImageFormat::Png);
        for len in [9, 30, complete.len() / 2] {
            let message = fail(&complete[..len]);
            assert!(message.starts_with("a.png: cannot read the image: "), "{message}");
        }
        let missing = read_image(Path::new("/nowhere/a.png")).unwrap_err().to_string();
        assert!(missing.starts_with("/nowhere/a.png: cannot read the image"), "{missing}");
    }

    /// Noise compresses badly: most bytes of the file are pixels.
    fn noise() -> RgbaImage {
        let mut seed = 1_u32;
        RgbaImage::from_fn(40, 32, |_, _| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [red, green, blue, _] = seed.to_be_bytes();
            Rgba([red, green, blue, 255])
        })
    }

    #[test]
    fn truncated_files_are_refused() {
        let jpeg = {
            let mut bytes = Cursor::new(Vec::new());
            DynamicImage::from(noise()).to_rgb8().write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
            bytes.into_inner()
        };
        // Pillow accepts a PNG without its last checksum and end chunk.
        for (complete, optional_tail) in [
            (jpeg, 0),
            (encoded(&noise(), ImageFormat::WebP), 0),
            (encoded(&noise(), ImageFormat::Png), 22),
        ] {
            assert!(decode_image(Path::new("a"), &complete).is_ok());
            for len in 0..complete.len() - optional_tail {
                let read = decode_image(Path::new("a"), &complete[..len]);
                assert!(read.is_err(), "{len} of {} bytes", complete.len());
            }
        }
    }

    #[test]
    fn trailing_bytes_are_ignored() {
        let image = DynamicImage::from(noise()).to_rgb8();
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let mut bytes = Cursor::new(Vec::new());
            image.write_to(&mut bytes, format).unwrap();
            let longer = [&bytes.into_inner()[..], b"and more"].concat();
            assert!(decode_image(Path::new("a"), &longer).is_ok(), "{format:?}");
        }
    }

    #[test]
    fn end_marker_of_an_embedded_thumbnail_is_skipped() {
        // A segment with a thumbnail and its end marker; then a scan with a restart marker.
        let inside = [&[0xff, 0xe1, 0, 6][..], &[0xff, 0xd8, 0xff, 0xd9]].concat();
        let scan = [0xff, 0xda, 0, 2, 7, 0xff, 0, 7, 0xff, 0xd0, 7];
        let cut = [&inside[..], &scan].concat();
        assert!(!has_end_marker(&cut));
        assert!(has_end_marker(&[&cut[..], &[0xff, 0xff, 0xd9]].concat()));
        assert!(!has_end_marker(&[0xff, 0xe1, 0xff, 0xff, 0xff, 0xd9]));
    }

    #[test]
    fn extreme_aspect_ratio_is_refused() {
        let line = encoded(&RgbaImage::new(101, 1), ImageFormat::Png);
        let error = decode_image(Path::new("a.png"), &line).unwrap_err().to_string();
        assert!(error.ends_with("it is 101 x 1 pixels, the aspect ratio exceeds 100"), "{error}");
        assert!(
            decode_image(Path::new("a.png"), &encoded(&RgbaImage::new(1, 100), ImageFormat::Png))
                .is_ok()
        );
    }

    /// A PNG whose header says that it has another size.
    fn png_of_announced_size(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = encoded(&RgbaImage::new(1, 1), ImageFormat::Png);
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        // The checksum of the header.
        let sum = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn decode_untrusted(bytes: &[u8]) -> Result<RgbImage> {
        decode_image_within(Path::new("upload"), bytes, &ImageLimits::UNTRUSTED)
    }

    #[test]
    fn oversized_image_is_refused_before_decoding() {
        let error = decode_image(Path::new("a.png"), &png_of_announced_size(100_000, 1));
        let error = error.unwrap_err();
        assert!(matches!(error, Error::ImageTooLarge { width: 100_000, height: 1, .. }), "{error}");
    }

    #[test]
    fn an_upload_that_announces_a_huge_image_is_refused_before_decoding() {
        for side in [4_097, 60_000] {
            let error = decode_untrusted(&png_of_announced_size(side, side)).unwrap_err();
            assert!(matches!(error, Error::ImageTooLarge { max_side: 4_096, .. }), "{error}");
        }
        // Within the limits of local files only decoding shows that pixels are missing.
        let error = decode_image(Path::new("a.png"), &png_of_announced_size(4_097, 4_097));
        assert!(matches!(error, Err(Error::UnreadableImage { .. })));
    }

    #[test]
    fn a_small_file_of_a_large_image_is_refused_by_its_decoded_size() {
        let bomb = encoded(&RgbaImage::new(1_000, 1_000), ImageFormat::Png);
        assert!(bomb.len() < 50_000, "{}", bomb.len());
        let limits = ImageLimits { decoded_bytes: 1 << 20, ..ImageLimits::UNTRUSTED };
        let error = decode_image_within(Path::new("upload"), &bomb, &limits).unwrap_err();
        let expected = "upload: the decoded image has 4000000 bytes, the maximum is 1048576";
        assert_eq!(error.to_string(), expected);
        assert!(decode_untrusted(&bomb).is_ok());
    }

    #[test]
    fn a_file_above_the_size_limit_is_refused() {
        let limits = ImageLimits { file_bytes: 60, ..ImageLimits::UNTRUSTED };
        let image = encoded(&RgbaImage::new(1, 1), ImageFormat::Png);
        let error = decode_image_within(Path::new("upload"), &image, &limits).unwrap_err();
        let expected = format!("upload: the file has {} bytes, the maximum is 60", image.len());
        assert_eq!(error.to_string(), expected);
    }

    /// The CRC-32 of PNG.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |sum, &byte| {
            (0..8).fold(sum ^ u32::from(byte), |sum, _| {
                (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
            })
        })
    }
}
