//! Chat templates against `transformers`; `tests/golden/README.md` has the command that makes the file.

use serde::Deserialize;

use crate::{ChatTemplate, Message, Tokenizer, TokenizerFiles};

#[derive(Deserialize)]
struct Case {
    messages: Vec<Message>,
    add_generation_prompt: bool,
    text: String,
}

/// The template of SmolLM2-135M-Instruct, from its `tokenizer_config.json`.
const TOKENIZER_CONFIG: &str = r#"{
    "bos_token": "<|im_start|>",
    "eos_token": {"content": "<|im_end|>"},
    "chat_template": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
}"#;

fn tokenizer() -> Tokenizer {
    let inner = tokenizers::Tokenizer::new(tokenizers::models::bpe::BPE::default());
    let json = TokenizerFiles::parse("tokenizer_config.json".as_ref(), TOKENIZER_CONFIG).unwrap();
    let files = TokenizerFiles { tokenizer_config: Some(json), ..TokenizerFiles::default() };
    Tokenizer::new(inner, "test").with_files(&files)
}

#[test]
fn conversations_render_as_in_transformers() {
    let path = testing::golden_folder().join("smollm2/chat.json");
    let json = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{}: {error}\nmake it with: python3 tests/golden/make.py", path.display())
    });
    let cases: Vec<Case> = serde_json::from_str(&json).unwrap();
    assert!(cases.len() >= 6, "the golden file has {} cases", cases.len());
    let template = ChatTemplate::from_tokenizer(&tokenizer()).unwrap();
    for case in cases {
        let found = template.render(&case.messages, case.add_generation_prompt).unwrap();
        assert_eq!(found, case.text);
    }
}

#[derive(Deserialize)]
struct Constructs {
    messages: Vec<Message>,
    /// Precedes each expression.
    head: String,
    expressions: Vec<(String, String)>,
    templates: Vec<(String, String)>,
}

#[test]
fn constructs_of_jinja_render_as_in_transformers() {
    let path = testing::golden_folder().join("files/templates.json");
    let json = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{}: {error}\nmake it with: python3 tests/golden/make.py files", path.display())
    });
    let golden: Constructs = serde_json::from_str(&json).unwrap();
    let expressions = golden.expressions.into_iter();
    let expressions = expressions
        .map(|(expression, text)| (format!("{}{{{{ {expression} }}}}", golden.head), text));
    let cases = expressions.chain(golden.templates).collect::<Vec<_>>();
    assert!(cases.len() >= 190, "the golden file has {} cases", cases.len());
    let mut wrong = Vec::new();
    for (template, text) in &cases {
        let found = ChatTemplate::new(template)
            .and_then(|template| template.render(&golden.messages, true))
            .unwrap_or_else(|error| error.to_string());
        if found != *text {
            wrong.push(format!("{template}\n  expected {text:?}\n  found    {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
