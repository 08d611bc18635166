//! The facts of a run in words: key numbers, data, settings.

use serde::Serialize;
use serde_json::Value;

use crate::format::{format_bytes, format_count, format_number, format_seconds};
use crate::run::{RowCounts, Run, settings};

/// A number with its name.
#[derive(Debug, Serialize)]
pub(super) struct Tile {
    name: &'static str,
    value: String,
    note: String,
}

/// A name and a text.
#[derive(Debug, Serialize)]
pub(super) struct Fact {
    name: String,
    value: String,
}

/// How far the run is.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    text: String,
    finished: bool,
}

pub(super) fn status(run: &Run) -> Status {
    let steps = format_count(run.completed_steps() as u64);
    let finished = run.is_finished();
    let text = match (finished, run.metrics.start) {
        (Some(true), _) => format!("finished, {steps} steps"),
        (Some(false), Some(start)) => {
            format!("step {steps} of {}", format_count(start.total_steps as u64))
        }
        _ => format!("{steps} steps"),
    };
    Status { text, finished: finished == Some(true) }
}

/// The numbers that one looks for first.
pub(super) fn tiles(run: &Run) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut add = |name, value: Option<String>, note: Option<String>| {
        if let Some(value) = value {
            tiles.push(Tile { name, value, note: note.unwrap_or_default() });
        }
    };
    let (before, after) = (run.eval_before(), run.eval_after());
    let loss = after.or(before).map(|eval| format_number(eval.loss));
    let from = before.filter(|_| after.is_some());
    add("Held-out loss", loss, from.map(|eval| format!("from {}", format_number(eval.loss))));
    let percent =
        |fraction: f64| format!("{} %", format_number((1000.0 * fraction).round() / 10.0));
    let exact = run.metrics.evals.iter().rev().find_map(|eval| eval.exact_match);
    let exact_before = before.and_then(|eval| eval.exact_match).filter(|_| after.is_some());
    let note = exact_before.map(|fraction| format!("from {}", percent(fraction)));
    add("Exact match", exact.map(percent), note);
    let open = run.metrics.gates.last().and_then(|entry| {
        let by_openness =
            |a: &&crate::LayerGates, b: &&crate::LayerGates| a.openness().total_cmp(&b.openness());
        entry.layers.iter().max_by(by_openness)
    });
    add(
        "Widest gate",
        open.map(|own| format_number(own.openness())),
        open.map(|own| format!("layer {}", own.layer)),
    );
    let speed = run.label_tokens_per_second();
    add("Label tokens/s", speed.map(|speed| format_number(speed.round())), None);
    let seconds = run.train_seconds();
    let steps = run.metrics.steps.len().max(1) as f64;
    let note = Some(format!("{} a step", format_seconds(seconds / steps)));
    add("Time of steps", (seconds > 0.0).then(|| format_seconds(seconds)), note);
    add("Peak memory", run.peak_memory().map(format_bytes), Some("of the process".into()));
    let start = run.metrics.start.filter(|start| start.trainable_parameters > 0);
    add(
        "Trainable",
        start.map(|start| format_count(start.trainable_parameters)),
        Some("parameters".into()),
    );
    tiles
}

fn fact(name: &str, value: String) -> Fact {
    Fact { name: name.into(), value }
}

/// What the run was trained on.
pub(super) fn data_facts(run: &Run) -> Vec<Fact> {
    let about = &run.settings["about"];
    let mut facts = Vec::new();
    let files = |value: &Value| match value {
        Value::Null => None,
        Value::Array(list) if list.is_empty() => Some("the built-in instructions".to_owned()),
        value => Some(settings::text(value)),
    };
    facts.extend(files(&about["data"]).map(|files| fact("Training data", files)));
    facts.extend(files(&about["eval_data"]).map(|files| fact("Held-out data", files)));
    let counts = |counts: RowCounts| {
        let used = counts.complete.saturating_add(counts.truncated);
        let mut text = format_count(used);
        if counts.truncated > 0 {
            text += &format!(", {} of them truncated", format_count(counts.truncated));
        }
        if counts.dropped > 0 {
            text += &format!("; {} dropped as too long", format_count(counts.dropped));
        }
        text
    };
    let recorded = |key: &str| run.settings[key].as_u64().map(format_count);
    let start = run.metrics.start;
    let rows = start.map(|start| counts(start.train)).or_else(|| recorded("train_rows"));
    facts.extend(rows.map(|rows| fact("Training rows", rows)));
    let rows = start.map(|start| counts(start.eval)).or_else(|| recorded("eval_rows"));
    facts.extend(rows.map(|rows| fact("Held-out rows", rows)));
    let labels = run.metrics.steps.iter().fold(0_u64, |sum, step| sum.saturating_add(step.labels));
    let steps = run.metrics.steps.len() as u64;
    if labels > 0 {
        let mean = format_count(labels / steps);
        let text =
            format!("{} in {} steps, {mean} a step", format_count(labels), format_count(steps));
        facts.push(fact("Label tokens", text));
    }
    if let Some(start) = start.filter(|start| start.steps_per_epoch > 0) {
        let epochs = run.completed_steps() as f64 / start.steps_per_epoch as f64;
        let text = format!(
            "{} of {} steps each",
            format_number((epochs * 100.0).round() / 100.0),
            format_count(start.steps_per_epoch as u64)
        );
        facts.push(fact("Epochs", text));
    }
    facts
}

/// All settings.
pub(super) fn config_facts(run: &Run) -> Vec<Fact> {
    // Those are among the facts of the data.
    let shown = ["about.data", "about.eval_data"];
    let leaves = settings::flatten(&run.settings).into_iter();
    let leaves = leaves.filter(|(name, _)| !shown.contains(&name.as_str()));
    leaves.map(|(name, value)| Fact { name, value: settings::text(&value) }).collect()
}
