//! text of a row's image ─► a path, or the picture's bytes

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::error::{Error, Result};

/// Data sets leave out the `=` at the end or keep it; the bytes are the same.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Letters of a broken text that a message shows.
const MAX_SHOWN_CHARS: usize = 40;

/// What the text of a row's image means.
///
/// Displayed in a form fit for messages: `cat.png`, or `data:image/png (123 bytes)`.
///
/// ```
/// use train::ImageRef;
///
/// let image = ImageRef::parse("data:image/png;base64,iVBORw0KGgo=").unwrap();
/// assert_eq!(image.to_string(), "data:image/png (8 bytes)");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageRef<'a> {
    /// A file.
    Path(Cow<'a, Path>),
    /// A file's content, written into the row.
    Data {
        /// `image/png` and the like, as the row says it.
        media_type: &'a str,
        /// The file's bytes.
        bytes: Vec<u8>,
    },
}

/// Whether an image's text holds the picture itself.
pub(crate) fn is_data_url(text: &str) -> bool {
    text.starts_with("data:")
}

/// What a path begins with whose bytes are written as `%FF`.
const FILE_SCHEME: &str = "file://";

/// A path as the text of an image, which [`image_ref_to_path`] reads: as it is, or, if it is no UTF-8 or would be
/// read as something else, as `file://` with `%FF` for such bytes. Where paths are not made of bytes,
/// what is no text in them is lost.
pub(crate) fn path_to_image_ref(path: &Path) -> String {
    let others = ["data:", FILE_SCHEME, "http://", "https://"];
    let is_plain =
        |text: &&str| text.trim() == *text && !others.iter().any(|start| text.starts_with(*start));
    if let Some(text) = path.to_str().filter(is_plain) {
        return text.into();
    }
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'%';
        let bytes = path.as_os_str().as_bytes().iter();
        let letters = bytes.map(|&byte| {
            if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
        });
        format!("{FILE_SCHEME}{}", letters.collect::<String>())
    }
    #[cfg(not(unix))]
    path.to_string_lossy().into_owned()
}

/// The path that an image's text means: behind `file://` with `%FF` for bytes, or as it stands.
pub(crate) fn image_ref_to_path(text: &str) -> Cow<'_, Path> {
    match text.strip_prefix(FILE_SCHEME) {
        Some(coded) => percent_decode(coded).into(),
        None => Path::new(text).into(),
    }
}

/// A path whose bytes may be written as `%FF`.
fn percent_decode(text: &str) -> PathBuf {
    let digits = |at: usize| {
        // `from_str_radix` would take a sign.
        let two = text.get(at + 1..at + 3)?;
        if two.starts_with('+') { None } else { u8::from_str_radix(two, 16).ok() }
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.as_bytes().get(at) {
        let coded = (byte == b'%').then(|| digits(at)).flatten();
        bytes.push(coded.unwrap_or(byte));
        at += if coded.is_some() { 3 } else { 1 };
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
    /// Reads the text of an image: `data:image/...;base64,` holds a picture, `file://` a path with
    /// bytes written as `%FF`, all else is a path as it stands.
    ///
    /// Whether the file is there, or the bytes are a picture, is not looked at.
    ///
    /// # Errors
    /// [`Error::Image`] for an empty text, `data:` of another form, or broken base64.
    ///
    /// Source: RFC 2397, <https://www.rfc-editor.org/rfc/rfc2397>.
    pub fn parse(text: &'a str) -> Result<Self> {
        let bad = |image: String, reason: String| Error::Image { image, reason };
        if text.trim().is_empty() {
            return Err(bad("an empty text".into(), "expected a path".into()));
        }
        let Some(data) = text.strip_prefix("data:") else {
            return Ok(Self::Path(image_ref_to_path(text)));
        };
        let (head, encoded) = data.split_once(',').unwrap_or((data, ""));
        let Some(kind) = head.strip_suffix(";base64").filter(|kind| kind.starts_with("image/"))
        else {
            return Err(bad(truncate_chars(text), "expected data:image/...;base64,".into()));
        };
        let name = || format!("data:{}", truncate_chars(kind));
        let bytes = BASE64
            .decode(encoded.trim())
            .map_err(|error| bad(name(), format!("broken base64: {error}")))?;
        if bytes.is_empty() {
            return Err(bad(name(), "it has no bytes".into()));
        }
        Ok(Self::Data { media_type: kind, bytes })
    }
}

impl fmt::Display for ImageRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Data { media_type: kind, bytes } => {
                write!(f, "data:{} ({} bytes)", truncate_chars(kind), bytes.len())
            }
        }
    }
}

/// The beginning of a text.
fn truncate_chars(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_path_is_kept() {
        let image = ImageRef::parse("pictures/a cat.png").unwrap();
        assert_eq!(image, ImageRef::Path(Path::new("pictures/a cat.png").into()));
        assert_eq!(image.to_string(), "pictures/a cat.png");
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
        let wanted = ImageRef::Data { media_type: "image/png", bytes: b"hello".to_vec() };
        for text in ["data:image/png;base64,aGVsbG8=", "data:image/png;base64,aGVsbG8"] {
            assert_eq!(ImageRef::parse(text).unwrap(), wanted, "{text}");
        }
        assert_eq!(wanted.to_string(), "data:image/png (5 bytes)");
    }

    #[test]
    fn errors_are_short() {
        let message = |text: &str| ImageRef::parse(text).unwrap_err().to_string();
        assert_eq!(message(" "), "an empty text: not an image: expected a path");
        assert_eq!(
            message("data:image/png;base64,aGV*bG8="),
            "data:image/png: not an image: broken base64: Invalid symbol 42, offset 3."
        );
        assert_eq!(
            message("data:image/png;base64,"),
            "data:image/png: not an image: it has no bytes"
        );
        assert!(message("data:image/png").contains("expected data:image/...;base64,"));
        assert!(message("data:text/plain;base64,aGVsbG8=").contains("expected data:image/"));
        let long = format!("data:{}", "ü".repeat(9999));
        assert!(message(&long).len() < 200);
    }
}
