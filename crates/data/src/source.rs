//! Where data comes from: a path, or a data set of the Hugging Face Hub, with a weight in a mixture.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A source of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, or a folder of files.
    Path(PathBuf),
    /// A data set of the Hugging Face Hub.
    Hub(HubSource),
}

/// A data set of the Hugging Face Hub: `hub:owner/name[@revision][:[subset/]split]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSource {
    /// `owner/name`
    pub repo: String,
    /// The revision of the repository; `None`: the Parquet files that the Hub makes of its main branch.
    pub revision: Option<String>,
    /// The subset, which the Hub also calls a config; `None`: the only one, or `default`.
    pub subset: Option<String>,
    /// The split; `None`: what the caller asks for.
    pub split: Option<String>,
}

impl HubSource {
    /// The prefix of a data set's name.
    const PREFIX: &str = "hub:";

    fn parse(text: &str) -> Result<Self> {
        let invalid = || Error::Setting {
            what: "the data set",
            found: format!("{}{text}", Self::PREFIX),
            expected: "expected hub:owner/name, hub:owner/name@revision, hub:owner/name:split or \
                hub:owner/name:subset/split"
                .into(),
        };
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with('.')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        let (rest, split) = match text.split_once(':') {
            Some((rest, split)) => (rest, Some(split)),
            None => (text, None),
        };
        let (repo, revision) = match rest.split_once('@') {
            Some((repo, revision)) => (repo, Some(revision)),
            None => (rest, None),
        };
        let (subset, split) = match split.and_then(|split| split.rsplit_once('/')) {
            Some((subset, split)) => (Some(subset), Some(split)),
            None => (None, split),
        };
        let is_revision = |revision: &str| revision.split('/').all(is_name);
        let is_valid = repo.split('/').count() <= 2
            && repo.split('/').all(is_name)
            && revision.is_none_or(is_revision)
            && subset.is_none_or(is_name)
            && split.is_none_or(is_name);
        if !is_valid {
            return Err(invalid());
        }
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Ok(Self {
            repo: repo.into(),
            revision: owned(revision),
            subset: owned(subset),
            split: owned(split),
        })
    }
}

impl fmt::Display for HubSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { repo, revision, subset, split } = self;
        write!(f, "{}{repo}", Self::PREFIX)?;
        if let Some(revision) = revision {
            write!(f, "@{revision}")?;
        }
        match (subset, split) {
            (Some(subset), Some(split)) => write!(f, ":{subset}/{split}"),
            (None, Some(split)) => write!(f, ":{split}"),
            _ => Ok(()),
        }
    }
}

impl Source {
    /// The source that a text names. An existing path is that path, whatever its name looks like.
    ///
    /// # Errors
    /// [`Error::Setting`] for a text that begins with `hub:` and names no data set.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let path = Path::new(text);
        match text.to_str().and_then(|text| text.strip_prefix(HubSource::PREFIX)) {
            Some(rest) if !path.exists() => HubSource::parse(rest).map(Self::Hub),
            _ => Ok(Self::Path(path.into())),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Hub(source) => source.fmt(f),
        }
    }
}

/// A source with its weight: `rows.jsonl=0.7`.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedSource {
    /// The source.
    pub source: Source,
    /// The weight, above 0; `None`: its number of records.
    pub weight: Option<f64>,
    /// The text that was parsed.
    pub text: OsString,
}

impl WeightedSource {
    /// The source and the weight that a text names. The weight is the number after the last `=`; an
    /// existing path is that path, without a weight.
    ///
    /// # Errors
    /// As [`Source::parse`], and [`Error::Setting`] for a weight that is not above 0.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let (name, weight) = match split_weight(text) {
            Some((name, weight)) if !Path::new(text).exists() => (name, Some(weight)),
            _ => (text.to_owned(), None),
        };
        if weight.is_some_and(|weight| !(weight.is_finite() && weight > 0.0)) {
            return Err(Error::Setting {
                what: "the weight in",
                found: text.to_string_lossy().into_owned(),
                expected: "expected a number above 0".into(),
            });
        }
        Ok(Self { source: Source::parse(&name)?, weight, text: text.to_owned() })
    }
}

/// The text before the last `=`, and the number behind it.
fn split_weight(text: &OsStr) -> Option<(OsString, f64)> {
    let bytes = text.as_encoded_bytes();
    let at = bytes.iter().rposition(|&byte| byte == b'=')?;
    let weight = str::from_utf8(&bytes[at + 1..]).ok()?.parse().ok()?;
    // A prefix of the text without its last characters, which are ASCII: valid in the same encoding. The
    // standard library offers it for paths only through their components.
    let name = match text.to_str() {
        Some(text) => OsString::from(&text[..at]),
        None => prefix(text, at)?,
    };
    (!name.is_empty()).then_some((name, weight))
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems have no such prefix")]
fn prefix(text: &OsStr, len: usize) -> Option<OsString> {
    use std::os::unix::ffi::OsStrExt;
    Some(OsStr::from_bytes(&text.as_bytes()[..len]).to_owned())
}

#[cfg(not(unix))]
fn prefix(_text: &OsStr, _len: usize) -> Option<OsString> {
    // Such a name is no text: it has no weight.
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Source, Option<f64>) {
        let WeightedSource { source, weight, .. } = WeightedSource::parse(text.as_ref()).unwrap();
        (source, weight)
    }

    #[test]
    fn a_weight_follows_the_last_equals_sign() {
        let path = |text: &str| Source::Path(text.into());
        assert_eq!(parse("a.jsonl"), (path("a.jsonl"), None));
        assert_eq!(parse("a.jsonl=0.7"), (path("a.jsonl"), Some(0.7)));
        assert_eq!(parse("a=b.jsonl"), (path("a=b.jsonl"), None));
        assert_eq!(parse("a=1/b=2.jsonl=3e-1"), (path("a=1/b=2.jsonl"), Some(0.3)));
        for text in ["a=0", "a=-1", "a=nan", "a=inf"] {
            let error = WeightedSource::parse(text.as_ref()).unwrap_err().to_string();
            assert!(error.contains("expected a number above 0"), "{error}");
        }
    }

    #[test]
    fn an_existing_file_whose_name_looks_like_a_weight_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("split=1");
        std::fs::write(&path, "").unwrap();
        let parsed = WeightedSource::parse(path.as_os_str()).unwrap();
        assert_eq!((parsed.source, parsed.weight), (Source::Path(path.clone()), None));
        let mut weighted = path.clone().into_os_string();
        weighted.push("=2");
        let parsed = WeightedSource::parse(&weighted).unwrap();
        assert_eq!((parsed.source, parsed.weight), (Source::Path(path), Some(2.0)));
    }

    #[test]
    fn data_sets_of_the_hub_have_a_prefix() {
        let hub =
            |repo: &str, revision: Option<&str>, subset: Option<&str>, split: Option<&str>| {
                let owned = |text: Option<&str>| text.map(str::to_owned);
                Source::Hub(HubSource {
                    repo: repo.into(),
                    revision: owned(revision),
                    subset: owned(subset),
                    split: owned(split),
                })
            };
        for (text, expected) in [
            ("hub:o/n", hub("o/n", None, None, None)),
            ("hub:squad", hub("squad", None, None, None)),
            ("hub:o/n@v1.0:test", hub("o/n", Some("v1.0"), None, Some("test"))),
            ("hub:o/n@refs/pr/1", hub("o/n", Some("refs/pr/1"), None, None)),
            ("hub:o/n:en/train", hub("o/n", None, Some("en"), Some("train"))),
        ] {
            assert_eq!(parse(text), (expected.clone(), None));
            assert_eq!(expected.to_string(), text);
        }
        assert_eq!(parse("hub:o/n:train=0.5"), (hub("o/n", None, None, Some("train")), Some(0.5)));
        for text in ["hub:", "hub:/n", "hub:o/../n", "hub:o/n:", "hub:o/n@", "hub:o/n:../x"] {
            assert!(WeightedSource::parse(text.as_ref()).is_err(), "{text}");
        }
    }
}
