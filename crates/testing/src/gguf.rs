//! Writes small GGUF files, valid and invalid ones.

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the types of the format")]
pub enum Value {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    F32(f32),
    F64(f64),
    Text(String),
    Array(Vec<Value>),
}

impl Value {
    /// A list of strings.
    pub fn texts(texts: &[&str]) -> Self {
        Self::Array(texts.iter().map(|text| Self::Text((*text).into())).collect())
    }
}

/// Contents of a GGUF file.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// Version of the format.
    pub version: u32,
    /// Alignment of the tensors.
    pub alignment: usize,
    /// Metadata by key.
    pub values: Vec<(String, Value)>,
    /// Tensors in file order.
    pub tensors: Vec<FixtureTensor>,
}

/// One tensor of a [`Fixture`].
#[derive(Debug, Clone)]
pub struct FixtureTensor {
    name: String,
    /// Rows first.
    shape: Vec<u64>,
    kind: u32,
    data: Vec<u8>,
    /// A wrong offset to write instead of the right one.
    pub offset: Option<u64>,
}

impl Fixture {
    /// A file without metadata and tensors.
    pub fn empty() -> Self {
        Self { version: 3, alignment: 32, values: Vec::new(), tensors: Vec::new() }
    }

    /// A string, a nested list and two f32 tensors with the values 0, 1, 2, ...
    pub fn small() -> Self {
        let mut fixture = Self::empty();
        fixture.value("general.name", &Value::Text("small".into()));
        let list = Value::Array(vec![Value::F32(0.5), Value::F32(1.5)]);
        fixture.value("lists", &Value::Array(vec![list.clone(), list]));
        fixture.floats("a", &[2, 3]);
        fixture.floats("b", &[2]);
        fixture
    }

    /// A complete Llama without a tokenizer: 2 layers, 4 query heads and 2 KV heads of 4, `d_model` 8.
    pub fn model() -> Self {
        let mut fixture = Self::empty();
        fixture.value("general.architecture", &Value::Text("llama".into()));
        for (key, value) in [
            ("block_count", 2),
            ("embedding_length", 8),
            ("feed_forward_length", 12),
            ("attention.head_count", 4),
            ("attention.head_count_kv", 2),
            ("attention.key_length", 4),
            ("context_length", 64),
        ] {
            fixture.value(&format!("llama.{key}"), &Value::Unsigned(value));
        }
        fixture.value("llama.attention.layer_norm_rms_epsilon", &Value::F32(1e-5));
        fixture.floats("token_embd.weight", &[10, 8]);
        for layer in 0..2 {
            for (name, shape) in [
                ("attn_q", &[16, 8][..]),
                ("attn_k", &[8, 8]),
                ("attn_v", &[8, 8]),
                ("attn_output", &[8, 16]),
                ("ffn_gate", &[12, 8]),
                ("ffn_up", &[12, 8]),
                ("ffn_down", &[8, 12]),
                ("attn_norm", &[8]),
                ("ffn_norm", &[8]),
            ] {
                fixture.floats(&format!("blk.{layer}.{name}.weight"), shape);
            }
        }
        fixture.floats("output_norm.weight", &[8]);
        fixture
    }

    /// A Llama with a tokenizer and all optional tensors.
    pub fn complete() -> Self {
        let mut fixture = Self::model();
        let tokens = [("a", 1), ("b", 1), ("ab", 1), ("<s>", 3), ("</s>", 3)];
        fixture.values.extend(Self::vocabulary("gpt2", &tokens).values);
        fixture.value("tokenizer.ggml.merges", &Value::texts(&["a b"]));
        fixture.value("tokenizer.ggml.scores", &Value::Array(vec![Value::F32(0.0); 5]));
        fixture.value("tokenizer.ggml.bos_token_id", &Value::Unsigned(3));
        fixture.tensor("rope_freqs.weight", &[2], 0, &[0, 0, 128, 63, 0, 0, 0, 65]);
        fixture.tensor("blk.0.attn_q.bias", &[32], 8, &[7; 34]);
        fixture
    }

    /// A file with a vocabulary: tokens and their ggml token types.
    pub fn vocabulary(model: &str, tokens: &[(&str, u64)]) -> Self {
        let mut fixture = Self::empty();
        fixture.value("tokenizer.ggml.model", &Value::Text(model.into()));
        let texts = tokens.iter().map(|(text, _)| *text).collect::<Vec<_>>();
        fixture.value("tokenizer.ggml.tokens", &Value::texts(&texts));
        let kinds = tokens.iter().map(|(_, kind)| Value::Unsigned(*kind)).collect();
        fixture.value("tokenizer.ggml.token_type", &Value::Array(kinds));
        fixture
    }

    /// Adds a metadata value.
    pub fn value(&mut self, key: &str, value: &Value) {
        self.values.push((key.into(), value.clone()));
    }

    /// Replaces a metadata value; removes it with `None`.
    pub fn replace(&mut self, key: &str, value: Option<Value>) {
        self.values.retain(|(name, _)| name != key);
        self.values.extend(value.map(|value| (key.to_owned(), value)));
    }

    /// Adds a tensor. `shape` has rows first; `kind` is the ggml type.
    pub fn tensor(&mut self, name: &str, shape: &[u64], kind: u32, data: &[u8]) {
        let (name, shape, data) = (name.into(), shape.to_vec(), data.to_vec());
        self.tensors.push(FixtureTensor { name, shape, kind, data, offset: None });
    }

    /// Adds an f32 tensor with the values 0, 1, 2, ...
    pub fn floats(&mut self, name: &str, shape: &[u64]) {
        let values = (0..shape.iter().product()).flat_map(|i: u64| (i as f32).to_le_bytes());
        self.tensor(name, shape, 0, &values.collect::<Vec<_>>());
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.values.len() as u64).to_le_bytes());
        for (key, value) in &self.values {
            text(&mut out, key);
            out.extend(kind(value).to_le_bytes());
            write(&mut out, value);
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            text(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            for size in tensor.shape.iter().rev() {
                out.extend(size.to_le_bytes());
            }
            out.extend(tensor.kind.to_le_bytes());
            data.resize(data.len().next_multiple_of(self.alignment), 0);
            out.extend(tensor.offset.unwrap_or(data.len() as u64).to_le_bytes());
            data.extend(&tensor.data);
        }
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        out.extend(data);
        out
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn kind(value: &Value) -> u32 {
    match value {
        Value::F32(_) => 6,
        Value::Bool(_) => 7,
        Value::Text(_) => 8,
        Value::Array(_) => 9,
        Value::Unsigned(_) => 10,
        Value::Signed(_) => 11,
        Value::F64(_) => 12,
    }
}

fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::F32(number) => out.extend(number.to_le_bytes()),
        Value::Bool(flag) => out.push((*flag).into()),
        Value::Text(content) => text(out, content),
        Value::Unsigned(number) => out.extend(number.to_le_bytes()),
        Value::Signed(number) => out.extend(number.to_le_bytes()),
        Value::F64(number) => out.extend(number.to_le_bytes()),
        Value::Array(values) => {
            out.extend(values.first().map_or(0, kind).to_le_bytes());
            out.extend((values.len() as u64).to_le_bytes());
            for value in values {
                write(out, value);
            }
        }
    }
}
