//! `chat` over a pipe: one line, one turn.

use crate::program::{Program, golden};

#[test]
fn each_line_is_a_turn_until_quit() {
    let program = Program::new();
    let model = golden("gguf/tiny-llama.gguf");
    let args = ["chat", "--prompt-template", "raw", "--model", &model, "--max-new-tokens", "5"];
    let one = program.run_with_input(&args, "ab\n").ok();
    assert!(one.ends_with('\n') && one.len() > 1, "{one:?}");
    let two = program.run_with_input(&args, "ab\n\n  ab \n/quit\nab\n").ok();
    assert_eq!(two, one.repeat(2), "an empty line is no turn, and nothing follows /quit");
}

#[test]
fn commands_print_to_stderr() {
    let program = Program::new();
    let help = program.run_with_input(&["chat", "--max-new-tokens", "1"], "/help\n/fly\n");
    assert!(help.stderr.contains("/reset"), "{}", help.stderr);
    assert!(help.stderr.contains("unknown command `/fly`"), "{}", help.stderr);
    assert_eq!(help.ok(), "");
}

#[test]
fn the_oldest_turns_are_dropped_with_a_note() {
    let program = Program::new();
    let model = program.chat_model(128);
    let args = ["chat", "--model", &model, "--max-new-tokens", "4"];
    let line = "This is a rather long line, so that a few of them are too many.\n";
    let outcome = program.run_with_input(&args, line.repeat(12));
    assert!(outcome.stderr.contains("(dropped the oldest "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(": the context is 128 tokens)"), "{}", outcome.stderr);
    assert!(outcome.ok().lines().count() >= 12);
}

#[test]
fn a_turn_that_is_too_long_is_reported_and_the_next_one_answered() {
    let program = Program::new();
    let model = golden("gguf/tiny-llama.gguf");
    let args = ["chat", "--prompt-template", "raw", "--model", &model, "--max-new-tokens", "5"];
    let good = program.run_with_input(&args, "ab\n").ok();
    let long = "A line of words. ".repeat(40);
    let outcome = program.run_with_input(&args, format!("{long}\nab\n"));
    assert_eq!((outcome.code, outcome.stdout), (Some(1), good));
    let error = outcome.stderr;
    assert!(error.starts_with("error: line 1\n  caused by: "), "{error}");
    assert!(error.contains("the model's context has room for 64"), "{error}");
    assert!(error.contains("\nhint: shorten the prompt"), "{error}");
    assert!(error.ends_with("\nerror: 1 of 2 lines failed\n"), "{error}");
}

#[test]
fn a_line_of_invalid_utf_8_is_reported_and_the_next_one_answered() {
    let program = Program::new();
    let model = golden("gguf/tiny-llama.gguf");
    let args = ["chat", "--prompt-template", "raw", "--model", &model, "--max-new-tokens", "5"];
    let good = program.run_with_input(&args, "ab\n").ok();
    let outcome = program.run_with_input(&args, b"ab\na\xffb\nab\n");
    assert_eq!((outcome.code, outcome.stdout), (Some(1), good.repeat(2)));
    let expected = "error: line 2\n  caused by: not valid UTF-8: invalid utf-8 sequence of 1 bytes from index 1\n";
    assert!(outcome.stderr.starts_with(expected), "{}", outcome.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_on_stdout_ends_a_chat() {
    let model = golden("gguf/tiny-llama.gguf");
    let args = ["chat", "--prompt-template", "raw", "--model", &model, "--max-new-tokens", "1"];
    let mut command = Program::new().command(&args);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    command.stdin(std::process::Stdio::piped()).stdout(full);
    let error = crate::program::run_to_end(command, "ab\nab\n").fails(1);
    let expected = "error: cannot write to standard output\n  caused by: ";
    assert!(error.starts_with(expected) && error.matches("error:").count() == 1, "{error}");
}

#[test]
fn a_system_prompt_needs_a_chat_template() {
    let program = Program::new();
    let model = program.chat_model(64);
    let chat = |template| {
        let args = [
            "chat",
            "--model",
            &model,
            "--prompt-template",
            template,
            "--system-prompt",
            "Be brief.",
        ];
        program.run_with_input(&args, "")
    };
    assert_eq!(chat("chat").stderr, "(system prompt set; conversation cleared)\n");
    let error = chat("alpaca").fails(2);
    assert!(error.starts_with("error: --system-prompt requires a chat template"), "{error}");
    let args = ["chat", "--model", &model, "--prompt-template", "raw"];
    let outcome = program.run_with_input(&args, "/system Be brief.\n");
    assert!(
        outcome.stderr.contains("(ignored: a system prompt needs a chat template)"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_model_without_a_template_cannot_use_one() {
    let program = Program::new();
    let model = program.chat_model(64);
    for name in ["chat_template.jinja", "tokenizer_config.json"] {
        std::fs::remove_file(std::path::Path::new(&model).join(name)).unwrap();
    }
    let args = ["chat", "--prompt-template", "chat", "--model", &model];
    let error = program.run_with_input(&args, "hello\n").fails(1);
    assert!(error.contains("this is not a chat model"), "{error}");
}
