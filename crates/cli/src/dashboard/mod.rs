//! `train --tui`: events of a run ─► a live view on the whole terminal
//!
//! The view has its own thread, because a step may take minutes and keys should not. Ctrl-C arrives as a key here;
//! it and q send the signal that Ctrl-C sends elsewhere, so that the run ends in the same way.

mod screen;
mod state;
mod view;

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{
    self, Event as Input, KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
};
use signal_hook::consts::SIGINT;
use train::Event;

use crate::error::Error;
use crate::failure::Result;
use crate::output::note;
use crate::progress::TrainingProgress;
use screen::Screen;
use state::State;

/// Time between two pictures.
const FRAME: Duration = Duration::from_millis(100);

/// A live view of a run on stderr; it ends when it is dropped.
pub struct Dashboard {
    state: Arc<Mutex<State>>,
    /// Makes the lines of the log.
    lines: TrainingProgress,
    thread: Option<JoinHandle<()>>,
}

impl Dashboard {
    /// Takes the terminal.
    ///
    /// # Errors
    /// [`Error::Usage`] without a terminal, [`Error::System`].
    pub fn start(title: String) -> Result<Self> {
        if !(std::io::stderr().is_terminal() && std::io::stdin().is_terminal()) {
            let hint = "without --tui, progress is printed as lines";
            return Err(Error::usage_with_hint("--tui needs a terminal", hint).into());
        }
        let state = Arc::new(Mutex::new(State::new(title)));
        let log = state.clone();
        let lines = TrainingProgress::with_lines(move |line| lock(&log).log.push(line.to_owned()));
        let screen = Screen::take().map_err(Error::system("cannot draw on the terminal"))?;
        let shared = state.clone();
        let thread = std::thread::Builder::new().name("dashboard".into());
        let thread = thread
            .spawn(move || {
                // A terminal that is gone does not end the run.
                let _ = run(&shared);
                drop(screen);
            })
            .map_err(Error::system("cannot start a thread"))?;
        Ok(Self { state, lines, thread: Some(thread) })
    }

    /// Takes one event into the view.
    pub fn show(&mut self, event: Event) {
        lock(&self.state).add(&event);
        self.lines.show(event);
    }

    /// Gives the terminal back and prints the log.
    pub fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        lock(&self.state).done = true;
        // A panic in it has been reported, and the terminal is restored.
        let _ = thread.join();
        for line in &lock(&self.state).log {
            note(line);
        }
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The state, whatever happened to the thread that had it.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Draws and reads keys until the run is done.
fn run(state: &Mutex<State>) -> std::io::Result<()> {
    let mut terminal = Terminal::new(CrosstermBackend::new(std::io::stderr()))?;
    loop {
        {
            let state = lock(state);
            if state.done {
                return Ok(());
            }
            terminal.draw(|frame| view::draw(frame, &state))?;
        }
        if event::poll(FRAME)?
            && let Input::Key(key) = event::read()?
            && is_stop(&key)
        {
            let is_second = std::mem::replace(&mut lock(state).stopping, true);
            if is_second {
                // The second signal ends the program at once.
                screen::restore();
            }
            signal_hook::low_level::raise(SIGINT)?;
        }
    }
}

fn is_stop(key: &KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && match key.code {
            KeyCode::Char('q') => !control,
            KeyCode::Char('c') => control,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_and_control_c_stop_and_other_keys_do_not() {
        let key = |code, modifiers| is_stop(&KeyEvent::new(KeyCode::Char(code), modifiers));
        assert!(key('q', KeyModifiers::NONE) && key('c', KeyModifiers::CONTROL));
        assert!(!key('c', KeyModifiers::NONE) && !key('x', KeyModifiers::NONE));
    }
}
