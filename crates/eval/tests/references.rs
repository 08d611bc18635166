//! Scores of texts and prompts of task files against other programs: `tests/golden/harness.py`.

use std::path::PathBuf;

use eval::harness::{Target, Task, TaskMetric};
use eval::{rouge_l, token_f1};
use serde_json::Value;

fn path(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/harness");
    folder.join(name)
}

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(path(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn task(name: &str) -> Task {
    Task::load(&path(&format!("{name}.yaml")), None).unwrap()
}

#[test]
fn rouge_l_equals_googles_and_token_f1_equals_squads() {
    let texts = golden("texts.json");
    let texts = texts.as_array().unwrap();
    assert!(texts.len() > 20);
    for row in texts {
        let [reference, response] = ["reference", "response"].map(|key| row[key].as_str().unwrap());
        let rouge = rouge_l(reference, response);
        let found = [rouge.precision, rouge.recall, rouge.f1, token_f1(reference, response)];
        let expected = [0, 1, 2].map(|index| row["rouge_l"][index].as_f64().unwrap());
        let expected = [&expected[..], &[row["token_f1"].as_f64().unwrap()]].concat();
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{row}: {found}");
        }
    }
}

#[test]
fn contexts_equal_the_harnesss() {
    let scores = golden("scores.json");
    for (name, expected) in scores.as_object().unwrap() {
        let questions = task(name).questions().unwrap();
        assert_eq!(Some(&*questions[0].context), expected["first_context"].as_str(), "{name}");
        assert_eq!(questions.len(), expected["log_likelihoods"].as_array().unwrap().len());
    }
}

#[test]
fn equal_log_likelihoods_give_the_scores_of_the_harness() {
    let scores = golden("scores.json");
    for (name, expected) in scores.as_object().unwrap() {
        let task = task(name);
        let questions = task.questions().unwrap();
        for &metric in task.metrics() {
            let correct = questions.iter().enumerate().map(|(index, question)| {
                let log_likelihoods = expected["log_likelihoods"][index].as_array().unwrap();
                let log_likelihoods =
                    log_likelihoods.iter().map(|one| one.as_f64().unwrap()).collect::<Vec<_>>();
                question.is_correct(question.predicted(metric, &log_likelihoods))
            });
            let accuracy = eval::Accuracy::from_correct(&correct.collect::<Vec<_>>());
            let key = metric.name();
            let close = |found: f64, key: &str| {
                let expected = expected[key].as_f64().unwrap();
                assert!((found - expected).abs() < 1e-12, "{name} {key}: {found}, not {expected}");
            };
            close(accuracy.fraction(), key);
            close(accuracy.standard_error().unwrap(), &format!("{key}_stderr"));
        }
    }
}

#[test]
fn included_settings_and_own_ones_are_merged() {
    let task = task("examples");
    assert_eq!((task.name(), task.few_shot()), ("examples", 3));
    assert_eq!(task.metrics(), TaskMetric::ALL);
    let question = &task.questions().unwrap()[0];
    assert!(matches!(&question.target, Target::Text(text) if question.choices.contains(text)));
    assert!(question.continuations.iter().all(|text| text.starts_with(' ')));
}

#[test]
fn the_number_of_examples_can_be_replaced() {
    let context = |few_shot| {
        let task = Task::load(&path("examples.yaml"), Some(few_shot)).unwrap();
        task.questions().unwrap()[0].context.matches("It is").count()
    };
    // The question has the prefix too.
    assert_eq!([0, 1, 18].map(context), [1, 2, 19]);
    let task = Task::load(&path("examples.yaml"), Some(19)).unwrap();
    let error = task.questions().unwrap_err().to_string();
    assert!(
        error.ends_with("the split `train`: 19 examples are asked for, there are 18"),
        "{error}"
    );
}

#[test]
fn a_question_is_not_its_own_example() {
    // These two would be their own examples, because they are the first ones.
    for question in &task("delimiters").questions().unwrap()[..2] {
        let (_, own) = question.context.rsplit_once("\n\n").unwrap();
        assert_eq!(question.context.matches(own).count(), 1, "{}", question.context);
    }
}
