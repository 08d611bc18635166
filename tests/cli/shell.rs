//! What packages of the program bring beside it: completion scripts and man pages.

use crate::program::Program;

#[test]
fn each_shell_has_a_script_that_knows_the_commands() {
    let program = Program::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = program.run(&["completions", shell]).ok();
        for word in ["llama-adapter", "train", "--max-new-tokens"] {
            assert!(script.contains(word.trim_start_matches("--")), "{shell} lacks {word}");
        }
        assert!(!script.contains("panicked"), "{shell}");
    }
    assert!(program.run(&["completions", "tcsh"]).fails(2).contains("possible values"));
}

#[test]
fn every_command_has_a_man_page() {
    let program = Program::new();
    let folder = program.folder().join("man/man1");
    program.run(&["man", folder.to_str().unwrap()]).ok();
    let page = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
    assert!(page("llama-adapter.1").contains("llama\\-adapter\\-train(1)"));
    assert!(page("llama-adapter-train.1").contains("\\-\\-adapter\\-len"));
    // What is hidden from the help is hidden here.
    assert!(!folder.join("llama-adapter-man.1").exists());
}
