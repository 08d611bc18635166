//! `report`, `compare`, and what a training run leaves to look at.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::program::{Program, keys};
use crate::training::{log, short_train_args, write_eval_rows};

/// Writes the folder of a run with some steps and gates, and returns its path.
fn write_run(program: &Program, name: &str, learning_rate: f64, end: f64) -> String {
    let folder = program.folder().join(name);
    std::fs::create_dir(&folder).unwrap();
    let mut lines = vec![
        json!({"event": "start", "step": 0, "total_steps": 4, "steps_per_epoch": 2,
            "trainable_parameters": 322, "train": {"complete": 8}, "eval": {"complete": 2}}),
        json!({"event": "eval", "step": 0, "loss": 4.0, "exact_match": 0.0}),
    ];
    for step in 1..=4 {
        let loss = 4.0 + (end - 4.0) * f64::from(step) / 4.0;
        lines.push(
            json!({"event": "step", "step": step, "loss": loss, "learning_rate": learning_rate,
            "gradient_norm": 0.5, "labels": 20, "slots": 90, "seconds": 0.5, "memory": 3 << 20}),
        );
        let gates = [0.1 * f64::from(step), -0.05 * f64::from(step)];
        let layers = json!([{"layer": 2, "gates": gates}]);
        lines.push(json!({"event": "gates", "step": step, "layers": layers}));
    }
    lines.push(json!({"event": "eval", "step": 4, "loss": end, "exact_match": 0.5}));
    let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    std::fs::write(folder.join("metrics.jsonl"), text).unwrap();
    let settings = json!({"model": "tiny", "learning_rate": learning_rate, "seed": 0});
    std::fs::write(folder.join("run.json"), settings.to_string()).unwrap();
    folder.to_str().unwrap().to_owned()
}

fn svg_names(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder.join("plots")).unwrap();
    let mut names =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
    names.sort();
    names
}

#[test]
fn a_report_is_written_for_any_run_and_its_path_printed() {
    let program = Program::new();
    let run = write_run(&program, "run", 0.01, 1.0);
    let printed = program.run(&["report", &run]).ok();
    let page = PathBuf::from(printed.trim_end());
    assert_eq!(page, Path::new(&run).join("report.html"));
    let text = std::fs::read_to_string(page).unwrap();
    assert!(text.contains("finished, 4 steps") && text.contains("Gates by head over time"));
    let expected = [
        "gates-at-the-end.svg",
        "gates-by-layer.svg",
        "gates-over-time.svg",
        "gradient-norm.svg",
        "learning-rate.svg",
        "loss.svg",
        "memory.svg",
        "throughput.svg",
    ];
    assert_eq!(svg_names(run.as_ref()), expected);
}

#[test]
fn a_folder_that_is_no_run_is_an_error() {
    let program = Program::new();
    for command in ["report", "compare"] {
        let error = program.run(&[command, program.folder().to_str().unwrap()]).fails(1);
        assert!(error.contains("not the folder of a run: it has no metrics.jsonl"), "{error}");
        assert!(error.contains("hint: pass the output folder of a training run"), "{error}");
    }
}

#[test]
fn runs_are_compared_in_a_table() {
    let program = Program::new();
    let runs = [("slow", 0.01, 2.0), ("fast", 0.02, 1.0)];
    let [slow, fast] = runs.map(|(name, rate, end)| write_run(&program, name, rate, end));
    let text = program.run(&["compare", &slow, &fast]).ok();
    let (tables, curves) = text.split_once("\nHeld-out loss\n").expect("curves after the tables");
    insta::assert_snapshot!(tables, @r"
                              slow      fast
    model                     tiny      tiny
    steps                        4         4
    training loss                2         1
    held-out loss before         4         4
    held-out loss                2         1
    best held-out loss           2         1
    exact match             50.0 %    50.0 %
    mean absolute gate         0.3       0.3
    label tokens/s              40        40
    time of steps            2.0 s     2.0 s
    peak memory           3.00 MiB  3.00 MiB
    trainable parameters       322       322

    settings that differ
      learning_rate  0.01  0.02
    ");
    assert!(
        curves.contains("━ fast 1\n") && curves.contains("\nHow far the gates opened\n"),
        "{curves}"
    );
    assert!(!text.contains('\u{1b}'), "no colors in a pipe");
}

#[test]
fn a_comparison_is_json_and_a_page() {
    let program = Program::new();
    let runs = ["a", "b"].map(|name| write_run(&program, name, 0.01, 1.0));
    let page = program.path("compare.html");
    let found = program.run(&["compare", &runs[0], &runs[1], "--json", "--html", &page]).json();
    assert_eq!(keys(&found), ["runs", "differences"]);
    let expected = [
        "run",
        "folder",
        "model",
        "steps",
        "total_steps",
        "train_loss",
        "eval_loss_before",
        "eval_loss",
        "best_eval_loss",
        "exact_match",
        "mean_gate",
        "label_tokens_per_second",
        "train_seconds",
        "peak_memory",
        "trainable_parameters",
    ];
    assert_eq!(keys(&found["runs"][0]), expected);
    assert_eq!(found["differences"], json!([]));
    assert!(std::fs::read_to_string(page).unwrap().contains("How far the gates opened"));
}

#[test]
fn training_logs_its_gates_and_ends_with_a_report() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let output = program.folder().join("run");
    let name = output.to_str().unwrap();
    let more = [&few, "--max-steps", "3", "--gate", "head", "--tensorboard", "--samples", "2"];
    program.run(&short_train_args(name, &more)).json();

    // The last gates in the log are those of the saved adapter.
    let log = log(&output);
    let gates = log.iter().filter(|entry| entry["event"] == "gates").collect::<Vec<_>>();
    assert_eq!(gates.iter().map(|entry| &entry["step"]).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let is_zero = |gates: &Value| gates.as_array().unwrap().iter().all(|gate| *gate == 0.0);
    let layers = |entry: &Value| entry["layers"].as_array().unwrap().clone();
    assert!(layers(gates[0]).iter().all(|own| is_zero(&own["gates"])));
    let saved = program.run(&["inspect", "--json", name]).json();
    for (own, saved) in layers(gates[3]).iter().zip(layers(&saved["prompts"])) {
        assert_eq!((&own["layer"], &own["gates"]), (&saved["layer"], &saved["gates"]));
        assert!(!is_zero(&own["gates"]));
    }

    let samples = std::fs::read_to_string(output.join("samples.json")).unwrap();
    let samples: Value = serde_json::from_str(&samples).unwrap();
    assert_eq!(samples.as_array().unwrap().len(), 2);
    assert_eq!(keys(&samples[0]), ["instruction", "input", "expected", "before", "after"]);
    let page = std::fs::read_to_string(output.join("report.html")).unwrap();
    assert!(page.contains("Answers before and after") && page.contains("finished, 3 steps"));
    let events = std::fs::read_dir(output.join("tensorboard")).unwrap();
    let bytes = events.map(|file| std::fs::read(file.unwrap().path()).unwrap()).next().unwrap();
    for tag in ["train/loss", "eval/perplexity", "gates/layer_02", "gates_by_head/layer_02"] {
        assert!(bytes.windows(tag.len()).any(|window| window == tag.as_bytes()), "{tag}");
    }
}

#[test]
fn a_run_without_gates_and_without_held_out_rows_has_a_report() {
    let program = Program::new();
    let output = program.folder().join("run");
    let name = output.to_str().unwrap();
    let args =
        ["--method", "lora", "--eval-fraction", "0", "--max-steps", "2", "--batch-size", "2"];
    program.run(&[&["train", "--quiet", "--output", name][..], &args].concat()).json();
    assert!(log(&output).iter().all(|entry| entry["event"] != "gates"));
    assert!(svg_names(&output).contains(&"loss.svg".to_owned()));
    // --quiet runs answer no samples.
    let page = std::fs::read_to_string(output.join("report.html")).unwrap();
    assert!(!page.contains("Answers before and after"));
}

#[test]
fn the_live_view_needs_a_terminal() {
    let program = Program::new();
    let output = program.path("run");
    let error = program.run(&["train", "--tui", "--output", &output]).fails(2);
    assert!(error.contains("--tui needs a terminal\nhint: without --tui, "), "{error}");
    assert!(!Path::new(&output).exists());
}
