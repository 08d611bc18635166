//! Malformed adapter files: mutated valid files, in position of every file of an adapter. Reading gives an
//! adapter or an error, and every adapter that was read can be written in every format, without a panic and
//! with memory in proportion to the file.
//!
//! `fuzz/` runs the same checks with `cargo fuzz`, without a time limit.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use adaption_prompt::files::{AdapterReadOptions, Format, SETTINGS_FILE, peft, read, write};
use adaption_prompt::fuzz::{self, FileRole};
use adaption_prompt::{AdapterSummary, Error, GateActivation};
use burn::tensor::TensorData;
use checkpoint::torch::{Value, to_bytes};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestRng, TestRunner};
use testing::golden_folder;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory limit for a small file. Some formats fill in missing layers.
const MAX_BYTES: usize = 200 << 20;

/// Peak memory of `action` in bytes. The allocator counts for the whole process, so one action runs at a
/// time.
fn peak_memory(action: impl FnOnce()) -> usize {
    static LOCK: Mutex<()> = Mutex::new(());
    let _lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    action();
    MEMORY.peak_usage().saturating_sub(before)
}

/// Extreme values of counts.
const EXTREME_NUMBERS: [&str; 8] =
    ["0", "-1", "1e99", "18446744073709551615", "4294967296", "null", "65536", "3"];

/// A mutation of a file.
#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    /// Replaces one digit.
    ReplaceDigit(Index, &'static str),
    Cut(Index),
    Remove(Index, usize),
    Repeat(Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let position = || any::<Index>();
    prop_oneof![
        4 => (position(), any::<u8>()).prop_map(|(position, byte)| Change::Flip(position, byte)),
        3 => (position(), prop::sample::select(&EXTREME_NUMBERS[..])).prop_map(|(position, number)| Change::ReplaceDigit(position, number)),
        1 => position().prop_map(Change::Cut),
        1 => (position(), 1..40_usize).prop_map(|(position, len)| Change::Remove(position, len)),
        1 => (position(), 1..40_usize).prop_map(|(position, len)| Change::Repeat(position, len)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len();
    match change {
        Change::Flip(position, byte) => bytes[position.index(len)] = *byte,
        Change::ReplaceDigit(position, number) => {
            // Digits occur in text: in settings and headers.
            let digits = bytes.iter().enumerate().filter(|(_, byte)| byte.is_ascii_digit());
            let digits = digits.map(|(position, _)| position).take(4000).collect::<Vec<_>>();
            if !digits.is_empty() {
                let position = digits[position.index(digits.len())];
                bytes.splice(position..=position, number.bytes());
            }
        }
        Change::Cut(position) => bytes.truncate(position.index(len)),
        Change::Remove(position, count) => {
            let position = position.index(len);
            bytes.drain(position..(position + count).min(len));
        }
        Change::Repeat(position, count) => {
            let position = position.index(len);
            let piece = bytes[position..(position + count).min(len)].to_vec();
            bytes.splice(position..position, piece);
        }
    }
}

/// Valid files, each in its role.
fn valid_files() -> Vec<(FileRole, Vec<u8>)> {
    let golden = golden_folder();
    let formats = [
        "original.pth",
        "original-scalar.pth",
        "lit-llama.pth",
        "lit-llama-v2.pth",
        "litgpt.pth.adapter",
        "litgpt-v2.pth.adapter_v2",
        "litgpt-v2-old.pth",
    ];
    let images = ["BIAS-7B.pth", "LORA-BIAS-7B.pth"].map(|name| golden.join("images").join(name));
    let files = formats.map(|name| golden.join("formats").join(name)).into_iter().chain(images);
    let single_files = files.map(|path| (FileRole::ALL[0], std::fs::read(path).unwrap()));
    let adapter_files = FileRole::ALL[1..].iter().map(|&role| {
        let folder = tempfile::tempdir().unwrap();
        (role, role.valid_bytes(folder.path()).unwrap())
    });
    single_files.chain(adapter_files).collect()
}

fn exercise(role: FileRole, bytes: &[u8]) {
    // Written files are synced, which is fast in a memory folder.
    let memory_folder = Path::new("/dev/shm");
    let folder = if memory_folder.is_dir() {
        tempfile::tempdir_in(memory_folder)
    } else {
        tempfile::tempdir()
    };
    let folder = folder.unwrap();
    let peak = peak_memory(|| fuzz::read_in_role(role, bytes, folder.path()));
    assert!(peak <= MAX_BYTES, "{peak} bytes for a file of {}", bytes.len());
}

#[test]
fn mutated_files_are_refused_or_convertible() {
    let files = valid_files();
    for (role, bytes) in &files {
        exercise(*role, bytes);
    }
    let config =
        ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    let strategy = (0..files.len(), prop::collection::vec(change(), 1..4));
    TestRunner::new_with_rng(config, rng)
        .run(&strategy, |(index, changes)| {
            let (role, mut bytes) = files[index].clone();
            for change in &changes {
                apply(&mut bytes, change);
            }
            exercise(role, &bytes);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

/// Reads the adapter of the golden folder with other settings.
fn read_with(folder: &Path, settings: &[u8]) -> adaption_prompt::Result<AdapterSummary> {
    std::fs::write(folder.join(peft::CONFIG_FILE), settings).unwrap();
    AdapterSummary::read(folder)
}

#[test]
fn mutated_settings_never_panic() {
    let golden = golden_folder().join("llama-gqa-tied/adapter");
    let valid = std::fs::read(golden.join(peft::CONFIG_FILE)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden.join(peft::TENSORS_FILE), folder.path().join(peft::TENSORS_FILE)).unwrap();
    read_with(folder.path(), &valid).unwrap();
    proptest!(ProptestConfig::with_cases(400), |(changes in prop::collection::vec(change(), 1..4))| {
        let mut settings = valid.clone();
        for change in &changes {
            apply(&mut settings, change);
        }
        let _ = read_with(folder.path(), &settings);
    });
}

/// A PyTorch file of tensors of ones.
fn torch_file(path: &Path, tensors: &[(&str, &[usize])]) {
    let tensors = tensors.iter().map(|(name, shape)| {
        let data = TensorData::new(vec![1.0_f32; shape.iter().product()], shape.to_vec());
        ((*name).to_owned(), Value::Tensor(data))
    });
    std::fs::write(path, to_bytes(&Value::Dict(tensors.collect())).unwrap()).unwrap();
}

/// The error of reading such a file.
fn refused(tensors: &[(&str, &[usize])]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pth");
    torch_file(&path, tensors);
    let mut message = String::new();
    let peak = peak_memory(|| {
        message = read(&path, &AdapterReadOptions::default()).unwrap_err().to_string();
    });
    assert!(peak <= MAX_BYTES, "{peak} bytes");
    message
}

/// The error of a multimodal adapter of the original release with some changed tensors.
fn image_adapter(changes: &[(&'static str, &'static [usize])]) -> String {
    let mut tensors: Vec<(&str, &[usize])> = vec![
        ("adapter_query.weight", &[2, 8]),
        ("visual_query.weight", &[2, 16]),
        ("clip_proj.weight", &[16, 4]),
        ("visual_blocks.0.norm1.weight", &[16]),
        ("visual_blocks.0.attn.qkv.weight", &[48, 16]),
        ("llama.layers.0.attention.gate", &[1, 2, 1, 1]),
    ];
    for change in changes {
        tensors.retain(|(name, _)| *name != change.0);
        tensors.push(*change);
    }
    refused(&tensors)
}

#[test]
fn fused_qkv_of_a_wrong_shape_is_refused() {
    for shape in [&[][..], &[0, 16], &[47, 16], &[1]] {
        let error = image_adapter(&[("visual_blocks.0.attn.qkv.weight", shape)]);
        assert!(error.contains("expected rows of query, key and value, found"), "{error}");
    }
}

#[test]
fn invalid_shapes_of_a_multimodal_adapter_are_refused() {
    let error = image_adapter(&[("clip_proj.weight", &[0, 1 << 40])]);
    assert!(error.contains("clip_proj.weight: expected a matrix"), "{error}");
    let error = image_adapter(&[("visual_query.weight", &[0, 16])]);
    assert!(error.contains("is not prompts of 0 tokens"), "{error}");
    // Heads of width 1 have no halves to rotate.
    let error = image_adapter(&[("llama.layers.0.attention.gate", &[1, 8, 1, 1])]);
    assert!(error.contains("of 8 heads"), "{error}");
    let error = image_adapter(&[("llama.layers.0.attention.new_gate", &[2])]);
    assert!(error.contains("new_gate of layer 0: expected one, found [2]"), "{error}");
}

#[test]
fn distant_layers_do_not_allocate_the_layers_between() {
    let folder = tempfile::tempdir().unwrap();
    for last in ["400000000", "18446744073709551615"] {
        let from = folder.path().join("x.pth");
        let name = |layer: &str, part: &str| format!("transformer.h.{layer}.attn.{part}");
        let names = ["0", last]
            .map(|layer| [name(layer, "adapter_wte.weight"), name(layer, "gating_factor")]);
        let tensors = names.iter().flat_map(|[prompt, gate]| {
            [(prompt.as_str(), &[2, 8][..]), (gate.as_str(), &[1, 2, 1, 1][..])]
        });
        torch_file(&from, &tensors.collect::<Vec<_>>());
        let data = read(&from, &AdapterReadOptions::default()).unwrap();
        for format in [Format::Peft, Format::PeftBin] {
            let to = folder.path().join("y");
            let mut error = None;
            let peak =
                peak_memory(|| error = write(&data, &to, format, GateActivation::Tanh, true).err());
            assert!(matches!(error, Some(Error::Config { field: "layers", .. })), "{error:?}");
            assert!(peak <= 1 << 20 && !to.exists(), "{peak} bytes");
        }
    }
}

#[test]
fn invalid_base_sizes_in_settings_are_refused() {
    let golden = golden_folder().join("llama-gqa-tied/adapter");
    let folder = tempfile::tempdir().unwrap();
    for name in [peft::CONFIG_FILE, peft::TENSORS_FILE] {
        std::fs::copy(golden.join(name), folder.path().join(name)).unwrap();
    }
    for (field, value) in
        [("n_layers", "400000000"), ("head_dim", "0"), ("n_heads", "18446744073709551615")]
    {
        let sizes = r#""architecture": "llama", "n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "head_dim": 8,
            "d_model": 32, "d_ff": 48, "vocab_size": 128, "gated": true"#;
        let sizes = sizes.split(',').map(|pair| {
            let named = pair.contains(&format!("\"{field}\""));
            if named { format!("\"{field}\": {value}") } else { pair.to_owned() }
        });
        let sizes = sizes.collect::<Vec<_>>().join(",");
        let prompts = r#""prompts": {"gate": "scalar", "activation": "identity"}"#;
        let text = format!(r#"{{"format": 1, {prompts}, "base": {{"sizes": {{{sizes}}}}}}}"#);
        std::fs::write(folder.path().join(SETTINGS_FILE), text).unwrap();
        let error = read(folder.path(), &AdapterReadOptions::default()).unwrap_err().to_string();
        assert!(error.contains("sizes of the base") && error.contains(field), "{error}");
    }
}

#[test]
fn duplicate_mix_component_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        r#"{"format": 1, "mix": [{"name": "a", "weight": 1.0}, {"name": "a", "weight": 2.0}]}"#;
    std::fs::write(folder.path().join(SETTINGS_FILE), text).unwrap();
    let error = adaption_prompt::files::read_mix(folder.path()).unwrap_err();
    assert!(matches!(error, Error::NameTaken { .. }), "{error}");
}

#[test]
fn non_canonical_layer_indices_are_refused() {
    let prompt: &[usize] = &[2, 8];
    let error = refused(&[
        ("transformer.h.1.attn.adapter_wte.weight", prompt),
        ("transformer.h.1.attn.gating_factor", &[1, 2, 1, 1]),
        ("transformer.h.01.attn.gating_factor", &[1, 2, 1, 1]),
    ]);
    assert!(error.contains("unexpected: transformer.h.01.attn.gating_factor"), "{error}");
}
