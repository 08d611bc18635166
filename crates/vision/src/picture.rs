//! Files of pictures ─► red, green and blue.

use std::io::Cursor;
use std::path::Path;

use image::{ImageError, ImageReader, Limits, RgbImage};
use llama::files::StandIn;

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
/// [`Error::Picture`] if it cannot be read or is broken, [`Error::TooLarge`] beyond 16,384 pixels a
/// side.
pub fn read_picture(path: &Path) -> Result<RgbImage> {
    let bytes = std::fs::read(path)
        .map_err(|error| Error::Picture { path: path.into(), reason: error.to_string() })?;
    picture_of(path, &bytes)
}

/// As [`read_picture`], of bytes; `name` is for messages.
///
/// # Errors
/// As [`read_picture`].
pub fn picture_of(name: &Path, bytes: &[u8]) -> Result<RgbImage> {
    let broken = |reason: String| Error::Picture { path: name.into(), reason };
    if let Some(found) = StandIn::of(bytes) {
        return Err(broken(format!("it is {found}: {}", found.hint())));
    }
    let reader = |bytes| {
        let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
        reader.map_err(|error| broken(error.to_string()))
    };
    if !reader(bytes)?.format().is_some_and(|format| format.reading_enabled()) {
        return Err(broken("it is neither JPEG nor PNG nor WebP".into()));
    }
    // Its size is in its first bytes: nothing is allocated for a picture that is too large.
    let (width, height) = reader(bytes)?.into_dimensions().map_err(|error| broken(told(&error)))?;
    if width > MOST || height > MOST {
        return Err(Error::TooLarge { path: name.into(), width, height, most: MOST });
    }
    // Resized to what an encoder looks at, such a picture would fill the memory.
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

/// What a decoder says, on one line.
fn told(error: &ImageError) -> String {
    error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgba, RgbaImage};

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
            let read = picture_of(Path::new("a.txt"), &written(&picture, format)).unwrap();
            assert_eq!(read.dimensions(), (3, 2));
            assert!(read.pixels().all(|pixel| pixel.0 == [10, 200, 30]), "{format:?}");
        }
    }

    #[test]
    fn what_is_no_picture_is_told() {
        let fail = |bytes: &[u8]| picture_of(Path::new("a.png"), bytes).unwrap_err().to_string();
        assert!(fail(b"").contains("it is an empty file"));
        assert!(fail(b"version https://git-lfs.github.com/spec/v1\n").contains("Git LFS pointer"));
        assert!(fail(b"GIF89a and more").contains("neither JPEG nor PNG nor WebP"));
        let whole = written(&RgbaImage::new(40, 40), ImageFormat::Png);
        for len in [9, 30, whole.len() / 2] {
            let message = fail(&whole[..len]);
            assert!(message.starts_with("a.png: cannot read the picture: "), "{message}");
        }
        let missing = read_picture(Path::new("/nowhere/a.png")).unwrap_err().to_string();
        assert!(missing.starts_with("/nowhere/a.png: cannot read the picture"), "{missing}");
    }

    #[test]
    fn a_picture_of_a_line_is_refused() {
        let line = written(&RgbaImage::new(101, 1), ImageFormat::Png);
        let error = picture_of(Path::new("a.png"), &line).unwrap_err().to_string();
        assert!(
            error.ends_with("it has 101 x 1 pixels, too long and thin to be looked at"),
            "{error}"
        );
        assert!(
            picture_of(Path::new("a.png"), &written(&RgbaImage::new(1, 100), ImageFormat::Png))
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
        let error = picture_of(Path::new("a.png"), &bytes).unwrap_err();
        assert!(matches!(error, Error::TooLarge { width: 100_000, height: 1, .. }), "{error}");
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
