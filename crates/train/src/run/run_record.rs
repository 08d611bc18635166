//! What must be equal for a run to be resumed.

use std::hash::Hasher;

use fnv::FnvHasher;
use serde::Serialize;

use super::training_run::TrainingRun;
use crate::config::TrainConfig;
use crate::data::Instruction;

/// Settings as `run.json` keeps them: all that must be equal for a run to be resumed.
#[derive(Serialize)]
pub(crate) struct RunRecord<'a> {
    about: &'a serde_json::Value,
    model: &'a str,
    /// Of the base's matrices.
    precision: String,
    train_rows: usize,
    eval_rows: usize,
    /// Tells other data of the same size apart.
    data_hash: String,
    #[serde(flatten)]
    config: &'a TrainConfig,
}

impl<'a> RunRecord<'a> {
    /// The settings of a job.
    pub fn from_run(job: &TrainingRun<'a>) -> Self {
        Self {
            about: job.metadata,
            model: job.model_name,
            precision: format!("{:?}", job.llama.precision()),
            train_rows: job.train_rows.len(),
            eval_rows: job.eval_rows.len(),
            data_hash: format!("{:016x}", hash_rows(&[job.train_rows, job.eval_rows])),
            config: job.config,
        }
    }
}

/// FNV-1a over every text of the rows. It tells data apart; it keeps no secrets.
fn hash_rows(groups: &[&[Instruction]]) -> u64 {
    let mut hash = FnvHasher::default();
    for row in groups.iter().copied().flatten() {
        for text in [&row.instruction, &row.input, &row.output] {
            hash.write(text.as_bytes());
            // A byte that no text holds keeps fields apart.
            hash.write_u8(0xff);
        }
        if let Some(image) = &row.image {
            hash.write(image.as_bytes());
            hash.write_u8(0xfe);
        }
    }
    hash.finish()
}
