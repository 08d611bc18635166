//! `/v1/chat/completions` without streams.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use serve::engine::fake::FakeAnswer;

use crate::fixture::{Fixture, Setup};

/// A request with more fields.
pub fn request(more: Value) -> Value {
    let mut request = json!({
        "model": "tiny",
        "messages": [{"role": "user", "content": "The plural of cow is"}],
    });
    for (key, value) in more.as_object().unwrap() {
        request[key] = value.clone();
    }
    request
}

fn text(answer: &Value, index: usize) -> &str {
    answer["choices"][index]["message"]["content"].as_str().unwrap()
}

#[tokio::test]
async fn an_answer_has_openais_shape() {
    let server = Fixture::new("The hill.");
    let answer = server.chat(request(json!({"temperature": 0}))).await.json();
    let keys = answer.as_object().unwrap().keys().collect::<Vec<_>>();
    assert_eq!(
        keys,
        ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"]
    );
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("tiny")));
    assert!(answer["created"].as_u64().unwrap() > 1_700_000_000);
    assert!(answer["system_fingerprint"].as_str().unwrap().starts_with("llama-adapter-"));
    let choice = json!({
        "index": 0,
        "message": {"role": "assistant", "content": "The hill.", "refusal": null},
        "logprobs": null,
        "finish_reason": "stop",
    });
    assert_eq!(answer["choices"], json!([choice]));
    server.wait_until_idle().await;
}

#[tokio::test]
async fn usage_counts_tokens_and_those_in_the_cache() {
    let server = Fixture::new("The hill.");
    let long = "The old well is near the hill. ".repeat(8);
    let request = request(json!({"messages": [{"role": "user", "content": long}]}));
    let first = server.chat(request.clone()).await.json()["usage"].clone();
    let count = |usage: &Value, key: &str| usage[key].as_u64().unwrap();
    let prompt = count(&first, "prompt_tokens");
    assert!(prompt > 32, "{first}");
    assert!(count(&first, "completion_tokens") > 1, "{first}");
    assert_eq!(count(&first, "total_tokens"), prompt + count(&first, "completion_tokens"));
    assert_eq!(first["prompt_tokens_details"], json!({"cached_tokens": 0}));
    let second = server.chat(request).await.json()["usage"].clone();
    let cached = count(&second["prompt_tokens_details"], "cached_tokens");
    assert!(cached >= 32 && cached < prompt, "{second}");
}

#[tokio::test]
async fn the_chat_template_is_applied_to_all_messages() {
    let server = Setup::new(FakeAnswer::echo()).start();
    let messages = json!([
        {"role": "system", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    ]);
    let answer = server.chat(request(json!({"messages": messages}))).await.json();
    assert_eq!(text(&answer, 0), "system: a\nuser: b\nassistant: c\nuser: d\n");
}

#[tokio::test]
async fn an_adapters_prompt_is_alpacas() {
    let mut setup = Setup::new(FakeAnswer::echo());
    setup.fake.adapters[0].answer = Some(FakeAnswer::echo());
    let server = setup.start();
    let answer = server.chat(request(json!({"model": "tiny:loud"}))).await.json();
    let expected = text::alpaca("The plural of cow is", "");
    assert_eq!(text(&answer, 0), expected);
}

#[tokio::test]
async fn another_prompt_template_can_be_set_for_a_model() {
    let mut setup = Setup::new(FakeAnswer::echo());
    setup.fake.adapters[0].answer = Some(FakeAnswer::echo());
    setup.service.prompt_templates.base = Some(text::PromptTemplate::Raw);
    setup.service.prompt_templates.adapters =
        [("loud".to_owned(), text::PromptTemplate::Chat)].into();
    let server = setup.start();
    let answer = server.chat(request(json!({}))).await.json();
    assert_eq!(text(&answer, 0), "The plural of cow is");
    let answer = server.chat(request(json!({"model": "base:loud"}))).await.json();
    assert_eq!(text(&answer, 0), "user: The plural of cow is\n");
}

#[tokio::test]
async fn models_are_named_with_their_adapters() {
    let server = Fixture::new("a hill");
    for (model, expected) in [
        ("tiny", "a hill"),
        ("base", "a hill"),
        ("tiny:loud", "THE OLD WELL"),
        ("base:loud", "THE OLD WELL"),
    ] {
        let answer = server.chat(request(json!({"model": model}))).await.json();
        assert_eq!((text(&answer, 0), &answer["model"]), (expected, &json!(model)));
    }
    for model in ["", "other", "tiny:", "tiny:other", "tinyloud", "loud", "tiny:loud:loud"] {
        let refused = server.chat(request(json!({"model": model}))).await.refused();
        assert_eq!(refused, (404, "model_not_found".into(), "model".into()), "{model}");
    }
    let absent = json!({"messages": [{"role": "user", "content": "a"}]});
    let refused = server.chat(absent).await.refused();
    assert_eq!(refused, (404, "model_not_found".into(), "model".into()));
}

#[tokio::test]
async fn a_mix_is_asked_for_with_weights() {
    let server = Fixture::new("a hill");
    let mix = |names: &[&str]| {
        let parts = names.iter().map(|name| json!({"name": name, "weight": 0.5}));
        request(json!({"adapters": parts.collect::<Vec<_>>()}))
    };
    server.chat(mix(&["loud", "seeing"])).await.json();
    assert_eq!(server.chat(mix(&["other"])).await.refused().2, "adapters");
    let mut named = mix(&["loud"]);
    named["model"] = json!("tiny:loud");
    assert_eq!(server.chat(named).await.refused().2, "adapters");
    assert_eq!(server.chat(mix(&["loud"; 9])).await.refused().2, "adapters");
}

#[tokio::test]
async fn a_seed_determines_the_answer() {
    let server = Setup::new(FakeAnswer::Hash).start();
    let ask = async |seed: Value| {
        let request = request(json!({"seed": seed, "max_tokens": 12, "ignore_eos": true}));
        let answer = server.chat(request).await.json();
        text(&answer, 0).to_owned()
    };
    let first = ask(json!(7)).await;
    assert_eq!(ask(json!(7)).await, first);
    assert_ne!(ask(json!(-8)).await, first);
    // Without a seed, each request has another one.
    assert_ne!(ask(Value::Null).await, ask(Value::Null).await);
}

#[tokio::test]
async fn choices_differ_and_are_numbered() {
    let server = Setup::new(FakeAnswer::Hash).start();
    let request = request(json!({"n": 3, "seed": 1, "max_tokens": 8, "ignore_eos": true}));
    let answer = server.chat(request.clone()).await.json();
    let choices = answer["choices"].as_array().unwrap();
    let indices = choices.iter().map(|choice| choice["index"].as_u64().unwrap());
    assert_eq!(indices.collect::<Vec<_>>(), [0, 1, 2]);
    assert!(text(&answer, 0) != text(&answer, 1) && text(&answer, 1) != text(&answer, 2));
    assert_eq!(answer["usage"]["completion_tokens"], 24);
    let one = json!({"n": 1});
    let mut single = request.clone();
    single["n"] = one["n"].clone();
    let single = server.chat(single).await.json();
    assert_eq!(text(&single, 0), text(&answer, 0));
    assert_eq!(single["usage"]["prompt_tokens"], answer["usage"]["prompt_tokens"]);
}

#[tokio::test]
async fn a_stop_string_ends_the_answer_before_it() {
    let server = Fixture::new("The old well is near the hill.");
    for stop in [json!("near"), json!(["xyz", "near"])] {
        let answer = server.chat(request(json!({"stop": stop}))).await.json();
        assert_eq!(text(&answer, 0), "The old well is ");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    }
}

#[tokio::test]
async fn the_longest_answer_is_limited_by_either_field() {
    let server = Fixture::new("The old well is near the hill.");
    for field in ["max_tokens", "max_completion_tokens"] {
        let answer = server.chat(request(json!({field: 3}))).await.json();
        assert_eq!(answer["choices"][0]["finish_reason"], "length", "{field}");
        assert_eq!(answer["usage"]["completion_tokens"], 3, "{field}");
        assert_eq!(server.chat(request(json!({field: 0}))).await.refused().2, field);
    }
}

#[tokio::test]
async fn stop_tokens_and_ignored_ends_are_vllms() {
    let server = Fixture::new("The hill.");
    let ids = crate::fixture::tokenizer().encode_raw("The hill.").unwrap();
    let answer = server.chat(request(json!({"stop_token_ids": [ids[1]]}))).await.json();
    assert_eq!(answer["usage"]["completion_tokens"], 2);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let more = json!({"ignore_eos": true, "max_tokens": ids.len() + 5});
    let answer = server.chat(request(more)).await.json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn logprobs_have_an_entry_for_each_token_of_the_text() {
    let server = Fixture::new("The hill.");
    let answer = server.chat(request(json!({"logprobs": true, "top_logprobs": 2}))).await.json();
    let entries = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let joined = entries.iter().map(|entry| entry["token"].as_str().unwrap()).collect::<String>();
    assert_eq!(joined, "The hill.");
    for entry in entries {
        assert!(entry["logprob"].as_f64().unwrap() <= 0.0, "{entry}");
        assert_eq!(entry["top_logprobs"].as_array().unwrap().len(), 2, "{entry}");
        let bytes = entry["bytes"].as_array().unwrap().iter().map(|b| b.as_u64().unwrap() as u8);
        assert_eq!(bytes.collect::<Vec<_>>(), entry["token"].as_str().unwrap().as_bytes());
    }
    let plain = server.chat(request(json!({"logprobs": true}))).await.json();
    assert_eq!(plain["choices"][0]["logprobs"]["content"][0]["top_logprobs"], json!([]));
    assert_eq!(server.chat(request(json!({"top_logprobs": 2}))).await.refused().2, "top_logprobs");
    let many = request(json!({"logprobs": true, "top_logprobs": 21}));
    assert_eq!(server.chat(many).await.refused().2, "top_logprobs");
}

/// A PNG as a message's part.
fn image_message(width: u32, height: u32) -> Value {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let image = image::RgbImage::from_pixel(width, height, image::Rgb([9, 8, 7]));
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let url = format!("data:image/png;base64,{}", STANDARD.encode(bytes.into_inner()));
    json!([{"role": "user", "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
    ]}])
}

#[tokio::test]
async fn an_image_is_for_a_model_that_sees() {
    let server = Fixture::new("nothing");
    let messages = image_message(8, 6);
    let ask = |model: &str| request(json!({"model": model, "messages": messages}));
    let answer = server.chat(ask("tiny:seeing")).await.json();
    assert_eq!(text(&answer, 0), "a hill");
    for blind in ["tiny", "tiny:loud"] {
        let (status, _, param, message) = server.chat(ask(blind)).await.error();
        assert_eq!((status, param), (400, json!("messages")));
        assert!(message.contains("does not see images"), "{message}");
    }
}

#[tokio::test]
async fn what_is_not_built_is_refused_by_name() {
    let server = Fixture::new("a hill");
    for (field, value) in [
        ("tools", json!([{"type": "function"}])),
        ("tool_choice", json!("auto")),
        ("functions", json!([{}])),
        ("response_format", json!({"type": "json_object"})),
        ("response_format", json!({"type": "json_schema", "json_schema": {}})),
        ("modalities", json!(["text", "audio"])),
        ("audio", json!({"voice": "a"})),
        ("echo", json!(true)),
        ("guided_json", json!({})),
    ] {
        let refused = server.chat(request(json!({field: value}))).await.refused();
        assert_eq!(refused, (400, "unsupported_parameter".into(), field.into()));
    }
    let harmless = json!({
        "tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "modalities": ["text"],
        "echo": false, "user": "ada", "unknown": {"a": [1]}, "store": true, "functions": null,
    });
    server.chat(request(harmless)).await.json();
}

#[tokio::test]
async fn values_out_of_range_are_refused_by_name() {
    let server = Fixture::new("a hill");
    for (field, value) in [
        ("temperature", json!(-1)),
        ("temperature", json!(1e300)),
        ("temperature", json!("hot")),
        ("top_p", json!(0)),
        ("top_p", json!(1.5)),
        ("top_k", json!(-2)),
        ("min_p", json!(2)),
        ("frequency_penalty", json!(1e39)),
        ("repetition_penalty", json!(0)),
        ("n", json!(0)),
        ("n", json!(17)),
        ("max_tokens", json!(-1)),
        ("max_tokens", json!(1.5)),
        ("seed", json!("a")),
        ("stop", json!(vec!["a"; 17])),
        ("stop", json!(7)),
        ("logit_bias", json!({"1000000": 1})),
        ("logit_bias", json!({"1": 101})),
        ("logit_bias", json!({"a": 1})),
        ("stream_options", json!({"include_usage": true})),
        ("messages", json!([])),
        ("messages", json!("a")),
        ("messages", json!(null)),
        ("messages", json!([{"role": "tool", "content": "a"}])),
        ("messages", json!([{"content": "a"}])),
        ("messages", json!([{"role": "user", "content": 7}])),
        ("adapters", json!([{"name": "loud", "weight": "heavy"}])),
    ] {
        let (status, _, param, message) = server.chat(request(json!({field: value}))).await.error();
        assert_eq!((status, param.as_str()), (400, Some(field)), "{field} {value}: {message}");
    }
    for (field, value) in
        [("top_k", json!(-1)), ("seed", json!(-1)), ("logit_bias", json!({"3": -100}))]
    {
        server.chat(request(json!({field: value}))).await.json();
    }
}

#[tokio::test]
async fn a_prompt_beyond_the_context_is_refused() {
    let server = Fixture::new("a hill");
    let long = "The old well is near the hill. ".repeat(200);
    let messages = json!([{"role": "user", "content": long}]);
    let (status, code, param, message) =
        server.chat(request(json!({"messages": messages}))).await.error();
    assert_eq!((status, code.as_str()), (400, "context_length_exceeded"));
    assert_eq!(param, "messages");
    assert!(message.contains("has 512 tokens"), "{message}");
}
