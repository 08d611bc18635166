//! A ScienceQA problem ─► a multiple-choice row.
//!
//! ```text
//! question ─► instruction          subject  NAT SOC LAN
//! hint, choices ─► input           context  TXT IMG, or NO     ─► tags
//! answer ─► The answer is (B).     grade    G1-6 G7-12
//! ```
//!
//! Lectures, solutions and image captions are not used, as in LLaMA-Adapter.
//!
//! Sources: arXiv 2303.16199; the prompt of
//! <https://github.com/lupantech/ScienceQA/blob/360b71cb6a36b9e3161dc9b65e9d86458b7d13a3/models/base_prompt.py>;
//! the tags of
//! <https://github.com/lupantech/ScienceQA/blob/360b71cb6a36b9e3161dc9b65e9d86458b7d13a3/tools/evaluate_acc.py>.

use serde::Deserialize;

use super::record_origin::RecordOrigin;
use crate::data::Instruction;
use crate::error::Result;

/// The groups that ScienceQA reports accuracy for, in the order of its tables.
pub const SCIENCE_QA_TAGS: [&str; 8] = ["NAT", "SOC", "LAN", "TXT", "IMG", "NO", "G1-6", "G7-12"];

/// The used fields of a problem.
#[derive(Deserialize)]
pub(super) struct ScienceQaProblem {
    question: String,
    choices: Vec<String>,
    answer: usize,
    #[serde(default)]
    hint: Option<String>,
    #[serde(default)]
    image: Option<String>,
    grade: String,
    subject: String,
    split: String,
}

impl ScienceQaProblem {
    /// The row of the problem; its image is `{split}/{pid}/{image}`.
    pub fn into_row(self, pid: &str, origin: &RecordOrigin) -> Result<Instruction> {
        let n_choices = self.choices.len();
        if self.question.trim().is_empty() {
            return Err(origin.error("the question is empty"));
        }
        if n_choices > 26 {
            return Err(origin.error(format!("{n_choices} choices, at most 26 are supported")));
        }
        if self.answer >= n_choices {
            return Err(origin.error(format!(
                "the answer is choice {}, counted from 0, of {n_choices}",
                self.answer
            )));
        }
        let hint = self.hint.as_deref().unwrap_or("").trim();
        let image = self.image.as_deref().filter(|name| !name.is_empty());
        let context = if hint.is_empty() { "N/A" } else { hint };
        let (mut choices, mut options) = (Vec::new(), Vec::new());
        for (letter, choice) in ('A'..='Z').zip(&self.choices) {
            choices.push(format!("({letter}) {choice}"));
            options.push(format!("The answer is ({letter})."));
        }
        let input = format!("Context: {context}\nOptions: {}", choices.join(" "));
        let row = Instruction::new(self.question.as_str(), input, options[self.answer].as_str());
        let tags = self.tags(!hint.is_empty(), image.is_some(), origin)?;
        let image = match image {
            Some(name) => Some(origin.resolve_image(&format!("{}/{pid}/{name}", self.split))?),
            None => None,
        };
        Ok(Instruction { image, options, tags, ..row })
    }

    /// The columns of the paper's table that the problem belongs to.
    fn tags(&self, has_text: bool, has_image: bool, origin: &RecordOrigin) -> Result<Vec<String>> {
        let mut tags = vec![match self.subject.as_str() {
            "natural science" => "NAT",
            "social science" => "SOC",
            "language science" => "LAN",
            other => return Err(origin.error(format!("unknown subject {other:?}"))),
        }];
        if has_text {
            tags.push("TXT");
        }
        if has_image {
            tags.push("IMG");
        }
        if !has_text && !has_image {
            tags.push("NO");
        }
        tags.push(match self.grade.strip_prefix("grade").and_then(|n| n.parse().ok()) {
            Some(1..=6) => "G1-6",
            Some(7..=12) => "G7-12",
            _ => return Err(origin.error(format!("unknown grade {:?}", self.grade))),
        });
        Ok(tags.into_iter().map(String::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    fn problem() -> Value {
        json!({
            "question": "Which is larger?", "choices": ["a flea", "a cow"], "answer": 1,
            "hint": "Look.", "image": "image.png", "task": "closed choice", "grade": "grade6",
            "subject": "natural science", "topic": "biology", "category": "Animals",
            "skill": "Compare", "lecture": "Long.", "solution": "Longer.", "split": "val"
        })
    }

    fn changed(field: &str, value: Value) -> Value {
        let mut problem = problem();
        problem[field] = value;
        problem
    }

    fn row_of(problem: Value) -> Result<Instruction> {
        let image_folder = Some(Path::new("/p"));
        let origin = RecordOrigin {
            path: Path::new("a"),
            location: "problem 7".into(),
            format_hint: "",
            image_folder,
        };
        serde_json::from_value::<ScienceQaProblem>(problem).unwrap().into_row("7", &origin)
    }

    #[test]
    fn a_problem_becomes_a_row_with_context_and_options() {
        let row = row_of(problem()).unwrap();
        assert_eq!(row.instruction, "Which is larger?");
        assert_eq!(row.input, "Context: Look.\nOptions: (A) a flea (B) a cow");
        assert_eq!(row.output, "The answer is (B).");
        assert_eq!(row.options, ["The answer is (A).", "The answer is (B)."]);
        assert_eq!(row.tags, ["NAT", "TXT", "IMG", "G1-6"]);
        // An image is in the folder of its problem's split, not of the requested one.
        let image = row_of(changed("split", json!("test"))).unwrap().image.unwrap();
        assert_eq!(Path::new(&image), Path::new("/p/test/7/image.png"));
    }

    #[test]
    fn a_problem_without_context_says_na() {
        let mut bare = changed("image", Value::Null);
        bare["hint"] = json!("");
        bare["grade"] = json!("grade12");
        bare["subject"] = json!("language science");
        let row = row_of(bare).unwrap();
        assert_eq!(row.input, "Context: N/A\nOptions: (A) a flea (B) a cow");
        assert_eq!(row.tags, ["LAN", "NO", "G7-12"]);
        assert_eq!(row.image, None);
    }

    #[test]
    fn a_hint_or_an_image_counts_as_context() {
        let tags = |field: &str| row_of(changed(field, Value::Null)).unwrap().tags;
        assert_eq!(tags("image"), ["NAT", "TXT", "G1-6"]);
        assert_eq!(tags("hint"), ["NAT", "IMG", "G1-6"]);
    }

    #[test]
    fn grades_map_to_two_tags() {
        for (grade, expected) in [(1, "G1-6"), (6, "G1-6"), (7, "G7-12"), (12, "G7-12")] {
            let row = row_of(changed("grade", json!(format!("grade{grade}")))).unwrap();
            assert_eq!(row.tags.last().unwrap(), expected);
        }
    }

    #[test]
    fn an_invalid_problem_is_reported() {
        let message =
            |field: &str, value: Value| row_of(changed(field, value)).unwrap_err().to_string();
        let choice = "the answer is choice";
        assert_eq!(
            message("answer", json!(2)),
            format!("a, problem 7: {choice} 2, counted from 0, of 2")
        );
        assert_eq!(
            message("choices", json!([])),
            format!("a, problem 7: {choice} 1, counted from 0, of 0")
        );
        assert!(
            message("choices", json!(vec!["a"; 27]))
                .ends_with("27 choices, at most 26 are supported")
        );
        assert!(message("subject", json!("magic")).ends_with("unknown subject \"magic\""));
        assert!(message("grade", json!("grade13")).ends_with("unknown grade \"grade13\""));
        assert!(message("grade", json!("seven")).ends_with("unknown grade \"seven\""));
        assert!(message("question", json!(" ")).ends_with("the question is empty"));
    }
}
