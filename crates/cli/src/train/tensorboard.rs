//! `--tensorboard`: events of a run ─► an event file in the run's folder

use std::path::{Path, PathBuf};

use adaption_prompt::LayerGates;
use report::EventFile;
use train::Event;

/// Folder of the event files in the folder of a run.
const FOLDER: &str = "tensorboard";

/// Writes the events of a run for TensorBoard.
pub(super) struct TensorBoard {
    folder: PathBuf,
    /// The step after which the run continues.
    first_step: usize,
    /// Created by the first event that has values: a run takes only an empty folder.
    file: Option<EventFile>,
    error: Option<report::Error>,
}

impl TensorBoard {
    /// For the run in `output`.
    pub fn new(output: &Path) -> Self {
        Self { folder: output.join(FOLDER), first_step: 0, file: None, error: None }
    }

    /// Writes an event. After an error nothing more is written, and training goes on.
    pub fn add(&mut self, event: &Event) {
        if self.error.is_none()
            && let Err(error) = self.write(event)
        {
            self.error = Some(error);
        }
    }

    /// The error that ended the writing, if there was one.
    pub fn into_error(self) -> Option<report::Error> {
        self.error
    }

    fn write(&mut self, event: &Event) -> report::Result<()> {
        match event {
            Event::Resumed { step } => self.first_step = *step,
            Event::Stepped(report, throughput) => self.file()?.scalars(
                report.step,
                [
                    ("train/loss", report.loss),
                    ("train/learning_rate", report.learning_rate),
                    ("train/gradient_norm", report.gradient_norm),
                    ("train/label_tokens_per_second", throughput.label_tokens_per_second),
                ],
            )?,
            Event::Evaluated { step, loss, exact_match } => {
                let mut values =
                    vec![("eval/loss", loss.loss), ("eval/perplexity", loss.perplexity())];
                values.extend(exact_match.map(|found| ("eval/exact_match", found.fraction())));
                self.file()?.scalars(*step, values)?;
            }
            Event::Gates { step, layers } => self.write_gates(*step, layers)?,
            _ => {}
        }
        Ok(())
    }

    /// Of each layer how far it is open, and the distribution of its heads.
    fn write_gates(&mut self, step: usize, layers: &[LayerGates]) -> report::Result<()> {
        let file = self.file()?;
        let tag = |own: &LayerGates| format!("gates/layer_{:02}", own.layer);
        let tags = layers.iter().map(tag).collect::<Vec<_>>();
        let openness = layers.iter().map(|own| {
            let sum: f32 = own.gates.iter().map(|gate| gate.abs()).sum();
            f64::from(sum) / own.gates.len().max(1) as f64
        });
        file.scalars(step, tags.iter().map(String::as_str).zip(openness))?;
        for (own, tag) in layers.iter().zip(&tags).filter(|(own, _)| own.gates.len() > 1) {
            let gates = own.gates.iter().map(|gate| f64::from(*gate)).collect::<Vec<_>>();
            file.histogram(step, &tag.replace("gates/", "gates_by_head/"), &gates)?;
        }
        Ok(())
    }

    fn file(&mut self) -> report::Result<&mut EventFile> {
        if self.file.is_none() {
            self.file = Some(EventFile::create(&self.folder, self.first_step)?);
        }
        Ok(self.file.as_mut().expect("it was just created"))
    }
}
