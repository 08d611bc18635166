//! Where a record comes from: its location for messages, and the folder of its images.

use std::path::Path;

use crate::data::{image_ref_to_path, is_data_url, path_to_image_ref};
use crate::error::{Error, Result};

/// Where a record comes from.
pub(crate) struct RecordOrigin<'a> {
    /// The file.
    pub path: &'a Path,
    /// `line 3`, `record 3`, ...
    pub location: String,
    /// The format of such a record, for hints.
    pub format_hint: &'static str,
    /// The folder that image paths are relative to; `None`: they stay unchanged.
    pub image_folder: Option<&'a Path>,
}

impl RecordOrigin<'_> {
    /// An error about this record.
    pub fn error(&self, reason: impl Into<String>) -> Error {
        let (path, location, reason) = (self.path.into(), self.location.clone(), reason.into());
        let format_hint = self.format_hint;
        ::data::Error::Record { path, location, reason, format_hint, text: None }.into()
    }

    /// The image reference of a row: a `data:` URL is unchanged, a `file://` URL becomes a path, and a
    /// relative path is joined to the image folder. Resolving the result again does not change it.
    pub fn resolve_image(&self, text: &str) -> Result<String> {
        let text = text.trim();
        let path = image_ref_to_path(text);
        if path.as_os_str().is_empty() {
            return Err(self.error("the image's path is empty"));
        }
        if is_data_url(text) {
            return Ok(text.into());
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return Err(Error::RemoteImage {
                path: self.path.into(),
                location: self.location.clone(),
                url: text.into(),
            });
        }
        let Some(folder) = self.image_folder else { return Ok(path_to_image_ref(&path)) };
        Ok(path_to_image_ref(&folder.join(path)))
    }
}

#[cfg(test)]
mod tests {
    use diagnostic::Diagnostic;

    use super::*;

    fn origin(image_folder: Option<&'static str>) -> RecordOrigin<'static> {
        RecordOrigin {
            path: Path::new("rows.json"),
            location: "record 1".into(),
            format_hint: "a row",
            image_folder: image_folder.map(Path::new),
        }
    }

    #[test]
    fn only_relative_paths_are_joined() {
        let image = |text: &str| origin(Some("images")).resolve_image(text).unwrap();
        assert_eq!(Path::new(&image("a/b.png")), Path::new("images/a/b.png"));
        assert_eq!(image("/a/b.png"), "/a/b.png");
        assert_eq!(image("file:///a/b.png"), "/a/b.png");
        assert_eq!(image("data:image/png;base64,AAAA"), "data:image/png;base64,AAAA");
        assert_eq!(origin(None).resolve_image("a/b.png").unwrap(), "a/b.png");
        assert_eq!(origin(Some("")).resolve_image("a/b.png").unwrap(), "a/b.png");
    }

    #[test]
    fn a_url_of_a_file_is_decoded_and_a_path_is_not() {
        let image = |text: &str| origin(Some("/p")).resolve_image(text).unwrap();
        assert_eq!(image("file:///my%20dir/a.png"), "/my dir/a.png");
        assert_eq!(image("/my%20dir/a.png"), "/my%20dir/a.png");
        for text in ["file:///my%20dir/a.png", "file:///d%FF/a.png", "b%20.png"] {
            let row = image(text);
            assert_eq!(image(&row), row);
        }
    }

    #[test]
    fn a_remote_image_is_rejected_with_a_hint() {
        let error = origin(None).resolve_image("https://example.org/a.png").unwrap_err();
        assert_eq!(
            error.to_string(),
            "rows.json, record 1: the image https://example.org/a.png is not a local file"
        );
        assert!(error.advice().unwrap().to_string().contains("download"));
    }

    #[test]
    fn a_blank_image_path_is_rejected() {
        let error = origin(None).resolve_image(" ").unwrap_err();
        assert_eq!(error.to_string(), "rows.json, record 1: the image's path is empty");
        assert!(origin(None).resolve_image("file://").is_err());
        assert_eq!(error.advice(), Some("a row".into()));
    }
}
