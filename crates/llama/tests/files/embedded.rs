//! Models embedded in the program.

use burn::tensor::DType;
use llama::weights::huggingface;
use llama::{Error, Llama, ModelSource, NoAdapter, Precision};

use testing::tiny_model;

fn leak(path: &std::path::Path) -> &'static [u8] {
    std::fs::read(path).unwrap().leak()
}

#[test]
fn an_embedded_model_equals_the_model_in_its_folder() {
    for device in testing::devices() {
        let folder = tempfile::tempdir().unwrap();
        let llama = tiny_model::model(tiny_model::config(), &device);
        huggingface::save(&llama, folder.path(), DType::F32).unwrap();
        let inner = tokenizers::Tokenizer::new(tokenizers::models::bpe::BPE::default());
        std::fs::write(folder.path().join("tokenizer.json"), inner.to_string(false).unwrap())
            .unwrap();

        let opened = ModelSource::open(folder.path()).unwrap();
        let config = std::str::from_utf8(leak(&folder.path().join("config.json"))).unwrap();
        let embedded = ModelSource::embedded(
            config,
            leak(&folder.path().join("model.safetensors")),
            leak(&folder.path().join("tokenizer.json")),
        )
        .unwrap()
        .with_tokenizer_config(r#"{"chat_template": "T"}"#);
        assert_eq!(embedded.config(), opened.config());
        assert_eq!(embedded.tokenizer().unwrap().chat_template.as_deref(), Some("T"));

        let logits = |llama: &Llama| {
            let tokens = llama.tokens(&[tiny_model::tokens(1, 9)]).unwrap();
            llama.logits(llama.forward(tokens, None, &NoAdapter).unwrap(), &NoAdapter)
        };
        let expected = logits(&llama);
        for source in [opened, embedded] {
            let loaded = source.load(Precision::F32, &device).unwrap();
            testing::assert_close("logits", logits(&loaded), expected.clone(), 0.0);
        }
    }
}

#[test]
fn errors_in_embedded_files_name_the_built_in_model() {
    let config = r#"{"model_type": "llama", "hidden_size": 4, "intermediate_size": 4,
        "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 3}"#;
    let source = ModelSource::embedded(config, b"no weights", b"no tokenizer").unwrap();
    let error = source.load(Precision::F32, &testing::flex()).unwrap_err();
    assert!(
        error.to_string().starts_with("the built-in model: not a valid safetensors"),
        "{error}"
    );
    assert!(matches!(source.tokenizer(), Err(Error::Text(text::Error::Tokenizer { .. }))));
    assert!(matches!(ModelSource::embedded("{}", b"", b""), Err(Error::Architecture { .. })));
}
