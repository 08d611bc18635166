//! A task: its settings and documents ─► questions.

use std::path::{Path, PathBuf};

use super::documents::{self, Document};
use super::few_shot::{EXAMPLE, QUESTION, Turns};
use super::question::{ChoiceQuestion, TaskMetric};
use super::settings::TaskSettings;
use super::template::{NumberedDocument, Templates};
use super::yaml;
use crate::error::{Error, Result};

/// A multiple-choice task of lm-evaluation-harness, loaded.
///
/// ```
/// use eval::harness::{Task, TaskMetric};
///
/// # fn main() -> eval::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let (data, path) = (folder.path().join("pets.jsonl"), folder.path().join("pets.yaml"));
/// # std::fs::write(&data, r#"{"q": "It barks.", "pets": ["cat", "dog"], "right": 1}"#).unwrap();
/// # let text = "
/// # output_type: multiple_choice
/// # dataset_path: json
/// # dataset_kwargs: {data_files: {test: pets.jsonl}}
/// # test_split: test
/// # doc_to_text: '{{q}} It is a'
/// # doc_to_choice: pets
/// # doc_to_target: right
/// # ";
/// # std::fs::write(&path, text).unwrap();
/// let task = Task::load(&path, None)?;
/// let question = &task.questions()?[0];
/// assert_eq!(question.context, "It barks. It is a");
/// assert_eq!(question.continuations, [" cat", " dog"]);
/// let predicted = question.predicted(TaskMetric::Acc, &[-3.2, -1.7]);
/// assert!(question.is_correct(predicted));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Task {
    path: PathBuf,
    settings: TaskSettings,
    documents: Vec<Document>,
    examples: Vec<Document>,
    /// Whether a question is not its own example.
    exclude_itself: bool,
    templates: Templates,
}

impl Task {
    /// Reads a task file, what it includes, and its data. `few_shot` replaces its number of examples.
    ///
    /// # Errors
    /// [`Error`] for files that cannot be read, settings that are not supported, and templates that are
    /// not valid.
    pub fn load(path: &Path, few_shot: Option<usize>) -> Result<Self> {
        let settings = TaskSettings::new(path, yaml::load(path)?, few_shot)?;
        let split = settings.test_split.as_ref().or(settings.validation_split.as_ref());
        let split = split.ok_or_else(|| Error::Setting {
            path: path.into(),
            key: "test_split".into(),
            found: "missing".into(),
            expected: "the name of a split, unless there is a `validation_split`",
        })?;
        let mut documents = settings.data.read(split, path)?;
        let fields = documents::fields(&documents);
        documents::complete(&mut documents, &fields);
        let mut examples = read_examples(&settings, path)?;
        let example_fields = documents::fields(&examples);
        documents::complete(&mut examples, &example_fields);
        let mut templates = Templates::new(path, fields);
        templates.add("description", &settings.description)?;
        Turns::compile(&mut templates, &settings.turn, QUESTION)?;
        Turns::compile(&mut templates, &settings.few_shot.turn, EXAMPLE)?;
        // The harness compares the settings, present or not.
        let exclude_itself = settings.few_shot.split == settings.test_split;
        Ok(Self { path: path.into(), settings, documents, examples, exclude_itself, templates })
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Number of examples before each question.
    pub fn few_shot(&self) -> usize {
        self.settings.few_shot.count
    }

    /// The metrics that the task reports.
    pub fn metrics(&self) -> &[TaskMetric] {
        &self.settings.metrics
    }

    /// Number of questions.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether there are no questions; never the case.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// One question per document, in order.
    ///
    /// # Errors
    /// [`Error::Document`] for a document that a template does not accept.
    pub fn questions(&self) -> Result<Vec<ChoiceQuestion>> {
        let documents = self.documents.iter().enumerate();
        documents.map(|(index, document)| self.question(index + 1, document)).collect()
    }

    fn question(&self, number: usize, document: &Document) -> Result<ChoiceQuestion> {
        let of = NumberedDocument { document, number };
        let turns =
            Turns { templates: &self.templates, settings: &self.settings.turn, keys: QUESTION };
        let mut context =
            match self.templates.value("description", &self.settings.description, of)? {
                serde_json::Value::Null => String::new(),
                serde_json::Value::String(text) => text,
                other => {
                    let reason = format!("{other} is not a text");
                    return Err(self.templates.refuse("description", of, reason));
                }
            };
        context += &self.examples_for(document)?;
        context += &turns.question(of)?;
        let choices = turns.choices(of)?;
        let delimiter = &self.settings.turn.target_delimiter;
        let continuations =
            choices.iter().map(|choice| format!("{delimiter}{choice}")).collect::<Vec<_>>();
        if let Some(index) = continuations.iter().position(String::is_empty) {
            let reason = format!("choice {} is empty", index + 1);
            return Err(self.templates.refuse(QUESTION.choice, of, reason));
        }
        let target = turns.target(of)?;
        Ok(ChoiceQuestion { context, continuations, choices, target })
    }

    /// The examples before the question of a document.
    fn examples_for(&self, document: &Document) -> Result<String> {
        let few_shot = &self.settings.few_shot;
        let turns = Turns { templates: &self.templates, settings: &few_shot.turn, keys: EXAMPLE };
        let pool = self.examples.iter().enumerate();
        let pool = pool.filter(|(_, example)| !(self.exclude_itself && *example == document));
        let mut text = String::new();
        let mut count = 0;
        for (index, example) in pool.take(few_shot.count) {
            text += &turns.example(NumberedDocument { document: example, number: index + 1 })?;
            count += 1;
        }
        if count < few_shot.count {
            return Err(Error::NoDocuments {
                path: self.path.clone(),
                split: few_shot.split.clone().unwrap_or_default(),
                reason: format!("{} examples are asked for, there are {count}", few_shot.count),
            });
        }
        Ok(text)
    }
}

/// The documents that examples are taken from; none if none are asked for.
fn read_examples(settings: &TaskSettings, path: &Path) -> Result<Vec<Document>> {
    let few_shot = &settings.few_shot;
    if few_shot.count == 0 {
        return Ok(Vec::new());
    }
    if few_shot.split.is_none() && !few_shot.samples.is_empty() {
        let samples = few_shot.samples.iter();
        return Ok(samples.filter_map(serde_json::Value::as_object).cloned().collect());
    }
    let splits = [
        &few_shot.split,
        &settings.training_split,
        &settings.validation_split,
        &settings.test_split,
    ];
    let split = splits.into_iter().find_map(Option::as_deref).unwrap_or_default();
    settings.data.read(split, path)
}
