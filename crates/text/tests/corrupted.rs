//! Corrupted files: valid files with mutations, and random bytes, see [`testing::hostile`].

use peak_alloc::PeakAlloc;
use testing::hostile::{corrupt, golden, golden_ggufs};
use text::fuzz;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

#[test]
fn tokenizer_models() {
    let valid = ["meta/tokenizer.model", "meta/llama3_tokenizer.model"].map(golden);
    corrupt(&MEMORY, fuzz::tokenizer_model, &valid, 600, 256);
}

#[test]
fn tokenizers_of_gguf_files() {
    corrupt(&MEMORY, fuzz::gguf, &golden_ggufs(), 1000, 64);
}

#[test]
fn config_files() {
    let settings = br#"{"eos_token": {"content": "<x>", "lstrip": true}, "pad_token": "<s>",
        "added_tokens_decoder": {"3": {"content": "<s>", "special": true, "normalized": false}},
        "additional_special_tokens": ["a", "b"], "extra_special_tokens": {"image_token": "i"},
        "eos_token_id": [1, 2], "tokenizer_class": "GPT2Tokenizer", "chat_template": "T"}"#;
    corrupt(
        &MEMORY,
        fuzz::configs,
        &[settings.to_vec(), b"{\"a\": 0, \"b\": 7}".to_vec()],
        3000,
        64,
    );
}

#[test]
fn chat_templates() {
    let sources = [
        "{% for m in messages %}{{ '<|%s|>' % m.role | trim }}{% generation %}{{ m['content'] }}\
         {% endgeneration %}{% endfor %}",
        "{%- raw %}{{ '%s' % (a, [1, {'b': \"}}\"}]) }}{% endraw -%}{# '%' #}{{ x % 'é' ~ -1 }}",
    ];
    corrupt(
        &MEMORY,
        fuzz::chat_template,
        &sources.map(|source| source.as_bytes().to_vec()),
        5000,
        64,
    );
}
