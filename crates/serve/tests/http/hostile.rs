//! Bodies of all kinds: each has an answer or an error in OpenAI's shape, and the server goes on.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Number, Value, json};
use serve::engine::fake::FakeAnswer;

use crate::fixture::{Answered, Fixture, Setup};

/// Fields that the server knows, and some that it does not.
const FIELDS: [&str; 38] = [
    "model",
    "messages",
    "prompt",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "seed",
    "stream",
    "stream_options",
    "logprobs",
    "top_logprobs",
    "echo",
    "best_of",
    "suffix",
    "logit_bias",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "adapters",
    "response_format",
    "tools",
    "tool_choice",
    "modalities",
    "audio",
    "user",
    "role",
    "content",
    "image_url",
    "url",
    "type",
    "text",
];

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|x| Number::from_f64(x).map_or(Value::Null, Value::Number)),
        (-3_i64..30).prop_map(Value::from),
        prop::sample::select(vec![0.0, -0.0, 1e308, -1e308, 5e-324, 0.5, 1.0])
            .prop_map(Value::from),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z ]{0,40}",
        prop::sample::select(vec![
            "tiny",
            "base",
            "tiny:loud",
            "tiny:seeing",
            "user",
            "assistant",
            "system",
            "text",
            "image_url",
            "data:image/png;base64,",
            "http://169.254.169.254/",
            "<|begin|>",
            "json_object",
            "none",
            "\u{0}",
            "\u{202e}",
            "",
        ])
        .prop_map(str::to_owned),
        Just("The old well ".repeat(400)),
    ]
}

/// Any JSON value.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number(),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        let key =
            prop_oneof![prop::sample::select(FIELDS.to_vec()).prop_map(str::to_owned), text()];
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map(key, inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A PNG file, whole, damaged, or with a size in its head that would take gigabytes.
fn png() -> impl Strategy<Value = Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let image = image::RgbImage::from_pixel(16, 16, image::Rgb([1, 2, 3]));
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let file = bytes.into_inner();
    let sizes = [[0, 0, 0, 16], [0x7f, 0xff, 0xff, 0xff], [0, 0, 0x10, 0], [0; 4]];
    let damage = vec((0..file.len(), any::<u8>()), 0..4);
    (damage, prop::sample::select(sizes.to_vec()), 0..file.len()).prop_map(
        move |(damage, size, cut)| {
            let mut file = file.clone();
            file[16..20].copy_from_slice(&size);
            file[20..24].copy_from_slice(&size);
            for (at, byte) in damage {
                file[at] = byte;
            }
            if cut % 3 == 0 {
                file.truncate(cut);
            }
            file
        },
    )
}

/// An image part's URL.
fn image_url() -> impl Strategy<Value = String> {
    prop_oneof![
        png().prop_map(|file| format!("data:image/png;base64,{}", STANDARD.encode(file))),
        vec(any::<u8>(), 0..200)
            .prop_map(|file| format!("data:image/webp;base64,{}", STANDARD.encode(file))),
        "data:image/png;base64,[A-Za-z0-9+/=]{0,80}",
        text(),
    ]
}

/// A request that is right but for a few fields.
fn nearly_right() -> impl Strategy<Value = Value> {
    let field = (prop::sample::select(FIELDS.to_vec()), value());
    (vec(field, 0..4), image_url(), any::<bool>(), 0..3_usize).prop_map(|(fields, url, stream, kind)| {
        let content = match kind {
            0 => json!("The hill"),
            1 => json!([{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": url}}]),
            _ => json!([{"type": "text"}, url]),
        };
        let mut request = json!({
            "model": if kind == 1 { "tiny:seeing" } else { "tiny" },
            "messages": [{"role": "user", "content": content}],
            "prompt": "The hill",
            "max_tokens": 3,
            "stream": stream,
        });
        for (name, value) in fields {
            request[name] = value;
        }
        request
    })
}

/// A body: JSON of all kinds, damaged JSON, nesting, and bytes.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let json = |value: Value| value.to_string().into_bytes();
    prop_oneof![
        5 => nearly_right().prop_map(json),
        2 => value().prop_map(json),
        2 => (nearly_right(), any::<prop::sample::Index>(), any::<u8>()).prop_map(move |(value, at, byte)| {
            let mut bytes = json(value);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
        1 => (prop::sample::select(FIELDS.to_vec()), 1..20_000_usize, any::<bool>()).prop_map(|(field, depth, lists)| {
            let (open, close) = if lists { ("[", "]") } else { ("{\"a\":", "}") };
            format!("{{\"{field}\": {}1{}}}", open.repeat(depth), close.repeat(depth)).into_bytes()
        }),
        1 => vec(any::<u8>(), 0..300),
    ]
}

fn check(answer: &Answered) {
    if answer.status == 200 {
        return;
    }
    let (status, _, _, message) = answer.error();
    assert!((400..500).contains(&status), "{status} {message}");
    assert!(message.len() < 2000, "{}", message.len());
}

fn server() -> Fixture {
    let mut setup = Setup::new(FakeAnswer::text("yes"));
    setup.fake.context = 128;
    setup.start()
}

#[test]
fn no_body_makes_the_server_fail() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = {
        let _in_runtime = runtime.enter();
        server()
    };
    let paths = ["/v1/chat/completions", "/v1/completions"];
    let mut runner =
        TestRunner::new(Config { cases: 5_000, failure_persistence: None, ..Config::default() });
    let statuses = std::cell::RefCell::new(std::collections::BTreeMap::<u16, usize>::new());
    runner
        .run(&body(), |body| {
            for path in paths {
                let headers = [("content-type", "application/json")];
                let sent = server.request(axum::http::Method::POST, path, &headers, body.clone());
                let answer = runtime.block_on(sent);
                check(&answer);
                *statuses.borrow_mut().entry(answer.status).or_default() += 1;
            }
            Ok(())
        })
        .unwrap();
    // The bodies reach the model too, and not only the parser.
    let statuses = statuses.into_inner();
    assert!(statuses[&200] > 500 && statuses[&400] > 5_000, "{statuses:?}");
    runtime.block_on(server.wait_until_idle());
    assert_eq!(server.engine.handle().stats().errors, 0);
}

#[tokio::test]
async fn an_image_that_unpacks_to_gigabytes_is_refused() {
    let server = server();
    // 60,000 x 60,000 pixels of one color, as a palette of a bit for each pixel.
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8], data: &[u8]| {
        file.extend((data.len() as u32).to_be_bytes());
        file.extend(kind);
        file.extend(data);
        file.extend(crc(&[kind, data].concat()).to_be_bytes());
    };
    let side = 60_000_u32.to_be_bytes();
    chunk(b"IHDR", &[&side[..], &side, &[1, 3, 0, 0, 0]].concat());
    chunk(b"PLTE", &[0, 0, 0]);
    chunk(b"IDAT", &[0x78, 0x9c, 0x63, 0, 0]);
    chunk(b"IEND", &[]);
    let url = format!("data:image/png;base64,{}", STANDARD.encode(file));
    let content = json!([{"type": "image_url", "image_url": {"url": url}}]);
    let messages = json!([{"role": "user", "content": content}]);
    let (status, _, param, message) =
        server.chat(json!({"model": "tiny:seeing", "messages": messages})).await.error();
    assert_eq!((status, param), (400, json!("messages")));
    assert!(message.contains("60000"), "{message}");
}

/// The checksum of a PNG's chunk.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}
