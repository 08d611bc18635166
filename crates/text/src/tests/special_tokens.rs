//! Special tokens from a folder's files, against `transformers`, and which of them end a text.

use std::path::Path;

use serde_json::{Value, json};

use crate::{ChatTemplate, Error, Result, Tokenizer, TokenizerFiles};

/// Special tokens in `transformers`; `tests/golden/README.md` has the command that makes the file.
fn golden() -> Value {
    let path = testing::golden_folder().join("files/special_tokens.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{}: {error}\nmake it with: python3 tests/golden/make.py files", path.display())
    });
    serde_json::from_str(&text).unwrap()
}

/// A folder with the golden file's tokenizer, `<|begin|>` 0, `<|end|>` 1 and 20 more tokens, and
/// files by name.
fn folder(files: &[(&str, Value)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, json: &Value| {
        std::fs::write(folder.path().join(name), json.to_string()).unwrap();
    };
    write("tokenizer.json", &golden()["tokenizer"]);
    for (name, json) in files {
        write(name, json);
    }
    folder
}

fn config(vocab_size: usize, more: &Value) -> Value {
    let mut json = json!({
        "model_type": "llama", "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": vocab_size,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        json[key] = value.clone();
    }
    json
}

/// The tokenizer of a folder, checked against the `vocab_size` of its config.
fn opened(folder: &Path) -> Result<Tokenizer> {
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    let mut tokenizer = Tokenizer::from_folder(folder)?;
    tokenizer.check_vocab_size(config["vocab_size"].as_u64().unwrap() as usize)?;
    Ok(tokenizer)
}

#[test]
fn special_tokens_come_from_all_files_as_in_transformers() {
    let golden = golden();
    let texts = golden["texts"].as_array().unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 20);
    for case in cases {
        let files = case["files"].as_object().unwrap();
        let mut files = files
            .iter()
            .map(|(name, json)| (format!("{name}.json"), json.clone()))
            .collect::<Vec<_>>();
        files.push(("config.json".into(), json!({"model_type": case["model_type"]})));
        let files = files.iter().map(|(name, json)| (name.as_str(), json.clone()));
        let folder = folder(&files.collect::<Vec<_>>());
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        let named = tokenizer.special_tokens.iter();
        let named = named.map(|(name, text)| (name.clone(), json!([text, tokenizer.id(text)])));
        assert_eq!(Value::Object(named.collect()), case["named"], "{case}");
        let id = |name: &str| case["named"][name][1].as_u64().map(|id| id as u32);
        assert_eq!(tokenizer.bos, id("bos_token"), "{case}");
        assert_eq!(tokenizer.eos.first().copied(), id("eos_token"), "{case}");
        assert_eq!(json!(tokenizer.vocab_size()), case["len"], "{case}");
        for (text, ids) in texts.iter().zip(case["ids"].as_array().unwrap()) {
            let found = tokenizer.encode(text.as_str().unwrap()).unwrap();
            assert_eq!(json!(found), *ids, "{text}: {case}");
        }
    }
}

#[test]
fn training_examples_end_with_the_tokenizers_token_and_completions_with_those_of_generation() {
    let eos = |config_eos: Value, generation: Option<Value>, tokenizer: Value| {
        let mut files = vec![
            ("config.json", config(64, &json!({"eos_token_id": config_eos}))),
            ("tokenizer_config.json", tokenizer),
        ];
        files.extend(generation.map(|json| ("generation_config.json", json)));
        opened(folder(&files).path()).unwrap().eos
    };
    let named = json!({"eos_token": "<|end|>"});
    // The ids of the generation config take precedence over those of the config; the end token of training
    // examples also ends completions.
    assert_eq!(eos(json!(1), Some(json!({"eos_token_id": 1})), named.clone()), [1]);
    assert_eq!(eos(json!(7), Some(json!({"eos_token_id": [3, 1]})), named.clone()), [1, 3]);
    assert_eq!(eos(json!(7), Some(json!({"eos_token_id": 3})), named.clone()), [1, 3]);
    assert_eq!(eos(json!([7, 8]), None, named.clone()), [1, 7, 8]);
    assert_eq!(eos(json!(7), Some(json!({"eos_token_id": null})), named), [1, 7]);
    // transformers would never stop.
    assert_eq!(eos(json!(7), Some(json!({"do_sample": true})), json!({})), [7]);
    assert_eq!(eos(json!(7), Some(json!({"eos_token_id": [3, 4]})), json!({})), [3, 4]);
}

#[test]
fn the_pre_tokenizer_is_that_of_the_file_for_any_class() {
    // As in SmolLM's files: the class is GPT-2's, whose own pre-tokenizer would not split `12`.
    let vocab = json!({"1": 0, "2": 1, "12": 2, "<|endoftext|>": 3});
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    let digits = json!({"type": "Digits", "individual_digits": true});
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [],
        "model": {"type": "BPE", "vocab": vocab, "merges": ["1 2"]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, byte_level]},
    });
    let files = [
        ("tokenizer.json", tokenizer),
        ("config.json", config(4, &json!({}))),
        ("tokenizer_config.json", json!({"tokenizer_class": "GPT2Tokenizer"})),
    ];
    assert_eq!(opened(folder(&files).path()).unwrap().encode("12").unwrap(), [0, 1]);
}

#[test]
fn special_tokens_are_variables_of_a_template() {
    let template = "[{{ bos_token }}][{{ eos_token }}][{{ pad_token }}][{{ image_token }}]";
    let text = |tokenizer_config: Value| {
        let files = [
            ("config.json", config(64, &json!({"bos_token_id": 5, "eos_token_id": 6}))),
            ("generation_config.json", json!({"eos_token_id": 4})),
            ("tokenizer_config.json", tokenizer_config),
        ];
        let tokenizer = opened(folder(&files).path()).unwrap();
        ChatTemplate::from_tokenizer(&tokenizer).unwrap().render(&[], false).unwrap()
    };
    let named = json!({
        "chat_template": template, "eos_token": "<|end|>", "pad_token": "<|begin|>",
        "image_token": "<x>", "bos_token": null,
    });
    assert_eq!(text(named), "[][<|end|>][<|begin|>][<x>]");
}

#[test]
fn special_tokens_outside_of_the_vocabulary_are_an_error() {
    let error = |vocab_size: usize, files: &[(&str, Value)]| {
        let mut files = files.to_vec();
        files.push(("config.json", config(vocab_size, &json!({"eos_token_id": 1}))));
        opened(folder(&files).path()).map(|tokenizer| tokenizer.eos)
    };
    let named = ("tokenizer_config.json", json!({"bos_token": "<|begin|>", "eos_token": "<x>"}));
    let found = error(22, std::slice::from_ref(&named)).unwrap_err();
    assert!(matches!(found, Error::Tokenizer { .. }));
    let found = found.to_string();
    let expected = "eos_token `<x>`: token id 22 is outside the vocabulary of 22 tokens";
    assert!(found.contains(expected), "{found}");
    assert_eq!(error(23, &[named]).unwrap(), [22, 1]);
    let begin = ("tokenizer_config.json", json!({"bos_token": "<x>", "eos_token": "<|end|>"}));
    let found = error(22, &[begin]).unwrap_err().to_string();
    assert!(found.contains("bos_token `<x>`: token id 22 is outside"), "{found}");
    // Ids outside of the vocabulary are ignored, unless there are no others.
    let several = |ids: Value| ("generation_config.json", json!({"eos_token_id": ids}));
    assert_eq!(error(22, &[several(json!([99, 3, 5_000_000_000_u64]))]).unwrap(), [3]);
    let found = error(22, &[several(json!([99, 100]))]).unwrap_err().to_string();
    assert!(found.contains("eos_token: token id 99 is outside"), "{found}");
    // The padding token is not used.
    let pad = ("tokenizer_config.json", json!({"eos_token": "<|end|>", "pad_token": "<x>"}));
    assert_eq!(error(22, &[pad]).unwrap(), [1]);
}

#[test]
fn a_bos_id_of_the_config_outside_of_the_vocabulary_is_ignored() {
    let files = [
        ("config.json", config(22, &json!({"bos_token_id": 99}))),
        ("tokenizer_config.json", json!({"eos_token": "<|end|>"})),
    ];
    assert_eq!(opened(folder(&files).path()).unwrap().bos, None);
}

#[test]
fn invalid_files_are_named() {
    for name in ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"] {
        let folder = folder(&[("config.json", config(64, &json!({})))]);
        std::fs::write(folder.path().join(name), "{").unwrap();
        let message = opened(folder.path()).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("not a valid JSON"), "{message}");
    }
    // Values of other types are ignored.
    for odd in [json!([]), json!("text"), json!({"eos_token": 7, "added_tokens_decoder": [1]})] {
        let folder = folder(&[("tokenizer_config.json", odd)]);
        assert_eq!(Tokenizer::from_folder(folder.path()).unwrap().vocab_size(), 22);
    }
}

#[test]
fn folders_with_other_tokenizer_formats_are_read() {
    let open = |files: &[(&str, &str)], config: Value, tokenizer_config: Value| {
        let folder = tempfile::tempdir().unwrap();
        for (name, golden) in files {
            let bytes = std::fs::read(testing::golden_folder().join(golden)).unwrap();
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        for (name, json) in [("config.json", config), ("tokenizer_config.json", tokenizer_config)] {
            std::fs::write(folder.path().join(name), json.to_string()).unwrap();
        }
        Tokenizer::from_folder(folder.path()).unwrap()
    };
    let llama = json!({"model_type": "llama"});
    let sentencepiece = [("tokenizer.model", "gguf/spm_tokenizer.model")];
    // As transformers' LlamaTokenizer.
    let adds = |bos: bool, eos: bool| json!({"tokenizer_class": "LlamaTokenizer", "add_bos_token": bos, "add_eos_token": eos});
    let tokenizer = open(&sentencepiece, llama.clone(), adds(true, false));
    assert_eq!((tokenizer.bos, &tokenizer.eos[..]), (Some(1), &[2][..]));
    let texts = ["a b", "</s>a", "the farm é"];
    let ids = texts.map(|text| tokenizer.encode(text).unwrap());
    let expected = [vec![1, 260, 275], vec![1, 2, 294], vec![1, 264, 274, 282, 304, 291, 198, 172]];
    assert_eq!(ids, expected);
    let tokenizer = open(&sentencepiece, llama.clone(), adds(false, true));
    assert_eq!(tokenizer.encode("a b").unwrap(), [260, 275, 2]);
    let tokenizer = open(&sentencepiece, llama.clone(), json!({}));
    assert_eq!(tokenizer.encode("a b").unwrap(), [1, 260, 275]);
    // Llama 3, whose special tokens are not in its file.
    let tokenizer = open(
        &[("tokenizer.model", "meta/llama3_tokenizer.model")],
        llama,
        json!({"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}),
    );
    let eot = tokenizer.id("<|eot_id|>").unwrap();
    assert_eq!(tokenizer.eos, [eot]);
    let ids = tokenizer.encode("a<|eot_id|>").unwrap();
    assert_eq!((ids[0], ids[2]), (tokenizer.bos.unwrap(), eot));
}

#[test]
fn a_saved_tokenizer_is_read_again() {
    let decoder = json!({"22": {"content": "<x>", "special": true}});
    let files = json!({
        "bos_token": "<|begin|>", "eos_token": "<x>", "pad_token": "<|end|>",
        "added_tokens_decoder": decoder, "chat_template": "{{ eos_token }}",
    });
    let first = Tokenizer::from_folder(folder(&[("tokenizer_config.json", files)]).path()).unwrap();
    let saved = tempfile::tempdir().unwrap();
    first.save(saved.path()).unwrap();
    let again = Tokenizer::from_folder(saved.path()).unwrap();
    assert_eq!((again.bos, &again.eos), (first.bos, &first.eos));
    assert_eq!(again.special_tokens, first.special_tokens);
    assert_eq!(again.chat_template, first.chat_template);
    assert_eq!(again.encode("a<x>b").unwrap(), first.encode("a<x>b").unwrap());
}

#[test]
fn files_in_memory_are_used_as_those_of_a_folder() {
    let json = golden()["tokenizer"].to_string();
    let tokenizer = Tokenizer::from_json("tokenizer.json", json.as_bytes()).unwrap();
    let files = TokenizerFiles {
        config: Some(json!({"eos_token_id": 7})),
        tokenizer_config: Some(json!({"eos_token": "<|end|>", "chat_template": {"default": "T"}})),
        ..TokenizerFiles::default()
    };
    let tokenizer = tokenizer.with_files(&files);
    assert_eq!(tokenizer.eos, [1, 7]);
    assert_eq!(tokenizer.chat_template.as_deref(), Some("T"));
}
