//! Streams of server-sent events.

use serde_json::{Value, json};
use serve::engine::fake::{FakeAnswer, FakeFailure};

use crate::chat::request;
use crate::fixture::{Fixture, Setup, tokenizer};

fn streamed(more: Value) -> Value {
    let mut request = request(more);
    request["stream"] = json!(true);
    request
}

/// The joined text of a choice.
fn joined(chunks: &[Value], index: usize, text: impl Fn(&Value) -> &Value) -> String {
    let choices = chunks.iter().filter_map(|chunk| chunk["choices"].get(0));
    let own = choices.filter(|choice| choice["index"] == json!(index));
    own.filter_map(|choice| text(choice).as_str()).collect()
}

fn delta(choice: &Value) -> &Value {
    &choice["delta"]["content"]
}

#[tokio::test]
async fn a_stream_has_openais_shape() {
    let server = Fixture::new("The old well.");
    let response = server.chat(streamed(json!({}))).await;
    assert_eq!(response.header("cache-control"), "no-cache");
    assert_eq!(response.header("x-accel-buffering"), "no");
    let chunks = response.chunks();
    let [first, .., last] = &chunks[..] else { panic!("{chunks:?}") };
    for chunk in &chunks {
        let keys = chunk.as_object().unwrap().keys().collect::<Vec<_>>();
        assert_eq!(keys, ["id", "object", "created", "model", "system_fingerprint", "choices"]);
        assert_eq!((&chunk["id"], &chunk["created"]), (&first["id"], &first["created"]));
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["choices"].as_array().unwrap().len(), 1);
    }
    let begin = json!({
        "index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": null,
        "finish_reason": null,
    });
    assert_eq!(first["choices"][0], begin);
    let end = json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"});
    assert_eq!(last["choices"][0], end);
    assert!(chunks.len() > 4, "more than one piece: {chunks:?}");
    assert_eq!(joined(&chunks, 0, delta), "The old well.");
    server.wait_until_idle().await;
}

#[tokio::test]
async fn a_stream_ends_with_its_usage_if_asked() {
    let server = Fixture::new("The old well.");
    let with_usage = json!({"stream_options": {"include_usage": true}});
    let chunks = server.chat(streamed(with_usage)).await.chunks();
    let (last, others) = chunks.split_last().unwrap();
    assert!(others.iter().all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some()));
    assert_eq!(last["choices"], json!([]));
    let whole = server.chat(request(json!({}))).await.json();
    for key in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(last["usage"][key], whole["usage"][key], "{key}");
    }
}

#[tokio::test]
async fn the_choices_of_a_stream_are_the_whole_ones() {
    let server = Setup::new(FakeAnswer::Hash).start();
    let more = json!({"n": 3, "seed": 5, "max_tokens": 9, "ignore_eos": true});
    let whole = server.chat(request(more.clone())).await.json();
    let chunks = server.chat(streamed(more)).await.chunks();
    for index in 0..3 {
        let expected = whole["choices"][index]["message"]["content"].as_str().unwrap();
        assert_eq!(joined(&chunks, index, delta), expected, "{index}");
    }
    let ends = chunks.iter().filter(|chunk| chunk["choices"][0]["finish_reason"] == "length");
    assert_eq!(ends.count(), 3);
}

#[tokio::test]
async fn the_logprobs_of_a_stream_come_with_their_text() {
    let server = Fixture::new("The old well.");
    let chunks = server.chat(streamed(json!({"logprobs": true}))).await.chunks();
    let entries = chunks.iter().flat_map(|chunk| {
        let content = chunk["choices"][0]["logprobs"]["content"].as_array();
        content.cloned().unwrap_or_default()
    });
    let texts = entries.map(|entry| entry["token"].as_str().unwrap().to_owned());
    assert_eq!(texts.collect::<String>(), "The old well.");
}

#[tokio::test]
async fn a_completion_streams_too() {
    let server = Fixture::new(" cows are here.");
    let request = json!({
        "model": "tiny", "prompt": ["The plural of cow is", "A"], "stream": true, "logprobs": 0,
    });
    let chunks = server.complete(request).await.chunks();
    assert!(chunks.iter().all(|chunk| chunk["object"] == "text_completion"));
    for index in 0..2 {
        let text = joined(&chunks, index, |choice| &choice["text"]);
        assert_eq!(text, " cows are here.");
    }
    let own = chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|own| own["index"] == 0);
    let offsets =
        own.flat_map(|own| own["logprobs"]["text_offset"].as_array().cloned().unwrap_or_default());
    let offsets = offsets.map(|offset| offset.as_u64().unwrap()).collect::<Vec<_>>();
    assert!(offsets[0] == 0 && offsets.is_sorted() && offsets.len() > 2, "{offsets:?}");
}

#[tokio::test]
async fn a_stream_that_fails_ends_with_an_error() {
    let mut setup = Setup::new(FakeAnswer::text("The old well."));
    let id = *tokenizer().encode_raw("The old well").unwrap().last().unwrap();
    setup.fake.failure = Some((id, FakeFailure::NotANumber));
    let server = setup.start();
    let events = server.chat(streamed(json!({}))).await.events();
    let last = serde_json::from_str::<Value>(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["type"], "server_error", "{last}");
    assert!(events.len() > 1, "{events:?}");
    // Others are not affected.
    server.wait_until_idle().await;
    server.chat(request(json!({"max_tokens": 1}))).await.json();
}

#[tokio::test]
async fn a_request_that_fails_at_once_has_a_status() {
    let mut setup = Setup::new(FakeAnswer::text("The old well."));
    let id = *tokenizer().encode_raw("user: The plural of cow is\n").unwrap().last().unwrap();
    setup.fake.failure = Some((id, FakeFailure::NotANumber));
    let server = setup.start();
    for body in [request(json!({})), streamed(json!({}))] {
        let (status, code, ..) = server.chat(body).await.error();
        assert_eq!((status, code.as_str()), (500, "internal_error"));
    }
}
