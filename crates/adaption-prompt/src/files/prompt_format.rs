//! `prompt_format.json`: how messages become a prompt for the adapter. PEFT ignores the file; without it the
//! format is the default one, Alpaca's.

use std::path::Path;

use text::PromptFormat;

use super::locate::resolve_path;
use super::native::read_mix_names;
use crate::error::{Error, Result};

/// Name of the file.
pub const PROMPT_FORMAT_FILE: &str = "prompt_format.json";

/// The prompt format of the adapter at `path`, if its files say so; of a mix that of its first component
/// that says so.
///
/// # Errors
/// [`Error::ConfigFile`], [`Error::File`]
pub fn read_prompt_format(path: &Path) -> Result<Option<PromptFormat>> {
    let path = &resolve_path(path);
    if !path.is_dir() {
        return Ok(None);
    }
    if let Some(format) = read(path)? {
        return Ok(Some(format));
    }
    for name in read_mix_names(path)? {
        if let Some(format) = read(&path.join(name))? {
            return Ok(Some(format));
        }
    }
    Ok(None)
}

/// Reads the file of a folder, if it exists.
pub(super) fn read(folder: &Path) -> Result<Option<PromptFormat>> {
    let path = folder.join(PROMPT_FORMAT_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let text = checkpoint::files::read_text(&path)?;
    let format = serde_json::from_str(&text);
    format.map(Some).map_err(|error| Error::ConfigFile { path, reason: error.to_string() })
}

/// Writes the file into a folder.
pub(super) fn write(folder: &Path, format: &PromptFormat) -> Result<()> {
    let text = serde_json::to_string_pretty(format).expect("plain JSON");
    checkpoint::files::write(&folder.join(PROMPT_FORMAT_FILE), format!("{text}\n").as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use text::PromptTemplate;

    use super::*;
    use crate::adapter::data::AdapterData;
    use crate::files::{AdapterReadOptions, Format, write_mix};
    use crate::gate::GateActivation;
    use crate::test_adapter::{part_set, tiny_llama};
    use crate::{AdapterSummary, BaseInfo};

    fn adapter(format: Option<PromptFormat>) -> AdapterData {
        let llama = tiny_llama();
        let weights =
            part_set(&[crate::PartKind::Prompts]).init(&llama, 3, &llama.device()).unwrap();
        let data = weights.to_data(BaseInfo::from_config(llama.config(), None)).unwrap();
        AdapterData { prompt_format: format, ..data }
    }

    fn chatml() -> PromptFormat {
        PromptFormat { template: PromptTemplate::ChatMl, system: Some("Be kind.".into()) }
    }

    #[test]
    fn every_folder_format_keeps_the_prompt_format_and_a_file_loses_it() {
        let data = adapter(Some(chatml()));
        for &format in Format::ALL {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x");
            let write = |data: &AdapterData| {
                crate::files::write(data, &path, format, GateActivation::Identity, false)
            };
            if format.is_folder() {
                write(&data).unwrap_or_else(|error| panic!("{format}: {error}"));
                let found = crate::files::read(&path, &AdapterReadOptions::default()).unwrap();
                assert_eq!(found.prompt_format, Some(chatml()), "{format}");
                assert_eq!(read_prompt_format(&path).unwrap(), Some(chatml()), "{format}");
                assert_eq!(AdapterSummary::read(&path).unwrap().prompt_format, Some(chatml()));
                // Another adapter in the same folder has its own format.
                write(&adapter(None)).unwrap();
                assert_eq!(read_prompt_format(&path).unwrap(), None, "{format}");
            } else {
                let error = write(&data).unwrap_err();
                let Error::Lossy { losses, .. } = error else { panic!("{format}: {error}") };
                let expected = "the prompt template `chatml` with its system prompt";
                assert!(losses.iter().any(|loss| loss == expected), "{losses:?}");
            }
        }
    }

    #[test]
    fn the_default_format_has_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let data = adapter(Some(PromptFormat::default()));
        let write = |data: &AdapterData| {
            crate::files::write(data, folder.path(), Format::Peft, GateActivation::Tanh, true)
        };
        write(&data).unwrap();
        assert!(!folder.path().join(PROMPT_FORMAT_FILE).exists());
    }

    #[test]
    fn a_mix_has_the_format_of_its_first_component_with_one() {
        let folder = tempfile::tempdir().unwrap();
        let mix = [("a", None), ("b", Some(chatml()))];
        let mix = mix.map(|(name, format)| (name.to_owned(), 0.5, adapter(format)));
        write_mix(&mix, folder.path()).unwrap();
        assert_eq!(read_prompt_format(folder.path()).unwrap(), Some(chatml()));
    }

    #[test]
    fn an_invalid_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "7", r#"{"template": "x"}"#, r#"{"system": "a"}"#] {
            std::fs::write(folder.path().join(PROMPT_FORMAT_FILE), text).unwrap();
            let error = read_prompt_format(folder.path()).unwrap_err();
            assert!(error.to_string().contains(PROMPT_FORMAT_FILE), "{text}: {error}");
        }
    }
}
