//! `eval`: scores of responses with intervals, and task files of lm-evaluation-harness.

use serde_json::{Value, json};

use crate::program::{Program, golden};
use crate::training::write_eval_rows;

/// The built-in model's adapter.
fn adapter() -> String {
    golden("../../crates/built-in/assets/instructions-adapter")
}

/// The golden scores of a task, and those that the program prints.
fn task_scores(name: &str, device: &str) -> (Value, Value) {
    let scores = std::fs::read_to_string(golden("harness/scores.json")).expect("golden scores");
    let mut scores: Value = serde_json::from_str(&scores).expect("JSON");
    let file = golden(&format!("harness/{name}.yaml"));
    let args = ["eval", "--task", &file, "--json", "--device", device];
    (scores[name].take(), Program::new().run(&args).json())
}

#[test]
fn a_task_file_gives_the_log_likelihoods_and_scores_of_the_harness() {
    for (name, device) in
        [("trades", "flex"), ("examples", "flex"), ("delimiters", "flex"), ("trades", "ndarray")]
    {
        let (expected, found) = task_scores(name, device);
        assert_eq!(found["task"], name);
        let model = &found["models"][0];
        assert_eq!(model["name"], "base");
        let rows = expected["log_likelihoods"].as_array().unwrap();
        for (index, row) in rows.iter().enumerate() {
            let found = model["log_likelihoods"][index].as_array().unwrap();
            assert_eq!(found.len(), row.as_array().unwrap().len());
            for (found, expected) in found.iter().zip(row.as_array().unwrap()) {
                let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
                assert!((found - expected).abs() < 1e-4, "{name} {index}: {found}, {expected}");
            }
        }
        for (key, expected) in expected.as_object().unwrap() {
            if let Some(expected) = expected.as_f64() {
                let found = model[key].as_f64().unwrap();
                assert!((found - expected).abs() < 1e-9, "{name} {key}: {found}, {expected}");
            }
        }
    }
}

#[test]
fn a_context_that_is_too_long_loses_its_start_as_in_the_harness() {
    let (expected, found) = task_scores("long", "flex");
    for row in 0..3 {
        for choice in 0..2 {
            let of = |scores: &Value| scores["log_likelihoods"][row][choice].as_f64().unwrap();
            let (found, expected) = (of(&found["models"][0]), of(&expected));
            assert!((found - expected).abs() < 1e-4, "{row} {choice}: {found}, {expected}");
        }
    }
    assert_eq!(found["models"][0]["acc"], expected["acc"]);
}

#[test]
fn adapters_are_compared_on_a_task_file() {
    let program = Program::new();
    let adapter = format!("polite={}", adapter());
    let file = golden("harness/trades.yaml");
    let args = ["eval", "--task", &file, "--adapter", &adapter, "--max-rows", "6"];
    let found = program.run(&[&args[..], &["--json"]].concat()).json();
    assert_eq!((&found["rows"], &found["num_fewshot"]), (&json!(6), &json!(0)));
    let difference = &found["differences"][1];
    assert_eq!(
        (&difference["second"], &difference["metric"]),
        (&json!("polite"), &json!("acc_norm"))
    );
    let scores = |model: usize| found["models"][model]["acc_norm"].as_f64().unwrap();
    let mean = difference["mean"].as_f64().unwrap();
    assert!((mean - (scores(1) - scores(0))).abs() < 1e-9, "{found}");
    let table = program.run(&args).ok();
    assert!(table.starts_with("trades: 6 questions, 0 examples each; accuracy in %\n"), "{table}");
    assert!(table.contains("\npolite - base: acc_norm "), "{table}");
}

#[test]
fn a_task_file_is_refused_by_the_name_of_what_it_needs() {
    let program = Program::new();
    let file = program.path("task.yaml");
    let include = golden("harness/trades.yaml");
    let task = |more: &str| {
        std::fs::write(&file, format!("include: {include}\n{more}\n")).expect("written");
        program.run(&["eval", "--task", &file]).fails(1)
    };
    let error = task("process_docs: !function utils.process_docs");
    let expected = "`process_docs` is not supported: it is `!function utils.process_docs`\nhint: ";
    assert!(error.contains(expected), "{error}");
    let data = golden("harness/people.jsonl");
    let data = format!("dataset_kwargs: {{data_files: {{test: {data}}}}}");
    let error = task(&format!("{data}\ndoc_to_text: '{{{{missing}}}}'"));
    assert!(error.contains("`doc_to_text` of document 1: undefined value"), "{error}");

    let refused = program.run(&["eval", "--task", &include, "--data", &include]).fails(2);
    assert!(refused.contains("a task file names its own data"), "{refused}");
    let refused = program.run(&["eval", "--num-fewshot", "1"]).fails(2);
    assert!(refused.contains("--num-fewshot needs a task file"), "{refused}");
    let refused = program.run(&["eval", "--task", "hellaswag"]).fails(2);
    assert!(refused.contains("expected answers, multiple-choice, scienceqa"), "{refused}");
}

#[test]
fn responses_have_scores_with_intervals_and_paired_differences() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let [polite, b] = ["polite", "b"].map(|name| format!("{name}={}", adapter()));
    let args = ["eval", "--data", &few, "--adapter", &polite, "--adapter", &b];
    let found = program.run(&[&args[..], &["--json", "--resamples", "200"]].concat()).json();
    let metrics = ["loss", "exact_match", "rouge_l", "token_f1"];
    for metric in metrics {
        let mean = found["adapter"][metric].as_f64().unwrap();
        let interval = found["adapter"]["intervals"][metric].as_array().unwrap();
        let [low, high] = [0, 1].map(|side| interval[side].as_f64().unwrap());
        assert!(low <= mean && mean <= high, "{metric}: {low} {mean} {high}");
        let gain = found["differences"][0][metric]["mean"].as_f64().unwrap();
        assert!((gain - (mean - found["base"][metric].as_f64().unwrap())).abs() < 1e-9);
    }
    let pairs = found["differences"].as_array().unwrap();
    let pairs = pairs.iter().map(|own| (&own["first"], &own["second"])).collect::<Vec<_>>();
    let [base, polite, b] = ["base", "polite", "b"].map(Value::from);
    assert_eq!(pairs, [(&base, &polite), (&polite, &b), (&base, &b)]);
    // The same adapter twice.
    assert_eq!(found["differences"][1]["token_f1"], json!({"mean": 0.0, "interval": [0.0, 0.0]}));
    assert_eq!((&found["clusters"], &found["resamples"]), (&json!(4), &json!(200)));

    let table = program.run(&args).ok();
    assert!(table.contains("ROUGE-L"), "{table}");
    assert!(table.contains("\n  95 % CI"), "{table}");
    assert!(table.contains("\npolite - base"), "{table}");
}

#[test]
fn evaluation_is_deterministic_and_the_seed_changes_only_intervals() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let args = ["eval", "--data", &few, "--json", "--seed"];
    let run = |seed: &str| program.run(&[&args[..], &[seed]].concat()).ok();
    assert_eq!(run("3"), run("3"));
    let args = ["eval", "--max-rows", "30", "--no-exact-match", "--json", "--seed"];
    let [three, four] = ["3", "4"].map(|seed| program.run(&[&args[..], &[seed]].concat()).json());
    assert_eq!(three["base"]["loss"], four["base"]["loss"]);
    assert_ne!(three["base"]["intervals"]["loss"], four["base"]["intervals"]["loss"]);
}

#[test]
fn the_length_of_responses_can_be_limited() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let args = ["eval", "--data", &few, "--json", "--max-new-tokens", "1"];
    let found = program.run(&args).json();
    assert_eq!(found["base"]["exact_match"], 0.0);
}
