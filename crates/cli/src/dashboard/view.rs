//! The picture of a run: progress, loss, gates, log.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, LineGauge, Paragraph};
use report::{downsample, format_number, smooth};

use super::state::State;
use crate::progress::time_left;
use crate::terminal::{chart, gate_lines};

/// Below this width the loss is above the gates.
const TWO_COLUMNS: u16 = 90;
const TRAIN: Color = Color::Blue;
const HELD_OUT: Color = Color::Yellow;

/// Draws the state.
pub(super) fn draw(frame: &mut Frame, state: &State) {
    let rows = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(6),
        Constraint::Length(7),
        Constraint::Length(1),
    ];
    let [title, gauge, numbers, body, log, keys] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(state.title.as_str()).bold(), title);
    draw_progress(frame, state, gauge);
    frame.render_widget(Paragraph::new(numbers_line(state)), numbers);
    let halves = [Constraint::Percentage(58), Constraint::Percentage(42)];
    let [loss, gates] = if body.width >= TWO_COLUMNS {
        Layout::horizontal(halves).areas(body)
    } else {
        Layout::vertical(halves).areas(body)
    };
    if state.gates.is_empty() {
        draw_loss(frame, state, body);
    } else {
        draw_loss(frame, state, loss);
        draw_gates(frame, state, gates);
    }
    draw_log(frame, state, log);
    let text = if state.stopping {
        " saving and stopping; q again ends at once"
    } else {
        " q or Ctrl-C saves and stops"
    };
    frame.render_widget(Paragraph::new(text).dark_gray(), keys);
}

fn draw_progress(frame: &mut Frame, state: &State, area: Rect) {
    let (label, ratio) = match (state.evaluating, state.total_steps) {
        (Some((done, rows)), _) => {
            (format!("evaluating {done}/{rows} rows"), done as f64 / rows.max(1) as f64)
        }
        (None, 0) => ("preparing".into(), 0.0),
        (None, total) => {
            let step = state.step();
            let epoch = step.saturating_sub(1) / state.steps_per_epoch.max(1) + 1;
            (format!("step {step}/{total}  epoch {epoch}"), step as f64 / total as f64)
        }
    };
    let gauge = LineGauge::default().label(label).ratio(ratio.clamp(0.0, 1.0));
    frame.render_widget(gauge.filled_style(Style::new().fg(Color::Cyan)), area);
}

/// The latest numbers and the remaining time.
fn numbers_line(state: &State) -> String {
    let Some((report, throughput)) = state.latest else { return String::new() };
    format!(
        "loss {}  lr {:.2e}  gradient norm {}  {} label tokens/s  {} left",
        format_number(report.loss),
        report.learning_rate,
        format_number(report.gradient_norm),
        format_number(throughput.label_tokens_per_second.round()),
        time_left(throughput)
    )
}

fn draw_loss(frame: &mut Frame, state: &State, area: Rect) {
    let end =
        |points: &[(f64, f64)]| points.last().map_or(String::new(), |end| format_number(end.1));
    let train = smooth(&state.train);
    let title = Line::from(vec![
        Span::raw(" loss "),
        Span::raw(format!("train {} ", end(&train))).fg(TRAIN),
        Span::raw(format!("held-out {} ", end(&state.held_out))).fg(HELD_OUT),
    ]);
    let points = usize::from(area.width) * 4;
    let (train, held_out) = (downsample(&train, points), downsample(&state.held_out, points));
    let curves = [(train.as_slice(), TRAIN), (held_out.as_slice(), HELD_OUT)];
    let last_step = state.step().max(1) as f64;
    let block = Block::bordered().border_style(Style::new().dark_gray()).title(title);
    frame.render_widget(chart(&curves, last_step).block(block), area);
}

fn draw_gates(frame: &mut Frame, state: &State, area: Rect) {
    let block = Block::bordered().border_style(Style::new().dark_gray()).title(" gates ");
    let inner = block.inner(area);
    // The last layers, which open most, are on top.
    let layers = state.gates.iter().rev().map(|own| (own.layer, own.gates.as_slice()));
    let lines = gate_lines(&layers.collect::<Vec<_>>(), usize::from(inner.width));
    let lines = lines
        .into_iter()
        .map(|line| line.into_iter().map(|(text, color)| Span::raw(text).fg(color)).collect());
    let lines = lines.take(usize::from(inner.height)).collect::<Vec<_>>();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn draw_log(frame: &mut Frame, state: &State, area: Rect) {
    let block = Block::bordered().border_style(Style::new().dark_gray()).title(" log ");
    let room = usize::from(block.inner(area).height);
    let from = state.log.len().saturating_sub(room);
    let lines = state.log[from..].iter().map(|line| Line::raw(line.as_str()));
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()).block(block), area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn picture(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let rows = buffer.content.chunks(usize::from(width));
        let rows = rows
            .map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>() + "\n");
        rows.collect()
    }

    #[test]
    fn a_run_that_has_not_begun_is_being_prepared() {
        let text = picture(&State::new("tiny-llama → adapters/a".into()), 80, 24);
        assert!(text.starts_with("tiny-llama → adapters/a"), "{text}");
        assert!(
            text.contains("preparing") && text.contains("q or Ctrl-C saves and stops"),
            "{text}"
        );
    }

    #[test]
    fn loss_and_log_are_shown() {
        let state = State {
            total_steps: 40,
            steps_per_epoch: 20,
            train: (1..=30).map(|x| (f64::from(x), 3.0 / f64::from(x))).collect(),
            held_out: vec![(0.0, 3.5), (20.0, 0.4)],
            log: (0..9).map(|line| format!("line {line}")).collect(),
            ..State::default()
        };
        let text = picture(&state, 100, 30);
        assert!(text.contains("held-out 0.4") && text.contains("train 0.1"), "{text}");
        assert!(text.contains("line 8") && !text.contains("line 2"), "{text}");
        assert!(text.contains(|c| ('\u{2801}'..='\u{28ff}').contains(&c)), "{text}");
    }

    #[test]
    fn a_tiny_terminal_does_not_panic() {
        let state = State { evaluating: Some((1, 0)), stopping: true, ..State::default() };
        for (width, height) in [(1, 1), (10, 3), (90, 8), (200, 60)] {
            picture(&state, width, height);
        }
    }
}
