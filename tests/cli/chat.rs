//! `chat` over a pipe: one line, one turn.

use crate::program::{Program, chat_model, golden};

#[test]
fn each_line_is_a_turn_until_quit() {
    let program = Program::new();
    let model = golden("gguf/tiny-llama.gguf");
    let words = ["chat", "--wording", "raw", "--model", &model, "--max-new-tokens", "5"];
    let one = program.run_with_input(&words, "ab\n").ok();
    assert!(one.ends_with('\n') && one.len() > 1, "{one:?}");
    let two = program.run_with_input(&words, "ab\n\n  ab \n/quit\nab\n").ok();
    assert_eq!(two, one.repeat(2), "an empty line is no turn, and nothing follows /quit");
}

#[test]
fn commands_answer_on_stderr() {
    let program = Program::new();
    let help = program.run_with_input(&["chat", "--max-new-tokens", "1"], "/help\n/fly\n");
    assert!(help.stderr.contains("/reset"), "{}", help.stderr);
    assert!(help.stderr.contains("no command `/fly`"), "{}", help.stderr);
    assert_eq!(help.ok(), "");
}

#[test]
fn the_oldest_turns_make_room_and_that_is_said() {
    let program = Program::new();
    let model = chat_model(program.folder(), 128);
    let words = ["chat", "--model", &model, "--max-new-tokens", "4"];
    let line = "This is a rather long line, so that a few of them are too many.\n";
    let outcome = program.run_with_input(&words, line.repeat(12));
    let note = "dropped: the model reads 128 tokens at most)";
    assert!(outcome.stderr.contains(note), "{}", outcome.stderr);
    assert!(outcome.ok().lines().count() >= 12);
}

#[test]
fn a_turn_that_can_never_fit_is_reported_and_the_next_one_answered() {
    let program = Program::new();
    let model = golden("gguf/tiny-llama.gguf");
    let words = ["chat", "--wording", "raw", "--model", &model, "--max-new-tokens", "5"];
    let good = program.run_with_input(&words, "ab\n").ok();
    let long = "A line of words. ".repeat(40);
    let outcome = program.run_with_input(&words, format!("{long}\nab\n"));
    assert_eq!((outcome.code, outcome.stdout), (Some(1), good));
    let error = outcome.stderr;
    assert!(error.starts_with("error: line 1\n  because: "), "{error}");
    assert!(error.contains("the model's context has room for 64"), "{error}");
    assert!(error.contains("\nhint: shorten the prompt"), "{error}");
    assert!(error.ends_with("\nerror: 1 of 2 lines failed\n"), "{error}");
}

#[test]
fn a_line_that_is_no_text_is_reported_and_the_next_one_answered() {
    let program = Program::new();
    let model = golden("gguf/tiny-llama.gguf");
    let words = ["chat", "--wording", "raw", "--model", &model, "--max-new-tokens", "5"];
    let good = program.run_with_input(&words, "ab\n").ok();
    let outcome = program.run_with_input(&words, b"ab\na\xffb\nab\n");
    assert_eq!((outcome.code, outcome.stdout), (Some(1), good.repeat(2)));
    let told = "error: line 2\n  because: not valid UTF-8: invalid utf-8 sequence of 1 bytes from index 1\n";
    assert!(outcome.stderr.starts_with(told), "{}", outcome.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_stdout_ends_a_chat_at_once() {
    let model = golden("gguf/tiny-llama.gguf");
    let words = ["chat", "--wording", "raw", "--model", &model, "--max-new-tokens", "1"];
    let mut command = Program::new().command(&words);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    command.stdin(std::process::Stdio::piped()).stdout(full);
    let error = crate::program::finish(command, "ab\nab\n").fails(1);
    let told = "error: cannot write to standard output\n  because: ";
    assert!(error.starts_with(told) && error.matches("error:").count() == 1, "{error}");
}

#[test]
fn a_system_text_is_refused_in_words_where_it_has_no_place() {
    let program = Program::new();
    let model = chat_model(program.folder(), 64);
    let chat = |wording| {
        let words = ["chat", "--model", &model, "--wording", wording, "--system", "Be brief."];
        program.run_with_input(&words, "")
    };
    assert_eq!(chat("chat").stderr, "(system text set; starting anew)\n");
    let error = chat("alpaca").fails(2);
    assert!(error.starts_with("error: --system needs a chat template"), "{error}");
    let words = ["chat", "--model", &model, "--wording", "raw"];
    let outcome = program.run_with_input(&words, "/system Be brief.\n");
    assert!(outcome.stderr.contains("it will not be seen"), "{}", outcome.stderr);
}

#[test]
fn a_model_without_a_template_cannot_use_one() {
    let program = Program::new();
    let model = chat_model(program.folder(), 64);
    for name in ["chat_template.jinja", "tokenizer_config.json"] {
        std::fs::remove_file(std::path::Path::new(&model).join(name)).unwrap();
    }
    let words = ["chat", "--wording", "chat", "--model", &model];
    let error = program.run_with_input(&words, "hello\n").fails(1);
    assert!(error.contains("this is not a chat model"), "{error}");
}
