//! Adapters in every format: `convert`, `mix`, `list`, `inspect`, and their use.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use testing::{Golden, assert_values_close};

use crate::program::{Program, golden};

/// A file in `formats/` of the golden files, its base model, its format.
const FILES: [(&str, &str, &str); 8] = [
    ("original.pth", "llama-mha", "original"),
    ("original-scalar.pth", "llama-mha", "original"),
    ("lit-llama.pth", "llama-mha", "lit-llama"),
    ("lit-llama-v2.pth", "llama-mha", "lit-llama"),
    ("litgpt.pth.adapter", "llama-headdim16", "litgpt"),
    ("litgpt-v2.pth.adapter_v2", "llama-headdim16", "litgpt"),
    ("litgpt-v2-old.pth", "llama-headdim16", "litgpt"),
    ("peft-bin", "llama-gqa-tied", "peft-bin"),
];

fn file(name: &str) -> String {
    golden(&format!("formats/{name}"))
}

fn base(case: &str) -> String {
    golden(&format!("{case}/base"))
}

fn expected(name: &str) -> Vec<f32> {
    Golden::open("formats/logits.safetensors").floats(name).1
}

impl Program {
    /// The logits of the golden ids.
    fn logits(&self, model: &str, more: &[&str]) -> Vec<f32> {
        let rows = Golden::open("formats/logits.safetensors").int_rows("input_ids");
        self.run_logits(model, &json!(rows), more).ok();
        self.read_logits().1
    }

    /// Converts an adapter and returns stderr.
    fn convert(&self, from: &str, to: &str, more: &[&str]) -> String {
        let outcome = self.run(&[&["convert", from, to], more].concat());
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), ""), "{}", outcome.stderr);
        outcome.stderr
    }
}

#[track_caller]
fn same(what: &str, found: &[f32], expected: &[f32]) {
    assert_values_close(what, found, expected, &[expected.len()], 2e-4);
}

#[test]
fn every_format_loads_and_is_inspected() {
    let program = Program::new();
    for (name, case, format) in FILES {
        let adapter = file(name);
        let key = if format == "original" { format!("{name}.tanh") } else { name.to_owned() };
        let found = program.logits(&base(case), &["--adapter", &adapter]);
        same(name, &found, &expected(&key));
        let report = program.run(&["inspect", "--json", &adapter]).json();
        assert_eq!(
            (&report["kind"], &report["format"]),
            (&json!("adapter"), &json!(format)),
            "{name}"
        );
        assert_eq!(report["prompts"]["adapter_len"], 5, "{name}");
        assert_eq!(report["v2"].is_null(), !name.contains("v2"), "{name}");
    }
}

#[test]
fn inspect_shows_adapter_v2_without_a_model() {
    let text = Program::new().run(&["inspect", &file("litgpt-v2-old.pth")]).ok();
    let text = text.replace(testing::golden_folder().to_str().unwrap(), "[golden]");
    insta::assert_snapshot!(text, @r"
    adapter     [golden]/formats/litgpt-v2-old.pth (litgpt)
    base model  unknown (d_model 32)
    template    alpaca (the default)
    prompts     prompt length 5, 2 adapted layers (1 to 2)
    gates       one per head; from -0.6362 to 0.6768, mean -0.1641
    v2          22 linear layers, 7 norms; output scale, RMS deviation from 1: 0.2012; bias RMS 0.1977
    parameters  2,536
    on disk     23.63 KiB

    layer  gate min  gate max  gate mean  prompt rms
        1   -0.4245    0.2621    -0.1989      0.9893
        2   -0.6362    0.6768    -0.1293      0.9741
    ");
}

#[test]
fn convert_preserves_logits_and_infers_the_format() {
    let program = Program::new();
    let model = base("llama-mha");
    for (to, format) in [
        ("ours", "llama-adapter"),
        ("x.pth", "original"),
        ("x.ckpt", "lit-llama"),
        ("x.pth.adapter", "litgpt"),
    ] {
        let to = program.path(to);
        let stderr = program.convert(&file("original.pth"), &to, &["--model", &model]);
        assert_eq!(stderr, format!("original ─► {format}: 328 parameters in {to}\n"));
        let found = program.logits(&model, &["--adapter", &to]);
        same(format, &found, &expected("original.pth.tanh"));
    }
    // --format overrides the file name.
    let (bin, back) = (program.path("bin.pth"), program.path("back"));
    program.convert(&file("original-scalar.pth"), &bin, &["--format", "peft-bin"]);
    assert!(Path::new(&bin).join("adapter_model.bin").exists());
    program.convert(&bin, &back, &["--format", "original", "--model", &model]);
    let found = program.logits(&model, &["--adapter", &back]);
    same("back", &found, &expected("original-scalar.pth.tanh"));
}

#[test]
fn original_gates_may_skip_tanh() {
    let program = Program::new();
    let (model, to) = (base("llama-mha"), program.path("plain"));
    program.convert(&file("original.pth"), &to, &["--original-gates", "plain"]);
    let found = program.logits(&model, &["--adapter", &to]);
    same("plain", &found, &expected("original.pth.plain"));
    let report = program.run(&["inspect", "--json", &to]).json();
    assert_eq!(report["prompts"]["activation"], "identity");
}

#[test]
fn lossy_conversions_need_the_lossy_option() {
    let program = Program::new();
    let to = program.path("peft");
    let args = ["convert", &file("original.pth"), &to, "--format", "peft"];
    let error = program.run(&args).fails(1);
    assert!(
        error.starts_with(
            "error: peft cannot hold this adapter\n  gates of layer 1 differ by head, "
        )
    );
    assert!(error.contains("\n  gates of layer 2 differ by head, "), "{error}");
    assert!(error.ends_with("hint: --lossy converts anyway and reports what is lost\n"));
    assert!(!Path::new(&to).exists());
    let stderr = program.convert(args[1], &to, &["--format", "peft", "--lossy"]);
    assert_eq!(stderr.matches("\nlost: gates of layer ").count(), 2, "{stderr}");
    let text = program.run(&["inspect", &to]).ok();
    assert!(text.contains("\ngates       one per layer; "), "{text}");
    // The original format cannot represent Adapter V2.
    let model = base("llama-mha");
    let v2 = program.path("v2");
    program.convert(&file("lit-llama-v2.pth"), &v2, &["--model", &model]);
    let file = program.path("x.pth");
    let error = program.run(&["convert", &v2, &file]).fails(1);
    assert!(error.contains("\n  Adapter V2's 22 scales and biases and 7 norms\n"), "{error}");
}

#[test]
fn existing_outputs_are_not_overwritten() {
    let program = Program::new();
    let (taken, full) = (program.path("taken.pth"), program.path("full"));
    fs::write(&taken, "mine").unwrap();
    fs::create_dir(&full).unwrap();
    fs::write(Path::new(&full).join("note"), "mine").unwrap();
    let from = golden("llama-gqa-tied/adapter");
    for to in [&taken, &full] {
        for args in [&["convert", &from, to][..], &["mix", &from, "--output", to]] {
            let error = program.run(args).fails(2);
            assert!(
                error.starts_with(&format!("error: {to}: already exists\nhint: choose a new "))
            );
        }
    }
    assert_eq!(fs::read_to_string(&taken).unwrap(), "mine");
    assert_eq!(fs::read_dir(&full).unwrap().count(), 1);
}

#[test]
fn convert_requires_the_model_for_some_formats_and_checks_it() {
    let program = Program::new();
    let (from, to) = (golden("llama-gqa-tied/adapter"), program.path("x.pth"));
    let error = program.run(&["convert", &from, &to]).fails(1);
    assert_eq!(
        error,
        "error: original needs the model's number of layers and heads, which the adapter file does \
         not contain\nhint: pass the base model with --model\n"
    );
    let error = program.run(&["convert", &file("lit-llama-v2.pth"), &to]).fails(1);
    assert!(error.starts_with("error: reading Adapter V2 needs the model's heads"), "{error}");
    // Another width.
    let model = golden("../../crates/built-in/assets/tiny-llama");
    let error = program.run(&["convert", &from, &to, "--model", &model]).fails(1);
    assert!(error.contains("does not fit\n  "), "{error}");
    assert!(error.ends_with("and that it was made for this model\n"), "{error}");
    let error = program.run(&["convert", &program.path("nothing"), &to]).fails(1);
    assert!(error.contains("there is no such file or folder\nhint: give the folder"), "{error}");
    let error = program.run(&["convert", &from, &to, "--format", "zip"]).fails(2);
    assert!(
        error.contains("expected llama-adapter, peft, peft-bin, original, lit-llama or litgpt")
    );
    assert!(!Path::new(&to).exists());
}

/// Two adapters of `gguf/tiny-llama.gguf` in different formats, and their mix.
fn mixed(program: &Program) -> [String; 3] {
    let (one, two) = (golden("llama-gqa-tied/adapter"), file("peft-bin"));
    let mix = program.path("adapters/mix");
    let parts = [format!("0.5*one={one}"), format!("-0.25*two={two}")];
    let outcome = program.run(&["mix", "--output", &mix, &parts[0], &parts[1]]);
    assert_eq!(outcome.stderr, format!("0.5 * one + -0.25 * two saved in {mix}\n"));
    assert_eq!(outcome.ok(), "");
    [one, two, mix]
}

#[test]
fn a_mix_is_used_and_inspected_like_an_adapter() {
    let program = Program::new();
    let [one, two, mix] = mixed(&program);
    let model = base("llama-gqa-tied");
    let logits = |more: &[&str]| program.logits(&model, more);
    let found = logits(&["--adapter", &mix]);
    let plain = logits(&[]);
    assert_ne!(found, plain);
    // With weights 1 and 0 a mix is the first adapter, with 0 and 0 the base model.
    for (weight, expected) in [("1", logits(&["--adapter", &two])), ("0", plain)] {
        let single = program.path(&format!("alone {weight}"));
        let parts = [format!("{weight}*a={two}"), format!("0*b={one}")];
        program.run(&["mix", "--output", &single, &parts[0], &parts[1]]).ok();
        same(weight, &logits(&["--adapter", &single]), &expected);
    }

    let gguf = golden("gguf/tiny-llama.gguf");
    let answer = |more: &[&str]| {
        let args = ["generate", "-p", "ab", "--raw", "--model", &gguf, "--json"];
        program.run(&[&args[..], &["--max-new-tokens", "9"], more].concat()).json()["tokens"]
            .clone()
    };
    assert_ne!(answer(&["--adapter", &mix]), answer(&[]));

    let report = program.run(&["inspect", "--json", &mix]).json();
    assert_eq!(report["kind"], "mix");
    let parts = report["parts"].as_array().unwrap();
    assert_eq!(parts.iter().map(|part| &part["weight"]).collect::<Vec<_>>(), [0.5, -0.25]);
    let text = program.run(&["inspect", &mix]).ok();
    assert!(text.starts_with(&format!("mix         {mix} of 2 adapters\n\nweight      0.5\n")));
    let error = program.run(&["convert", &mix, &program.path("x")]).fails(1);
    assert!(
        error.contains("this is a mix of several adapters, not a single one\nhint: "),
        "{error}"
    );
}

#[test]
fn an_invalid_mix_is_refused_and_nothing_is_written() {
    let program = Program::new();
    let (one, output) = (golden("llama-gqa-tied/adapter"), program.path("mix"));
    let mix = |parts: &[&str]| program.run(&[&["mix", "--output", &output], parts].concat());
    assert!(mix(&[&one, &one]).fails(1).contains("an adapter called `adapter` is already loaded"));
    assert!(mix(&["x*a=b"]).fails(2).contains("invalid weight `x`"));
    let wide = format!("wide={}", golden("smollm2/adapter"));
    let error = mix(&[&one, &wide]).fails(2);
    assert!(error.contains("adapter has d_model 32, wide has d_model 576"), "{error}");
    let error = mix(&[&one, &file("lit-llama-v2.pth")]).fails(2);
    assert!(error.contains("reading Adapter V2 needs"), "{error}");
    assert!(
        error.contains("hint: convert it first: `llama-adapter convert FROM TO --model MODEL`"),
        "{error}"
    );
    // Different base models with the same shapes.
    let [a, b] = ["llama-gqa-tied", "llama-rope3"].map(|case| {
        let to = program.path(case);
        program.convert(&golden(&format!("{case}/adapter")), &to, &["--model", &base(case)]);
        to
    });
    let error = mix(&[&a, &b]).fails(2);
    assert!(
        error.contains("llama-gqa-tied and llama-rope3 have different base models\n  "),
        "{error}"
    );
    assert!(!Path::new(&output).exists());
    mix(&["--force", &a, &b]).ok();
}

#[test]
fn list_shows_the_adapters_of_a_folder() {
    let program = Program::new();
    let [_, _, mix] = mixed(&program);
    let folder = program.path("adapters");
    program.convert(
        &file("lit-llama.pth"),
        &program.path("adapters/x.pth.adapter"),
        &["--model", &base("llama-mha")],
    );
    fs::copy(file("litgpt-v2.pth.adapter_v2"), program.path("adapters/v2.pth.adapter_v2")).unwrap();
    fs::write(program.path("adapters/notes.txt"), "no adapter").unwrap();
    let broken = program.path("adapters/broken");
    fs::create_dir(&broken).unwrap();
    fs::write(Path::new(&broken).join("adapter_config.json"), "{").unwrap();
    let outcome = program.run(&["list", &folder]);
    assert!(outcome.stderr.starts_with(&format!("skipped: {broken}")), "{}", outcome.stderr);
    let text = outcome.ok().replace(&folder, "adapters");
    // The width of the first column depends on the path of the test's folder.
    let columns = |line: &str| {
        let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        cells.collect::<Vec<_>>().join(" | ")
    };
    let text = text.lines().map(columns).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(text, @r"
    adapter | method | layers | parameters | base model
    adapters/mix | 0.5*one + -0.25*two | - | 644 | llama-gqa-tied
    adapters/v2.pth.adapter_v2 | 5 prompts + V2 on 22 linears | 2 (1 to 2) | 2536 | unknown
    adapters/x.pth.adapter | 5 prompts | 2 (1 to 2) | 328 | unknown
    ");
    let lines = program.run(&["list", "--json", &mix, &file("original.pth")]).ok();
    let rows = lines.lines().map(|line| serde_json::from_str(line).unwrap());
    let rows = rows.collect::<Vec<Value>>();
    assert_eq!(rows[0]["parts"], json!(["0.5*one", "-0.25*two"]));
    assert_eq!((&rows[1]["format"], &rows[1]["parameters"]), (&json!("original"), &json!(328)));

    let error = program.run(&["list", &program.path("nowhere")]).fails(2);
    assert!(error.contains("no such file or folder\nhint: `list` takes"), "{error}");
    let empty = program.path("empty");
    fs::create_dir(&empty).unwrap();
    assert_eq!(program.run(&["list", &empty]).stderr, format!("no adapters in {empty}\n"));
}

#[test]
fn one_batch_mixes_an_adapter_and_the_base_model() {
    let program = Program::new();
    let (model, adapter) = (golden("gguf/tiny-llama.gguf"), golden("llama-gqa-tied/adapter"));
    let named = format!("a={adapter}");
    let args = ["generate", "--raw", "--model", &model, "--max-new-tokens", "9", "--json"];
    let tokens = |more: &[&str]| {
        let lines = program.run(&[&args[..], more].concat()).ok();
        let rows = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.map(|row| row["tokens"].clone()).collect::<Vec<_>>()
    };
    let two = ["-p", "ab", "-p", "abc", "--adapter", &named];
    let found = tokens(&[&two[..], &["--use", "a,none"]].concat());
    let alone = tokens(&["-p", "ab", "--adapter", &named]);
    let plain = tokens(&["-p", "abc"]);
    assert_eq!(found, [&alone[..], &plain].concat());
    assert_ne!(found, tokens(&two));
    assert_eq!(
        tokens(&[&two[..], &["--use", "none"]].concat()),
        tokens(&["-p", "ab", "-p", "abc"])
    );

    let fails =
        |code, names: &str| program.run(&[&args[..], &two, &["--use", names]].concat()).fails(code);
    assert!(fails(2, "a,none,a").contains("got 3 adapter names in --use for 2 prompts\nhint: "));
    let error = fails(1, "b");
    assert!(error.contains("no adapter is called `b`; there is `a`"), "{error}");
}

#[test]
fn an_adapter_of_another_base_needs_force() {
    let program = Program::new();
    let to = program.path("ours");
    let model = base("llama-gqa-tied");
    program.convert(&golden("llama-gqa-tied/adapter"), &to, &["--model", &model]);
    let unforced = program.logits(&model, &["--adapter", &to]);
    // The same shapes, other weights.
    let other = base("llama-rope3");
    fs::remove_file(program.logits_file()).unwrap();
    let error = program.run_logits(&other, &json!([[1, 2]]), &["--adapter", &to]).fails(1);
    assert!(
        error.contains("the adapter was made for another model (llama-gqa-tied)\n  "),
        "{error}"
    );
    assert!(error.contains("or --force to skip this check"), "{error}");
    assert!(!Path::new(&program.logits_file()).exists());
    let forced = program.logits(&other, &["--adapter", &to, "--force"]);
    assert_ne!(forced, unforced);
    assert_ne!(forced, program.logits(&other, &[]));
    // --force does not skip the check of the shapes.
    let args = ["generate", "-p", "a", "--adapter", &to, "--force"];
    assert!(program.run(&args).fails(1).contains("does not match the base model"));
}
