//! The image of a row: a path, or the bytes of an image file.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use ::data::names::ellipsize;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::error::{Error, Result};

/// Accepts base64 with and without `=` at the end: data sets have both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Characters of an invalid image reference that a message shows.
const MAX_SHOWN_CHARS: usize = 40;

/// What the `image` field of a row refers to.
///
/// Its [`Display`](fmt::Display) form is short: `cat.png`, or `data:image/png (123 bytes)`.
///
/// ```
/// use train::data::ImageRef;
///
/// let image = ImageRef::parse("data:image/png;base64,iVBORw0KGgo=").unwrap();
/// assert_eq!(image.to_string(), "data:image/png (8 bytes)");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageRef<'a> {
    /// The path of an image file.
    Path(Cow<'a, Path>),
    /// The content of an image file.
    Data {
        /// The media type that the row gives, such as `image/png`.
        media_type: &'a str,
        /// The bytes of the file.
        bytes: Vec<u8>,
    },
}

/// Whether an image reference contains the image itself.
pub(crate) fn is_data_url(text: &str) -> bool {
    text.starts_with("data:")
}

/// Prefix of a path whose bytes may be written as `%FF`.
const FILE_SCHEME: &str = "file://";

/// A path as an image reference that [`image_ref_to_path`] reads.
///
/// The path is unchanged, unless it is not UTF-8 or would be read as something else: then it becomes
/// `file://` with `%FF` for such bytes. On systems whose paths are not bytes, the parts of a path
/// that are not Unicode are lost.
pub(crate) fn path_to_image_ref(path: &Path) -> String {
    let schemes = ["data:", FILE_SCHEME, "http://", "https://"];
    let is_plain =
        |text: &&str| text.trim() == *text && !schemes.iter().any(|start| text.starts_with(*start));
    if let Some(text) = path.to_str().filter(is_plain) {
        return text.into();
    }
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'%';
        let bytes = path.as_os_str().as_bytes().iter();
        let encoded = bytes.map(|&byte| {
            if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
        });
        format!("{FILE_SCHEME}{}", encoded.collect::<String>())
    }
    #[cfg(not(unix))]
    path.to_string_lossy().into_owned()
}

/// The path of an image reference: percent-decoded after `file://`, otherwise unchanged.
pub(crate) fn image_ref_to_path(text: &str) -> Cow<'_, Path> {
    match text.strip_prefix(FILE_SCHEME) {
        Some(encoded) => percent_decode(encoded).into(),
        None => Path::new(text).into(),
    }
}

/// A path whose bytes may be written as `%FF`.
fn percent_decode(text: &str) -> PathBuf {
    let digits = |at: usize| {
        // `from_str_radix` would accept a sign.
        let two = text.get(at + 1..at + 3)?;
        if two.starts_with('+') { None } else { u8::from_str_radix(two, 16).ok() }
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.as_bytes().get(at) {
        let decoded = (byte == b'%').then(|| digits(at)).flatten();
        bytes.push(decoded.unwrap_or(byte));
        at += if decoded.is_some() { 3 } else { 1 };
    }
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        std::ffi::OsString::from_vec(bytes).into()
    }
    #[cfg(not(unix))]
    String::from_utf8_lossy(&bytes).into_owned().into()
}

impl<'a> ImageRef<'a> {
    /// Parses an image reference: `data:image/...;base64,` contains an image, `file://` a path with
    /// bytes written as `%FF`, anything else is a path.
    ///
    /// Neither opens the file nor decodes the image.
    ///
    /// # Errors
    /// [`Error::Image`] for an empty reference, an unsupported `data:` URL, or invalid base64.
    ///
    /// Source: RFC 2397, <https://www.rfc-editor.org/rfc/rfc2397>.
    pub fn parse(text: &'a str) -> Result<Self> {
        let invalid = |image: String, reason: String| Error::Image { image, reason };
        if text.trim().is_empty() {
            return Err(invalid("an empty text".into(), "expected a path".into()));
        }
        let Some(data) = text.strip_prefix("data:") else {
            return Ok(Self::Path(image_ref_to_path(text)));
        };
        let (head, encoded) = data.split_once(',').unwrap_or((data, ""));
        let Some(media_type) =
            head.strip_suffix(";base64").filter(|media_type| media_type.starts_with("image/"))
        else {
            let shown = ellipsize(text, MAX_SHOWN_CHARS).into_owned();
            return Err(invalid(shown, "expected data:image/...;base64,".into()));
        };
        let name = || format!("data:{}", ellipsize(media_type, MAX_SHOWN_CHARS));
        let bytes = BASE64
            .decode(encoded.trim())
            .map_err(|error| invalid(name(), format!("invalid base64: {error}")))?;
        if bytes.is_empty() {
            return Err(invalid(name(), "it is empty".into()));
        }
        Ok(Self::Data { media_type, bytes })
    }
}

impl fmt::Display for ImageRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Data { media_type, bytes } => {
                let shown = ellipsize(media_type, MAX_SHOWN_CHARS);
                write!(f, "data:{shown} ({} bytes)", bytes.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_path_is_kept() {
        let image = ImageRef::parse("images/a cat.png").unwrap();
        assert_eq!(image, ImageRef::Path(Path::new("images/a cat.png").into()));
        assert_eq!(image.to_string(), "images/a cat.png");
    }

    #[cfg(unix)]
    #[test]
    fn a_non_utf8_path_round_trips() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(OsStr::from_bytes(b"/d\xff/a %41 \xc3\xa4.png"));
        let text = path_to_image_ref(path);
        assert_eq!(text, "file:///d%FF/a%20%2541%20%C3%A4.png");
        assert_eq!(ImageRef::parse(&text).unwrap(), ImageRef::Path(path.into()));
        for odd in ["file://%", "file://a%f", "file://%ü"] {
            assert!(ImageRef::parse(odd).is_ok(), "{odd}");
        }
        assert_eq!(image_ref_to_path("file://a%+f"), Path::new("a%+f"));
        assert_eq!(image_ref_to_path("a%20b"), Path::new("a%20b"));
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_looks_like_a_url_is_written_as_a_file_url() {
        for path in ["data:a.png", "file://a.png", "http://a.png", " a.png"].map(Path::new) {
            let text = path_to_image_ref(path);
            assert!(text.starts_with("file://"), "{text}");
            assert_eq!(ImageRef::parse(&text).unwrap(), ImageRef::Path(path.into()));
        }
    }

    #[test]
    fn base64_is_decoded_with_or_without_padding() {
        let expected = ImageRef::Data { media_type: "image/png", bytes: b"hello".to_vec() };
        for text in ["data:image/png;base64,aGVsbG8=", "data:image/png;base64,aGVsbG8"] {
            assert_eq!(ImageRef::parse(text).unwrap(), expected, "{text}");
        }
        assert_eq!(expected.to_string(), "data:image/png (5 bytes)");
    }

    #[test]
    fn errors_are_short() {
        let message = |text: &str| ImageRef::parse(text).unwrap_err().to_string();
        assert_eq!(message(" "), "an empty text: not an image: expected a path");
        assert_eq!(
            message("data:image/png;base64,aGV*bG8="),
            "data:image/png: not an image: invalid base64: Invalid symbol 42, offset 3."
        );
        assert_eq!(message("data:image/png;base64,"), "data:image/png: not an image: it is empty");
        assert!(message("data:image/png").contains("expected data:image/...;base64,"));
        assert!(message("data:text/plain;base64,aGVsbG8=").contains("expected data:image/"));
        let long = format!("data:{}", "ü".repeat(9999));
        assert!(message(&long).len() < 200);
    }
}
