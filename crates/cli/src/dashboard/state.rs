//! What the view shows of a run.

use adaption_prompt::LayerGates;
use train::run::Throughput;
use train::{Event, StepReport};

/// The state of a run, as its events tell it.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Model and folder.
    pub title: String,
    pub total_steps: usize,
    pub steps_per_epoch: usize,
    /// The latest step and the speed so far.
    pub latest: Option<(StepReport, Throughput)>,
    /// Step and loss.
    pub train: Vec<(f64, f64)>,
    pub held_out: Vec<(f64, f64)>,
    /// The latest gates.
    pub gates: Vec<LayerGates>,
    /// Evaluated rows of how many.
    pub evaluating: Option<(usize, usize)>,
    pub log: Vec<String>,
    /// A key has asked the run to stop.
    pub stopping: bool,
    /// The view ends.
    pub done: bool,
}

impl State {
    pub fn new(title: String) -> Self {
        Self { title, ..Self::default() }
    }

    /// Completed steps.
    pub fn step(&self) -> usize {
        self.latest.map_or(0, |(report, _)| report.step)
    }

    pub fn add(&mut self, event: &Event) {
        match event {
            Event::Prepared { total_steps, steps_per_epoch, .. } => {
                (self.total_steps, self.steps_per_epoch) = (*total_steps, *steps_per_epoch);
            }
            Event::Evaluating { done, rows } => self.evaluating = Some((*done, *rows)),
            Event::Evaluated { step, loss, .. } => {
                self.evaluating = None;
                self.held_out.push((*step as f64, loss.loss));
            }
            Event::Stepped(report, throughput) => {
                self.evaluating = None;
                self.latest = Some((*report, *throughput));
                self.train.push((report.step as f64, report.loss));
            }
            Event::Gates { layers, .. } => self.gates.clone_from(layers),
            _ => {}
        }
    }
}
