//! Runs the program as a user does, with its own cache and home folder.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The result of a run of the program.
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The program with a temporary home folder.
pub struct Program {
    home: TempDir,
}

impl Program {
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a temporary folder") }
    }

    /// The folder for the files of the test.
    pub fn folder(&self) -> &Path {
        self.home.path()
    }

    /// The path of a file of the test.
    pub fn path(&self, name: &str) -> String {
        self.folder().join(name).to_str().expect("a UTF-8 path").to_owned()
    }

    pub fn cache(&self) -> PathBuf {
        self.home.path().join("cache")
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llama-adapter"));
        command
            .args(args)
            .env("LLAMA_ADAPTER_CACHE", self.cache())
            .env("HF_HOME", self.home.path().join("hub"))
            // Nothing listens there: no test may use the network.
            .env("HF_ENDPOINT", "http://127.0.0.1:9")
            .env("COLUMNS", "100")
            // Without it graphics drivers write warnings to stderr.
            .env("XDG_RUNTIME_DIR", self.home.path())
            .env_remove("HF_TOKEN")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The subcommands that the help lists.
    pub fn subcommands(&self) -> Vec<String> {
        let help = self.run(&["--help"]).ok();
        let (_, list) = help.split_once("\nCommands:\n").expect("a list of commands");
        let (list, _) = list.split_once("\n\n").expect("the end of the list");
        // The further lines of a description are indented more.
        let lines = list.lines().filter_map(|line| line.strip_prefix("  "));
        let lines = lines.filter(|line| !line.starts_with(' '));
        let names = lines.filter_map(|line| Some(line.split_once(' ')?.0));
        names.filter(|name| *name != "help").map(str::to_owned).collect()
    }

    pub fn run(&self, args: &[&str]) -> Outcome {
        run_to_end(self.command(args), "")
    }

    /// As [`run`](Self::run), with bytes on stdin.
    pub fn run_with_input(&self, args: &[&str], input: impl AsRef<[u8]>) -> Outcome {
        let mut command = self.command(args);
        command.stdin(Stdio::piped());
        run_to_end(command, input)
    }

    /// Runs `logits` on rows of token ids.
    pub fn run_logits(&self, model: &str, ids: &Value, more: &[&str]) -> Outcome {
        let (file, out) = (self.path("ids.json"), self.logits_file());
        std::fs::write(&file, ids.to_string()).expect("written");
        let args = ["logits", "--ids", &file, "--out", &out, "--model", model];
        self.run(&[&args[..], more].concat())
    }

    /// The file that [`run_logits`](Self::run_logits) writes.
    pub fn logits_file(&self) -> String {
        self.path("logits.safetensors")
    }

    /// Shape and values that [`run_logits`](Self::run_logits) has written.
    pub fn read_logits(&self) -> (Vec<usize>, Vec<f32>) {
        let bytes = std::fs::read(self.logits_file()).expect("logits");
        let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        assert_eq!(tensors.names(), ["logits"]);
        let view = tensors.tensor("logits").expect("a tensor");
        assert_eq!(view.dtype(), safetensors::Dtype::F32);
        let (values, _rest) = view.data().as_chunks::<4>();
        let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes));
        (view.shape().to_vec(), values.collect())
    }

    /// Copies a model folder to `model` in the test's folder. `changes` are settings by JSON file.
    pub fn copy_model(&self, from: &Path, changes: &[(&str, Value)]) -> PathBuf {
        let to = self.folder().join("model");
        std::fs::create_dir(&to).expect("a new folder");
        for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
        {
            if from.join(name).exists() {
                std::fs::copy(from.join(name), to.join(name)).expect("copied");
            }
        }
        for (name, settings) in changes {
            change_settings(&to.join(name), settings);
        }
        to
    }

    /// A copy of the built-in model with a chat template and a context of `max_positions`.
    pub fn chat_model(&self, max_positions: usize) -> String {
        let changes = [("config.json", json!({"max_position_embeddings": max_positions}))];
        let model = self.copy_model(&tiny_llama(), &changes);
        let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
        std::fs::write(model.join("chat_template.jinja"), template).expect("written");
        model.to_str().expect("a UTF-8 path").to_owned()
    }
}

/// Runs a command to its end.
pub fn run_to_end(mut command: Command, input: impl AsRef<[u8]>) -> Outcome {
    let mut child = command.spawn().expect("the program starts");
    if let Some(mut stdin) = child.stdin.take() {
        // The program may end before it has read everything.
        let _ = stdin.write_all(input.as_ref());
    }
    let output = child.wait_with_output().expect("the program ends");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}

/// Sets keys of a JSON file, which is created if it does not exist.
pub fn change_settings(path: &Path, settings: &Value) {
    let text = std::fs::read_to_string(path).unwrap_or_else(|_| "{}".into());
    let mut file: Value = serde_json::from_str(&text).expect("JSON");
    for (key, value) in settings.as_object().expect("an object") {
        file[key] = value.clone();
    }
    std::fs::write(path, file.to_string()).expect("written");
}

impl Outcome {
    /// Expects success and returns stdout.
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

    /// Expects an exit code, an empty stdout and an error message, and returns the message.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "stderr: {}", self.stderr);
        assert_eq!(self.stdout, "", "errors go to stderr");
        let at = self.stderr.find("error: ").unwrap_or_else(|| panic!("{}", self.stderr));
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self.stderr[at..].to_owned()
    }
}

/// The keys of a JSON object, in order.
pub fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// The path of a golden file or folder.
pub fn golden(name: &str) -> String {
    testing::golden_folder().join(name).to_str().expect("a UTF-8 path").to_owned()
}

/// The folder of the built-in model.
pub fn tiny_llama() -> PathBuf {
    testing::golden_folder().join("../../crates/built-in/assets/tiny-llama")
}
