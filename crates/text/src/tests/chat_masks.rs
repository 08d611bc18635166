//! Ids and labels of conversations against `transformers`; `tests/golden/README.md` has the command that
//! makes the file.

use std::ops::Range;

use serde::Deserialize;

use crate::{LossOn, Message, PromptEncoder, PromptFormat, PromptTemplate, Tokenizer};

#[derive(Deserialize)]
struct Golden {
    /// Added to the built-in model's tokenizer.
    tokens: Vec<String>,
    /// Source of the template `custom`.
    custom: String,
    conversations: Vec<Vec<Message>>,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    template: String,
    conversation: usize,
    ids: Vec<u32>,
    /// Starts and ends of the assistant's tokens.
    labels: Vec<[usize; 2]>,
}

fn golden() -> Golden {
    let path = testing::golden_folder().join("files/chat_masks.json");
    let json = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{}: {error}\nmake it with: python3 tests/golden/make.py files", path.display())
    });
    serde_json::from_str(&json).unwrap()
}

fn tokenizer(golden: &Golden) -> Tokenizer {
    let folder = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
    let mut tokenizer = Tokenizer::from_folder(&folder).unwrap();
    let tokens = golden.tokens.iter().map(|text| tokenizers::AddedToken::from(&**text, true));
    tokenizer.inner_mut().add_special_tokens(&tokens.collect::<Vec<_>>());
    tokenizer
}

fn template(golden: &Golden, name: &str) -> PromptTemplate {
    let custom = || PromptTemplate::Custom { name: name.into(), source: golden.custom.clone() };
    PromptTemplate::from_name(name).unwrap_or_else(custom)
}

fn positions(spans: &[Range<usize>]) -> Vec<usize> {
    spans.iter().cloned().flatten().collect()
}

#[test]
fn ids_and_labels_are_those_of_transformers() {
    let golden = golden();
    let tokenizer = tokenizer(&golden);
    assert_eq!(golden.rows.len(), 5 * golden.conversations.len());
    for row in &golden.rows {
        let format = PromptFormat::from(template(&golden, &row.template));
        let encoder = PromptEncoder::new(&format, &tokenizer).unwrap();
        let messages = &golden.conversations[row.conversation];
        let case = format!("{} {}", row.template, row.conversation);
        let found = encoder.conversation(&tokenizer, messages, LossOn::All, |_| true).unwrap();
        assert_eq!(found.tokens, row.ids, "{case}");
        let expected = row.labels.iter().map(|&[start, end]| start..end).collect::<Vec<_>>();
        assert!(!expected.is_empty(), "{case}");
        assert_eq!(positions(&found.label_spans), positions(&expected), "{case}");
        let last = encoder.conversation(&tokenizer, messages, LossOn::Last, |_| true).unwrap();
        assert_eq!(
            last.label_spans[..],
            found.label_spans[found.label_spans.len() - 1..],
            "{case}"
        );
    }
}

#[test]
fn without_marks_the_labels_are_found_from_the_prompts() {
    let golden = golden();
    let tokenizer = tokenizer(&golden);
    for row in golden.rows.iter().filter(|row| row.template != "custom") {
        let source = template(&golden, &row.template).source(&tokenizer).unwrap();
        let source = source.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", "");
        let format = PromptTemplate::Custom { name: row.template.clone(), source }.into();
        let encoder = PromptEncoder::new(&format, &tokenizer).unwrap();
        let messages = &golden.conversations[row.conversation];
        let found = encoder.conversation(&tokenizer, messages, LossOn::All, |_| true).unwrap();
        let case = format!("{} {}", row.template, row.conversation);
        assert_eq!(found.tokens, row.ids, "{case}");
        let expected = row.labels.iter().map(|&[start, end]| start..end).collect::<Vec<_>>();
        assert_eq!(positions(&found.label_spans), positions(&expected), "{case}");
    }
}
