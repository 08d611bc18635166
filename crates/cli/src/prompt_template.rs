//! `--prompt-template` and what adapters' folders say ─► the prompt format of each model

use std::collections::BTreeMap;
use std::path::Path;

use text::{PromptFormat, PromptTemplate, Tokenizer};

/// The prompt formats of the base model and of the adapters.
#[derive(Debug, Clone, Default)]
pub struct PromptFormats {
    /// `--prompt-template`.
    pub template: Option<PromptTemplate>,
    /// `--system`.
    pub system: Option<String>,
    /// What the adapters' folders say, by the adapters' names.
    pub stored: BTreeMap<String, PromptFormat>,
}

impl PromptFormats {
    /// The format for an adapter, or for the base model: what the command line says, else what the
    /// adapter's folder says, else `default`.
    pub fn of_or(&self, adapter: Option<&str>, default: PromptTemplate) -> PromptFormat {
        let stored = adapter.and_then(|name| self.stored.get(name)).cloned();
        let mut format = stored.unwrap_or_else(|| default.into());
        if let Some(template) = &self.template {
            format.template = template.clone();
        }
        format.system = self.system.clone().or(format.system);
        format
    }

    /// As [`of_or`](Self::of_or), with the default for prompts.
    pub fn of(&self, adapter: Option<&str>, tokenizer: &Tokenizer) -> PromptFormat {
        self.of_or(adapter, PromptTemplate::default_for(adapter.is_some(), tokenizer))
    }
}

/// The value of `--prompt-template`: a name, or a file with a template.
pub fn parse_template(text: &str) -> Result<PromptTemplate, String> {
    if let Some(template) = PromptTemplate::from_name(text) {
        return Ok(template);
    }
    let path = Path::new(text);
    let names = PromptTemplate::NAMED.map(|template| template.name().to_owned()).join(", ");
    if !path.is_file() {
        return Err(format!("expected {names}, plain, or a file with a chat template in Jinja"));
    }
    let source = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    // Its errors are those of the file, not of a later row.
    text::ChatTemplate::new(&source).map_err(|error| error.to_string())?;
    Ok(PromptTemplate::Custom { name, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_a_name_or_a_file() {
        assert_eq!(parse_template("plain"), Ok(PromptTemplate::Raw));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.jinja");
        let text = path.to_str().unwrap();
        assert!(parse_template(text).unwrap_err().starts_with("expected alpaca, chat, chatml"));
        std::fs::write(&path, "{{ messages[0].content }}").unwrap();
        assert_eq!(parse_template(text).unwrap().name(), "mine.jinja");
        std::fs::write(&path, "{{ messages").unwrap();
        assert!(parse_template(text).unwrap_err().contains("chat template: syntax error"));
    }

    #[test]
    fn the_command_line_wins_over_the_folder_and_the_folder_over_the_default() {
        let stored = PromptFormat { system: Some("a".into()), ..PromptTemplate::ChatMl.into() };
        let formats = PromptFormats {
            stored: [("x".to_owned(), stored.clone())].into(),
            ..PromptFormats::default()
        };
        assert_eq!(formats.of_or(Some("x"), PromptTemplate::Alpaca), stored);
        let other = formats.of_or(Some("y"), PromptTemplate::Alpaca);
        assert_eq!(other, PromptFormat::default());
        let asked = PromptFormats { template: Some(PromptTemplate::Raw), ..formats.clone() };
        let asked = asked.of_or(Some("x"), PromptTemplate::Alpaca);
        assert_eq!((asked.template, asked.system), (PromptTemplate::Raw, Some("a".into())));
        let asked = PromptFormats { system: Some("b".into()), ..formats };
        let asked = asked.of_or(Some("x"), PromptTemplate::Alpaca);
        assert_eq!((asked.template, asked.system), (PromptTemplate::ChatMl, Some("b".into())));
    }
}
