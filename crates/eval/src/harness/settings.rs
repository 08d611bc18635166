//! The settings of a task file, checked: what is read, what has no effect, and what is refused.

use std::path::Path;

use serde_norway::{Mapping, Value};

use super::documents::DataFiles;
use super::question::TaskMetric;
use super::setting_keys::{Choices, Keys, TargetSetting};
use crate::error::Result;

/// The settings of a task.
#[derive(Debug)]
pub(super) struct TaskSettings {
    pub(super) name: String,
    pub(super) data: DataFiles,
    pub(super) training_split: Option<String>,
    pub(super) validation_split: Option<String>,
    pub(super) test_split: Option<String>,
    pub(super) description: String,
    pub(super) turn: TurnSettings,
    pub(super) few_shot: FewShotSettings,
    pub(super) metrics: Vec<TaskMetric>,
}

/// How a document becomes text: for the question, and for the examples before it.
#[derive(Debug, Clone)]
pub(super) struct TurnSettings {
    pub(super) doc_to_text: String,
    pub(super) doc_to_choice: Choices,
    pub(super) doc_to_target: TargetSetting,
    pub(super) gen_prefix: String,
    pub(super) target_delimiter: String,
    pub(super) fewshot_delimiter: String,
}

/// The examples before each question.
#[derive(Debug)]
pub(super) struct FewShotSettings {
    pub(super) count: usize,
    pub(super) split: Option<String>,
    /// Examples in the task file itself.
    pub(super) samples: Vec<serde_json::Value>,
    pub(super) turn: TurnSettings,
}

/// Settings without an effect on the scores of multiple-choice tasks.
const WITHOUT_EFFECT: &[&str] = &[
    "dataset_name",
    "doc_to_decontamination_query",
    "generation_kwargs",
    "group",
    "group_alias",
    "metadata",
    "repeats",
    "should_decontaminate",
    "tag",
    "task_alias",
    "task_list",
];

/// Settings that would need what this program does not have.
const REFUSED: &[&str] = &[
    "class",
    "custom_dataset",
    "doc_to_audio",
    "doc_to_image",
    "filter_list",
    "process_docs",
    "process_results",
    "use_prompt",
];

impl TaskSettings {
    /// Checks the settings of a task file; `few_shot` replaces its `num_fewshot`.
    pub(super) fn new(path: &Path, settings: Mapping, few_shot: Option<usize>) -> Result<Self> {
        let mut keys = Keys { path, settings, prefix: "" };
        keys.refuse_functions()?;
        for key in WITHOUT_EFFECT {
            keys.settings.remove(*key);
        }
        for key in REFUSED {
            if keys.take(key).is_some() {
                return Err(keys.unsupported(key, "it changes documents or scores", "remove it"));
            }
        }
        if keys.take("unsafe_code").is_some_and(|value| value != Value::Bool(false)) {
            return Err(keys.unsupported("unsafe_code", "it runs code", "remove it"));
        }
        let output_type = keys.text("output_type")?.unwrap_or_else(|| "generate_until".into());
        if output_type != "multiple_choice" {
            let hint = "tasks with `output_type: multiple_choice` are supported";
            return Err(keys.unsupported("output_type", &format!("it is {output_type}"), hint));
        }
        let name = match keys.take("task") {
            Some(Value::String(name)) => name,
            Some(Value::Sequence(_)) => {
                let hint = "name the file of one task";
                return Err(keys.unsupported("task", "it is a group of tasks", hint));
            }
            Some(other) => return Err(keys.mismatch("task", &other, "a name")),
            None => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let turn = TurnSettings {
            doc_to_text: keys.required_text("doc_to_text")?,
            doc_to_choice: keys
                .choices()?
                .ok_or_else(|| keys.missing("doc_to_choice", "a field, a template or a list"))?,
            doc_to_target: keys
                .target()?
                .ok_or_else(|| keys.missing("doc_to_target", "a field, a template or an index"))?,
            gen_prefix: keys.text("gen_prefix")?.unwrap_or_default(),
            target_delimiter: keys.text("target_delimiter")?.unwrap_or_else(|| " ".into()),
            fewshot_delimiter: keys.text("fewshot_delimiter")?.unwrap_or_else(|| "\n\n".into()),
        };
        let settings = Self {
            name,
            data: data_files(&mut keys)?,
            training_split: keys.text("training_split")?,
            validation_split: keys.text("validation_split")?,
            test_split: keys.text("test_split")?,
            description: keys.text("description")?.unwrap_or_default(),
            few_shot: few_shot_settings(&mut keys, &turn, few_shot)?,
            turn,
            metrics: metrics(&mut keys)?,
        };
        keys.finish()?;
        Ok(settings)
    }
}

fn data_files(keys: &mut Keys) -> Result<DataFiles> {
    let hint = "save the data set as JSON, and name it: `dataset_path: json` with \
                `dataset_kwargs: {data_files: FILE}`";
    let kind = keys.text("dataset_path")?.unwrap_or_default();
    if kind != "json" {
        let reason = if kind.is_empty() { "it is missing".into() } else { format!("it is {kind}") };
        return Err(keys.unsupported("dataset_path", &reason, hint));
    }
    let arguments = match keys.take("dataset_kwargs") {
        Some(Value::Mapping(arguments)) => arguments,
        Some(other) => return Err(keys.mismatch("dataset_kwargs", &other, "a mapping")),
        None => Mapping::new(),
    };
    let mut arguments = Keys { path: keys.path, settings: arguments, prefix: "dataset_kwargs." };
    arguments.settings.remove("trust_remote_code");
    let expected = "a path, a list of paths, or these by split";
    let mut data = DataFiles { field: arguments.text("field")?, ..DataFiles::default() };
    let files = arguments.take("data_files");
    let files = files.ok_or_else(|| arguments.missing("data_files", expected))?;
    let by_split = match files {
        Value::Mapping(by_split) => by_split.into_iter().collect(),
        // Files without a split are training data.
        other => vec![(Value::from("train"), other)],
    };
    for (split, paths) in by_split {
        let paths = match paths {
            Value::Sequence(paths) => paths,
            one => vec![one],
        };
        let paths = paths.iter().map(|path| path.as_str().map(str::to_owned));
        let (Some(split), Some(paths)) = (split.as_str(), paths.collect::<Option<Vec<_>>>()) else {
            return Err(arguments.mismatch("data_files", &split, expected));
        };
        if let Some(url) = paths.iter().find(|path| path.contains("://")) {
            let hint = "download it, and name the file";
            return Err(arguments.unsupported("data_files", &format!("{url} is not local"), hint));
        }
        data.by_split.insert(split.into(), paths);
    }
    arguments.finish()?;
    Ok(data)
}

fn few_shot_settings(
    keys: &mut Keys,
    turn: &TurnSettings,
    few_shot: Option<usize>,
) -> Result<FewShotSettings> {
    let own = match keys.take("num_fewshot") {
        None => 0,
        Some(value) => {
            let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
            count.ok_or_else(|| keys.mismatch("num_fewshot", &value, "a number from 0"))?
        }
    };
    let count = few_shot.unwrap_or(own);
    let split = keys.text("fewshot_split")?;
    let config = match keys.take("fewshot_config") {
        Some(Value::Mapping(config)) => config,
        Some(other) => return Err(keys.mismatch("fewshot_config", &other, "a mapping")),
        None => Mapping::new(),
    };
    let mut config = Keys { path: keys.path, settings: config, prefix: "fewshot_config." };
    let sampler = config.text("sampler")?.unwrap_or_else(|| "default".into());
    if count > 0 && sampler != "first_n" {
        let hint = "set `fewshot_config: {sampler: first_n}`, which takes the first examples";
        let reason = format!("it is {sampler}, which draws with Python's random numbers");
        return Err(config.unsupported("sampler", &reason, hint));
    }
    for key in ["process_docs", "fewshot_indices"] {
        if config.take(key).is_some() {
            return Err(config.unsupported(key, "it changes the examples", "remove it"));
        }
    }
    let samples = match config.take("samples") {
        None => Vec::new(),
        Some(Value::Sequence(samples)) => samples,
        Some(other) => return Err(config.mismatch("samples", &other, "a list")),
    };
    let samples = samples.into_iter().map(|sample| {
        serde_json::to_value(&sample)
            .ok()
            .filter(serde_json::Value::is_object)
            .ok_or_else(|| config.mismatch("samples", &sample, "a list of documents"))
    });
    let settings = FewShotSettings {
        count,
        samples: samples.collect::<Result<_>>()?,
        split: config.text("split")?.or(split),
        turn: TurnSettings {
            doc_to_text: config.text("doc_to_text")?.unwrap_or_else(|| turn.doc_to_text.clone()),
            doc_to_choice: config.choices()?.unwrap_or_else(|| turn.doc_to_choice.clone()),
            doc_to_target: config.target()?.unwrap_or_else(|| turn.doc_to_target.clone()),
            gen_prefix: config.text("gen_prefix")?.unwrap_or_else(|| turn.gen_prefix.clone()),
            target_delimiter: config
                .text("target_delimiter")?
                .unwrap_or_else(|| turn.target_delimiter.clone()),
            fewshot_delimiter: config
                .text("fewshot_delimiter")?
                .unwrap_or_else(|| turn.fewshot_delimiter.clone()),
        },
    };
    config.finish()?;
    Ok(settings)
}

fn metrics(keys: &mut Keys) -> Result<Vec<TaskMetric>> {
    let entries = match keys.take("metric_list") {
        None => return Ok(vec![TaskMetric::Acc, TaskMetric::AccNorm]),
        Some(Value::Sequence(entries)) if !entries.is_empty() => entries,
        Some(other) => return Err(keys.mismatch("metric_list", &other, "a list of metrics")),
    };
    let mut metrics = Vec::new();
    for entry in entries {
        let settings = match entry {
            Value::Mapping(settings) => settings,
            other => return Err(keys.mismatch("metric_list", &other, "a list of metrics")),
        };
        let mut entry = Keys { path: keys.path, settings, prefix: "metric_list." };
        let name = entry.required_text("metric")?;
        let metric = TaskMetric::ALL.into_iter().find(|metric| metric.name() == name);
        let hint = "the metrics acc, acc_norm and acc_bytes are supported";
        let reason = || format!("it is {name}");
        let metric = metric.ok_or_else(|| entry.unsupported("metric", &reason(), hint))?;
        let aggregation = entry.text("aggregation")?.unwrap_or_else(|| "mean".into());
        if aggregation != "mean" {
            let hint = "the aggregation `mean` is supported";
            let reason = format!("it is {aggregation}");
            return Err(entry.unsupported("aggregation", &reason, hint));
        }
        entry.settings.remove("higher_is_better");
        entry.settings.remove("weight_by_size");
        entry.finish()?;
        if !metrics.contains(&metric) {
            metrics.push(metric);
        }
    }
    Ok(metrics)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "
task: animals
output_type: multiple_choice
dataset_path: json
dataset_kwargs: {data_files: {test: a.json, train: [b.json, c.json]}}
test_split: test
doc_to_text: question
doc_to_choice: options
doc_to_target: label
";

    fn settings(more: &str) -> Result<TaskSettings> {
        // Later keys replace the ones of the task, as local keys replace included ones.
        let mut all: Mapping = serde_norway::from_str(TASK).unwrap();
        all.extend(serde_norway::from_str::<Mapping>(more).unwrap());
        TaskSettings::new(Path::new("task.yaml"), all, None)
    }

    fn error(more: &str) -> String {
        settings(more).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_the_harnesss() {
        let settings = settings("metadata: {version: 1}\nprocess_docs:\n").unwrap();
        assert_eq!((settings.name.as_str(), settings.few_shot.count), ("animals", 0));
        assert_eq!(settings.turn.target_delimiter, " ");
        assert_eq!(settings.turn.fewshot_delimiter, "\n\n");
        assert_eq!(settings.metrics, [TaskMetric::Acc, TaskMetric::AccNorm]);
        assert_eq!(settings.data.by_split["train"], ["b.json", "c.json"]);
    }

    #[test]
    fn python_code_is_refused_by_name() {
        assert_eq!(
            error("process_docs: !function utils.process_docs"),
            "task.yaml: `process_docs` is not supported: it is `!function utils.process_docs`"
        );
        let nested = "fewshot_config: {sampler: first_n, samples: !function few.samples}";
        assert!(error(nested).contains("`fewshot_config` is not supported: it is `!function few"));
    }

    #[test]
    fn what_would_change_the_scores_is_refused() {
        for (more, expected) in [
            ("process_docs: x", "`process_docs` is not supported: it changes documents or scores"),
            ("unsafe_code: true", "`unsafe_code` is not supported: it runs code"),
            ("output_type: generate_until", "`output_type` is not supported: it is generate_until"),
            ("task: [a, b]", "`task` is not supported: it is a group of tasks"),
            (
                "dataset_path: allenai/ai2_arc",
                "`dataset_path` is not supported: it is allenai/ai2_arc",
            ),
            (
                "dataset_kwargs: {data_files: 'https://a.b/c.json'}",
                "`dataset_kwargs.data_files` is not supported: https://a.b/c.json is not local",
            ),
            (
                "num_fewshot: 2",
                "`fewshot_config.sampler` is not supported: it is default, which draws with \
                 Python's random numbers",
            ),
            ("metric_list: [{metric: f1}]", "`metric_list.metric` is not supported: it is f1"),
            (
                "metric_list: [{metric: acc, aggregation: median}]",
                "`metric_list.aggregation` is not supported: it is median",
            ),
        ] {
            assert_eq!(error(more), format!("task.yaml: {expected}"));
        }
    }

    #[test]
    fn unknown_and_mistyped_settings_are_refused() {
        assert_eq!(error("doc_to_txt: a"), "task.yaml: unknown setting `doc_to_txt`");
        assert_eq!(
            error("dataset_kwargs: {data_files: a.json, data_dir: b}"),
            "task.yaml: unknown setting `dataset_kwargs.data_dir`"
        );
        assert_eq!(error("doc_to_text: 7"), "task.yaml: `doc_to_text` is 7, expected a text");
        assert_eq!(error("doc_to_text:"), "task.yaml: `doc_to_text` is missing, expected a text");
        assert!(
            error("doc_to_choice: [1, 2]")
                .ends_with("expected a field, a template or a list of texts")
        );
        assert!(
            error("num_fewshot: -1").ends_with("`num_fewshot` is -1, expected a number from 0")
        );
    }

    #[test]
    fn few_shot_settings_replace_those_of_the_question() {
        let few_shot = settings(
            "num_fewshot: 1\nfewshot_split: train\n\
             fewshot_config: {sampler: first_n, split: test, doc_to_text: other, target_delimiter: ''}",
        );
        let few_shot = few_shot.unwrap().few_shot;
        assert_eq!((few_shot.count, few_shot.split.as_deref()), (1, Some("test")));
        assert_eq!((&*few_shot.turn.doc_to_text, &*few_shot.turn.target_delimiter), ("other", ""));
    }
}
