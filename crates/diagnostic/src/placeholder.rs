//! Placeholders instead of files that were never downloaded: Git LFS pointers, web pages, empty files.

use std::fmt;

/// Kind of a placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placeholder {
    /// A pointer that Git LFS replaces with the file.
    LfsPointer {
        /// Size of the file, if the pointer has it.
        size: Option<u64>,
    },
    /// An HTML page, or a server's error message.
    WebPage,
    /// An empty file, as of an interrupted download.
    Empty,
}

impl Placeholder {
    /// Length of the start of a file that is tested.
    pub const HEAD_BYTES: usize = 512;

    /// Detects a placeholder from the start of a file; `None` for any other file.
    pub fn of(start: &[u8]) -> Option<Self> {
        /// Start of the first line, current and original.
        const POINTERS: [&[u8]; 2] = [
            b"version https://git-lfs.github.com/spec/",
            b"version https://hawser.github.com/spec/",
        ];
        const PAGES: [&[u8]; 2] = [b"<!doctype html", b"<html"];
        /// Complete error messages of the Hugging Face Hub and of GitHub.
        const ANSWERS: [&[u8]; 4] = [
            b"Entry not found",
            b"Repository not found",
            b"Invalid username or password.",
            b"404: Not Found",
        ];
        if start.is_empty() {
            return Some(Self::Empty);
        }
        let start = &start[..start.len().min(Self::HEAD_BYTES)];
        if POINTERS.iter().any(|pointer| start.starts_with(pointer)) {
            let mut lines = start.split(|&byte| byte == b'\n');
            let size = lines.find_map(|line| line.strip_prefix(b"size "));
            let size = size.and_then(|size| str::from_utf8(size).ok()?.trim().parse().ok());
            return Some(Self::LfsPointer { size });
        }
        let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii();
        let begins = |page: &&[u8]| {
            text.get(..page.len()).is_some_and(|head| head.eq_ignore_ascii_case(page))
        };
        (PAGES.iter().any(begins) || ANSWERS.contains(&text)).then_some(Self::WebPage)
    }

    /// A hint for the user.
    pub fn hint(self) -> &'static str {
        match self {
            Self::LfsPointer { .. } => {
                "fetch the file with `git lfs install` and `git lfs pull` in the folder that was \
                 cloned, or download it by itself"
            }
            Self::WebPage => {
                "download it again, by the link to the file itself and not to the page about it; \
                 private and gated files need a token"
            }
            Self::Empty => "the download may be incomplete: download or copy it again",
        }
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LfsPointer { size: None } => {
                f.write_str("a Git LFS pointer, not the file itself")
            }
            Self::LfsPointer { size: Some(size) } => {
                write!(f, "a Git LFS pointer, not the file itself, which has {size} bytes")
            }
            Self::WebPage => f.write_str("a web page or a server response, not the file itself"),
            Self::Empty => f.write_str("an empty file"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_detected_and_files_are_not() {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1528\n";
        let pointer = Placeholder::of(pointer.as_bytes());
        assert_eq!(pointer, Some(Placeholder::LfsPointer { size: Some(1528) }));
        for page in ["<!DOCTYPE html>\n<html>", "\u{feff} \n<HTML lang=en>", "Entry not found"] {
            assert_eq!(Placeholder::of(page.as_bytes()), Some(Placeholder::WebPage), "{page}");
        }
        assert_eq!(Placeholder::of(b""), Some(Placeholder::Empty));
        for file in ["{}", "version 2", "PK\u{3}\u{4}", "Entry not found in the index", "<s>", "\n"]
        {
            assert_eq!(Placeholder::of(file.as_bytes()), None, "{file}");
        }
    }
}
