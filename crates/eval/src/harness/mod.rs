//! Task files of lm-evaluation-harness, of the kind `output_type: multiple_choice` with local data.
//!
//! ```text
//! task.yaml (+ include) ─► TaskSettings ─┬─► questions: context, continuations, which one is right
//! data files ─► documents ───────────────┘         │ log-likelihood of each continuation (by a model)
//!                                                  └─► TaskMetric ─► which questions are answered correctly
//! ```
//!
//! The scores equal those of the harness. What would change them and is not read here, such as Python
//! code, is refused by name.
//!
//! Source: lm-evaluation-harness 0.4.13, `api/task.py` and `tasks/_yaml_loader.py`.
//! <https://github.com/EleutherAI/lm-evaluation-harness>

mod documents;
mod few_shot;
mod python_literal;
mod question;
mod setting_keys;
mod settings;
mod task;
mod template;
mod yaml;

pub use question::{ChoiceQuestion, Target, TaskMetric};
pub use task::Task;
