//! How a run is shown: lines and a bar, or the whole terminal

use train::Event;

use super::Args;
use crate::dashboard::Dashboard;
use crate::failure::Result;
use crate::progress::TrainingProgress;

/// What shows the events of a run.
pub(super) enum TrainingView {
    Lines(TrainingProgress),
    Dashboard(Dashboard),
}

impl Args {
    /// The view of a run with this title.
    pub(super) fn view(&self, title: &str) -> Result<TrainingView> {
        Ok(if self.tui {
            TrainingView::Dashboard(Dashboard::start(title.to_owned())?)
        } else {
            TrainingView::Lines(TrainingProgress::new(self.quiet))
        })
    }
}

impl TrainingView {
    pub fn show(&mut self, event: Event) {
        match self {
            Self::Lines(progress) => progress.show(event),
            Self::Dashboard(dashboard) => dashboard.show(event),
        }
    }

    /// Removes the bar, or gives the terminal back.
    pub fn clear(&mut self) {
        match self {
            Self::Lines(progress) => progress.clear(),
            Self::Dashboard(dashboard) => dashboard.stop(),
        }
    }
}
