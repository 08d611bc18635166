//! What packages of the program bring beside it: completion scripts and man pages.

use crate::program::Program;

#[test]
fn each_shell_has_a_script_that_knows_the_commands() {
    let program = Program::new();
    let verbs = program.verbs();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = program.run(&["completions", shell]).ok();
        for word in verbs.iter().map(String::as_str).chain(["max-new-tokens"]) {
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
    assert!(program.run(&["completions", "tcsh"]).fails(2).contains("possible values"));
}

#[test]
fn every_command_has_a_man_page_that_tells_nothing_of_this_machine() {
    let program = Program::new();
    let folder = program.folder().join("man/man1");
    program.run(&["man", folder.to_str().unwrap()]).ok();
    let page = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
    let root = page("llama-adapter.1");
    // As `--version` would.
    assert!(!root.contains("processor") && !root.contains("commit"), "{root}");
    for verb in program.verbs() {
        assert!(root.contains(&format!("llama\\-adapter\\-{verb}(1)")), "{verb}");
        assert!(page(&format!("llama-adapter-{verb}.1")).contains(".SH OPTIONS"), "{verb}");
    }
    // What is hidden from the help is hidden here.
    assert!(!folder.join("llama-adapter-man.1").exists());
}
