//! The words that a newcomer reads first.

use crate::program::Program;

#[test]
fn every_verb_explains_itself() {
    let program = Program::new();
    let help = program.run(&["--help"]).ok();
    for verb in ["generate", "chat", "inspect", "fetch", "logits"] {
        assert!(help.contains(&format!("\n  {verb} ")), "{help}");
        let own = program.run(&[verb, "--help"]).ok();
        assert!(own.contains(&format!("Usage: llama-adapter {verb} ")), "{own}");
    }
}

#[test]
fn the_options_of_generate() {
    insta::assert_snapshot!(Program::new().run(&["generate", "-h"]).ok(), @"");
}
