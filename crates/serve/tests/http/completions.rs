//! `/v1/completions` without streams.

use serde_json::{Value, json};
use serve::engine::fake::FakeAnswer;

use crate::fixture::{Fixture, Setup, tokenizer};

fn request(prompt: Value, more: Value) -> Value {
    let mut request = json!({"model": "tiny", "prompt": prompt});
    for (key, value) in more.as_object().unwrap() {
        request[key] = value.clone();
    }
    request
}

#[tokio::test]
async fn a_completion_has_openais_shape() {
    let server = Fixture::new(" cows.");
    let answer = server.complete(request(json!("The plural of cow is"), json!({}))).await.json();
    assert_eq!(answer["object"], "text_completion");
    assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
    let choice = json!({"index": 0, "text": " cows.", "logprobs": null, "finish_reason": "stop"});
    assert_eq!(answer["choices"], json!([choice]));
    let prompt = tokenizer().encode("The plural of cow is").unwrap().len();
    assert_eq!(answer["usage"]["prompt_tokens"], prompt);
    server.wait_until_idle().await;
}

#[tokio::test]
async fn sixteen_tokens_are_the_default() {
    let server = Fixture::new(&"The hill. ".repeat(20));
    let answer = server.complete(request(json!("The"), json!({}))).await.json();
    assert_eq!(answer["usage"]["completion_tokens"], 16);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn every_form_of_prompt_is_accepted() {
    let server = Setup::new(FakeAnswer::echo()).start();
    let ids = tokenizer().encode("The hill").unwrap();
    let texts = async |prompt: Value| {
        let answer = server.complete(request(prompt, json!({}))).await.json();
        let choices = answer["choices"].as_array().unwrap().iter();
        choices.map(|choice| choice["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(texts(json!("The hill")).await, ["The hill"]);
    assert_eq!(texts(json!(["The hill", "A cow"])).await, ["The hill", "A cow"]);
    assert_eq!(texts(json!(ids)).await, ["The hill"]);
    assert_eq!(texts(json!([ids, ids])).await, ["The hill", "The hill"]);
}

#[tokio::test]
async fn several_prompts_have_their_choices_in_order() {
    let server = Setup::new(FakeAnswer::echo()).start();
    let more = json!({"n": 2});
    let answer = server.complete(request(json!(["The hill", "A cow"]), more)).await.json();
    let found = answer["choices"].as_array().unwrap().iter();
    let found =
        found.map(|choice| (choice["index"].as_u64().unwrap(), choice["text"].as_str().unwrap()));
    let expected = [(0, "The hill"), (1, "The hill"), (2, "A cow"), (3, "A cow")];
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn an_echo_begins_with_the_prompt_and_its_logprobs() {
    let server = Fixture::new(" is old.");
    let more = json!({"echo": true, "logprobs": 1});
    let answer = server.complete(request(json!("The hill"), more)).await.json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"], "The hill is old.");
    let logprobs = &choice["logprobs"];
    let count = tokenizer().encode("The hill").unwrap().len()
        + tokenizer().encode_raw(" is old.").unwrap().len();
    for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(logprobs[list].as_array().unwrap().len(), count, "{list}");
    }
    assert_eq!(logprobs["token_logprobs"][0], Value::Null);
    assert!(logprobs["token_logprobs"][1].as_f64().unwrap() <= 0.0);
}

#[tokio::test]
async fn a_prompt_can_be_scored_without_new_tokens() {
    let server = Fixture::new(" is old.");
    let more = json!({"echo": true, "logprobs": 0, "max_tokens": 0});
    let answer = server.complete(request(json!("The hill"), more)).await.json();
    assert_eq!(answer["choices"][0]["text"], "The hill");
    assert_eq!(answer["usage"]["completion_tokens"], 0);
    let count = tokenizer().encode("The hill").unwrap().len();
    assert_eq!(answer["choices"][0]["logprobs"]["tokens"].as_array().unwrap().len(), count);
    let refused = server.complete(request(json!("a"), json!({"max_tokens": 0}))).await.refused();
    assert_eq!(refused.2, "max_tokens");
}

#[tokio::test]
async fn wrong_fields_are_refused_by_name() {
    let server = Fixture::new("a hill");
    for (field, value) in [
        ("prompt", json!(null)),
        ("prompt", json!([])),
        ("prompt", json!([[]])),
        ("prompt", json!({})),
        ("prompt", json!(["a", 1])),
        ("prompt", json!([4_000_000_000_u32])),
        ("prompt", json!(vec!["a"; 65])),
        ("best_of", json!(2)),
        ("suffix", json!("a")),
        ("logprobs", json!(6)),
        ("logprobs", json!(true)),
    ] {
        let refused = server.complete(request(json!("a"), json!({field: value}))).await;
        let (status, _, param, message) = refused.error();
        assert_eq!((status, param.as_str()), (400, Some(field)), "{field} {value}: {message}");
    }
    let streamed = request(json!("a"), json!({"echo": true, "stream": true}));
    assert_eq!(server.complete(streamed).await.refused().2, "echo");
    server.complete(request(json!("a"), json!({"best_of": 2, "n": 2}))).await.json();
    server.wait_until_idle().await;
}
