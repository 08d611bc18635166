//! Runs the program as a user would, with a cache and a home of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// How a run of the program ended.
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The program, in surroundings that disappear with it.
pub struct Program {
    home: TempDir,
}

impl Program {
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A folder for files of the test.
    pub fn folder(&self) -> &Path {
        self.home.path()
    }

    pub fn cache(&self) -> PathBuf {
        self.home.path().join("cache")
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llama-adapter"));
        command
            .args(words)
            .env("LLAMA_ADAPTER_CACHE", self.cache())
            .env("HF_HOME", self.home.path().join("hub"))
            // Nobody listens there: no test may reach the network.
            .env("HF_ENDPOINT", "http://127.0.0.1:9")
            .env("COLUMNS", "100")
            // Graphics drivers complain on stderr where there is none.
            .env("XDG_RUNTIME_DIR", self.home.path())
            .env_remove("HF_TOKEN")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The commands that the help lists.
    pub fn verbs(&self) -> Vec<String> {
        let help = self.run(&["--help"]).ok();
        let (_, verbs) = help.split_once("\nCommands:\n").expect("a list of commands");
        let (verbs, _) = verbs.split_once("\n\n").expect("an end of it");
        // Those of several lines go on further to the right.
        let verbs = verbs.lines().filter_map(|line| line.strip_prefix("  "));
        let verbs = verbs.filter(|line| !line.starts_with(' '));
        let verbs = verbs.filter_map(|line| line.split_once(' ')).map(|(verb, _about)| verb);
        verbs.filter(|verb| *verb != "help").map(str::to_owned).collect()
    }

    pub fn run(&self, words: &[&str]) -> Outcome {
        finish(self.command(words), "")
    }

    /// As [`run`](Self::run), with bytes on stdin.
    pub fn run_with_input(&self, words: &[&str], input: impl AsRef<[u8]>) -> Outcome {
        let mut command = self.command(words);
        command.stdin(Stdio::piped());
        finish(command, input)
    }
}

/// Runs a command to its end.
pub fn finish(mut command: Command, input: impl AsRef<[u8]>) -> Outcome {
    let mut child = command.spawn().expect("the program starts");
    if let Some(mut stdin) = child.stdin.take() {
        // The program may end without reading all of it.
        let _ = stdin.write_all(input.as_ref());
    }
    let output = child.wait_with_output().expect("the program ends");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}

impl Outcome {
    /// Expects success and gives stdout.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "stderr: {}", self.stderr);
        self.stdout
    }

    /// Expects success and one line of JSON.
    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.ok();
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).expect("stdout is JSON")
    }

    /// Expects an exit code with an error of the agreed form, and gives it.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "stderr: {}", self.stderr);
        assert_eq!(self.stdout, "", "nothing belongs on stdout");
        let at = self.stderr.find("error: ").unwrap_or_else(|| panic!("{}", self.stderr));
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self.stderr[at..].to_owned()
    }
}

/// The keys of a JSON object, in order.
pub fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// A file or folder of the golden files, as text.
pub fn golden(name: &str) -> String {
    testing::golden_folder().join(name).to_str().expect("a UTF-8 path").to_owned()
}

/// A folder with the built-in model, a chat template, and a context of `max_positions`.
pub fn chat_model(folder: &Path, max_positions: usize) -> String {
    let assets = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
    let model = folder.join("chat-model");
    std::fs::create_dir(&model).expect("a new folder");
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(assets.join(name), model.join(name)).expect("the built-in model's files");
    }
    let config = std::fs::read_to_string(model.join("config.json")).expect("a config");
    let mut config: Value = serde_json::from_str(&config).expect("JSON");
    config["max_position_embeddings"] = max_positions.into();
    std::fs::write(model.join("config.json"), config.to_string()).expect("written");
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    std::fs::write(model.join("chat_template.jinja"), template).expect("written");
    model.to_str().expect("a UTF-8 path").to_owned()
}
