//! Completion scripts and man pages.

use crate::program::Program;

#[test]
fn each_shell_has_a_script_that_knows_the_commands() {
    let program = Program::new();
    let subcommands = program.subcommands();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = program.run(&["completions", shell]).ok();
        for word in subcommands.iter().map(String::as_str).chain(["max-new-tokens"]) {
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
    assert!(program.run(&["completions", "tcsh"]).fails(2).contains("possible values"));
}

#[test]
fn every_command_has_a_machine_independent_man_page() {
    let program = Program::new();
    let folder = program.folder().join("man/man1");
    program.run(&["man", folder.to_str().unwrap()]).ok();
    let page = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
    let root = page("llama-adapter.1");
    // As `--version` would.
    assert!(!root.contains("backends") && !root.contains("commit"), "{root}");
    for subcommand in program.subcommands() {
        assert!(root.contains(&format!("llama\\-adapter\\-{subcommand}(1)")), "{subcommand}");
        assert!(
            page(&format!("llama-adapter-{subcommand}.1")).contains(".SH OPTIONS"),
            "{subcommand}"
        );
    }
    // What is hidden from the help is hidden here.
    assert!(!folder.join("llama-adapter-man.1").exists());
}
