//! Files of pictures ─► red, green and blue.
//!
//! A file that was cut is broken, as it is for Pillow: decoders of JPEG make up what is missing.

use std::io::Cursor;
use std::path::Path;

use checkpoint::Placeholder;
use image::{ImageError, ImageReader, Limits, RgbImage};

use crate::error::{Error, Result};

/// Pixels a side of the largest picture that is read.
const MOST: u32 = 16_384;
/// Times that a picture may be longer than wide, or wider than long.
const MOST_DRAWN_OUT: u64 = 100;
/// Bytes of memory that reading one may take.
const MEMORY: u64 = 1 << 30;

/// Reads a JPEG, PNG or WebP file, whatever its name ends with. Transparency is dropped, grey
/// becomes red, green and blue; turned photos stay as they are stored, as CLIP's processor has them.
///
/// # Errors
/// [`Error::Picture`] if it cannot be read or is broken, [`Error::ImageTooLarge`] beyond 16,384 pixels a
/// side.
pub fn read_image(path: &Path) -> Result<RgbImage> {
    let bytes = std::fs::read(path)
        .map_err(|error| Error::UnreadableImage { path: path.into(), reason: error.to_string() })?;
    decode_image(path, &bytes)
}

/// As [`read_image`], of bytes; `name` is for messages.
///
/// # Errors
/// As [`read_image`].
pub fn decode_image(name: &Path, bytes: &[u8]) -> Result<RgbImage> {
    let broken = |reason: String| Error::UnreadableImage { path: name.into(), reason };
    if let Some(found) = Placeholder::of(bytes) {
        return Err(broken(format!("it is {found}: {}", found.hint())));
    }
    let reader = |bytes| {
        let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
        reader.map_err(|error| broken(error.to_string()))
    };
    if !reader(bytes)?.format().is_some_and(|format| format.reading_enabled()) {
        return Err(broken("it is neither JPEG nor PNG nor WebP".into()));
    }
    if is_cut(bytes) {
        return Err(broken("the file is cut short: the end of the picture is missing".into()));
    }
    // Its size is in its first bytes: nothing is allocated for a picture that is too large.
    let (width, height) = reader(bytes)?.into_dimensions().map_err(|error| broken(told(&error)))?;
    if width > MOST || height > MOST {
        return Err(Error::ImageTooLarge { path: name.into(), width, height, max_side: MOST });
    }
    // Of such a picture the square in the middle shows next to nothing.
    if u64::from(width.max(height)) > MOST_DRAWN_OUT * u64::from(width.min(height)) {
        let reason = format!("it has {width} x {height} pixels, too long and thin to be looked at");
        return Err(broken(reason));
    }
    let mut reader = reader(bytes)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MEMORY);
    reader.limits(limits);
    let picture = reader.decode().map_err(|error| broken(told(&error)))?;
    Ok(picture.into_rgb8())
}

/// Whether a JPEG or WebP file ends before its picture does. PNG's decoder tells that itself.
fn is_cut(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xd8, segments @ ..] => !reaches_end(segments),
        [b'R', b'I', b'F', b'F', a, b, c, d, b'W', b'E', b'B', b'P', ..] => {
            // A last byte that only fills up to an even number may be left out.
            let size = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
            (bytes.len() as u64) < (size + 8) & !1
        }
        _ => false,
    }
}

/// Whether the segments of a JPEG, from behind its first marker, lead to the one that ends it.
///
/// Source: ITU-T T.81, annex B.
fn reaches_end(mut rest: &[u8]) -> bool {
    const END: u8 = 0xd9;
    const SCAN: u8 = 0xda;
    // In a scan 0xff stands for itself before 0x00, and before the marks of places to start anew.
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
            END => return true,
            // Markers without a segment.
            0x01 | 0xd0..=0xd8 => {}
            code => {
                let &[high, low, ..] = rest else { return false };
                let length = usize::from(u16::from_be_bytes([high, low]));
                let Some(behind) = rest.get(length..) else { return false };
                rest = behind;
                in_scan = code == SCAN;
            }
        }
    }
}

/// What a decoder says, on one line.
fn told(error: &ImageError) -> String {
    error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, ImageFormat, Rgba, RgbaImage};

    use super::*;

    fn written(picture: &RgbaImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn transparency_is_dropped_and_the_name_does_not_matter() {
        let picture = RgbaImage::from_pixel(3, 2, Rgba([10, 200, 30, 0]));
        for format in [ImageFormat::Png, ImageFormat::WebP] {
            let read = decode_image(Path::new("a.txt"), &written(&picture, format)).unwrap();
            assert_eq!(read.dimensions(), (3, 2));
            assert!(read.pixels().all(|pixel| pixel.0 == [10, 200, 30]), "{format:?}");
        }
    }

    #[test]
    fn what_is_no_picture_is_told() {
        let fail = |bytes: &[u8]| decode_image(Path::new("a.png"), bytes).unwrap_err().to_string();
        assert!(fail(b"").contains("it is an empty file"));
        assert!(fail(b"version https://git-lfs.github.com/spec/v1\n").contains("Git LFS pointer"));
        assert!(fail(b"GIF89a and more").contains("neither JPEG nor PNG nor WebP"));
        assert!(fail(b"version https://git-lfs.github.com/spec/v1\noid").contains("git lfs pull"));
        let whole = written(&RgbaImage::new(40, 40), ImageFormat::Png);
        for len in [9, 30, whole.len() / 2] {
            let message = fail(&whole[..len]);
            assert!(message.starts_with("a.png: cannot read the picture: "), "{message}");
        }
        let missing = read_image(Path::new("/nowhere/a.png")).unwrap_err().to_string();
        assert!(missing.starts_with("/nowhere/a.png: cannot read the picture"), "{missing}");
    }

    /// Many colours, so that most bytes are those of the picture.
    fn noise() -> RgbaImage {
        let mut seed = 1_u32;
        RgbaImage::from_fn(40, 32, |_, _| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [red, green, blue, _] = seed.to_be_bytes();
            Rgba([red, green, blue, 255])
        })
    }

    #[test]
    fn a_file_cut_anywhere_is_broken() {
        let jpeg = {
            let mut bytes = Cursor::new(Vec::new());
            DynamicImage::from(noise()).to_rgb8().write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
            bytes.into_inner()
        };
        // Pillow takes a PNG that lacks no more than its checksum and the mark of its end.
        for (whole, spare) in [
            (jpeg, 0),
            (written(&noise(), ImageFormat::WebP), 0),
            (written(&noise(), ImageFormat::Png), 22),
        ] {
            assert!(decode_image(Path::new("a"), &whole).is_ok());
            for len in 0..whole.len() - spare {
                let read = decode_image(Path::new("a"), &whole[..len]);
                assert!(read.is_err(), "{len} of {} bytes", whole.len());
            }
        }
    }

    #[test]
    fn what_is_behind_a_picture_does_not_matter() {
        let picture = DynamicImage::from(noise()).to_rgb8();
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let mut bytes = Cursor::new(Vec::new());
            picture.write_to(&mut bytes, format).unwrap();
            let longer = [&bytes.into_inner()[..], b"and more"].concat();
            assert!(decode_image(Path::new("a"), &longer).is_ok(), "{format:?}");
        }
    }

    #[test]
    fn the_end_of_a_small_picture_inside_does_not_end_the_large_one() {
        // A thumbnail in a segment of its own, with an end; then a scan with a place to start anew.
        let inside = [&[0xff, 0xe1, 0, 6][..], &[0xff, 0xd8, 0xff, 0xd9]].concat();
        let scan = [0xff, 0xda, 0, 2, 7, 0xff, 0, 7, 0xff, 0xd0, 7];
        let cut = [&inside[..], &scan].concat();
        assert!(!reaches_end(&cut));
        assert!(reaches_end(&[&cut[..], &[0xff, 0xff, 0xd9]].concat()));
        assert!(!reaches_end(&[0xff, 0xe1, 0xff, 0xff, 0xff, 0xd9]));
    }

    #[test]
    fn a_picture_of_a_line_is_refused() {
        let line = written(&RgbaImage::new(101, 1), ImageFormat::Png);
        let error = decode_image(Path::new("a.png"), &line).unwrap_err().to_string();
        assert!(
            error.ends_with("it has 101 x 1 pixels, too long and thin to be looked at"),
            "{error}"
        );
        assert!(
            decode_image(Path::new("a.png"), &written(&RgbaImage::new(1, 100), ImageFormat::Png))
                .is_ok()
        );
    }

    #[test]
    fn a_picture_that_is_too_large_is_refused_before_it_is_read() {
        // A PNG's first bytes, with 100,000 columns.
        let mut bytes = written(&RgbaImage::new(1, 1), ImageFormat::Png);
        bytes[16..20].copy_from_slice(&100_000_u32.to_be_bytes());
        // The header's checksum, which was over the old width.
        let sum = crc(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&sum.to_be_bytes());
        let error = decode_image(Path::new("a.png"), &bytes).unwrap_err();
        assert!(matches!(error, Error::ImageTooLarge { width: 100_000, height: 1, .. }), "{error}");
    }

    /// CRC-32 as PNG has it.
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |sum, &byte| {
            (0..8).fold(sum ^ u32::from(byte), |sum, _| {
                (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
            })
        })
    }
}
