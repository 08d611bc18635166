//! `train --profile`: tracing spans ─┬─► a table of self times by operation
//!                                  └─► a trace for chrome://tracing or Perfetto

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use tracing::{Id, Subscriber};
use tracing_chrome::{ChromeLayerBuilder, FlushGuard};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::error::Error;
use crate::failure::Result;

/// A running profiler of the whole process.
pub struct Profiler {
    totals: SpanTotals,
    /// Completes the trace when dropped.
    guard: FlushGuard,
    /// The trace; it is copied to the output folder at the end, when that exists.
    trace: NamedTempFile,
}

/// Statistics of all spans, by span name.
type SpanTotals = Arc<Mutex<BTreeMap<&'static str, SpanStats>>>;

/// Statistics of the spans with one name.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct SpanStats {
    calls: u64,
    /// Without the time of child spans.
    self_time: Duration,
}

impl Profiler {
    /// Starts to record every span of the process.
    pub fn start() -> Result<Self> {
        let no_trace = || Error::system("cannot create a temporary file for the trace");
        let trace = NamedTempFile::new().map_err(no_trace())?;
        let file = trace.reopen().map_err(no_trace())?;
        let (chrome, guard) = ChromeLayerBuilder::new().writer(file).build();
        let totals = SpanTotals::default();
        let subscriber =
            tracing_subscriber::registry().with(chrome).with(SpanTimer::new(totals.clone()));
        tracing::subscriber::set_global_default(subscriber)
            .map_err(Error::system("the profiler is already running"))?;
        Ok(Self { totals, guard, trace })
    }

    /// Writes the trace to a file and returns a table of the operations, the longest first.
    pub fn finish(self, trace: &Path) -> Result<String> {
        drop(self.guard);
        checkpoint::files::write_with(trace, |temporary| {
            std::fs::copy(self.trace.path(), temporary).map(|_bytes| ())
        })?;
        let totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(table(&totals))
    }
}

fn table(totals: &BTreeMap<&'static str, SpanStats>) -> String {
    let total = totals.values().map(|stats| stats.self_time).sum::<Duration>().as_secs_f64();
    let mut rows = totals.iter().collect::<Vec<_>>();
    rows.sort_by_key(|(_, stats)| std::cmp::Reverse(stats.self_time));
    let mut text =
        format!("{:<24} {:>9} {:>13} {:>7}\n", "operation", "calls", "self time (s)", "share");
    for (name, stats) in rows {
        let seconds = stats.self_time.as_secs_f64();
        let share = seconds / total.max(f64::MIN_POSITIVE) * 100.0;
        let _ = writeln!(text, "{name:<24} {:>9} {seconds:>13.3} {share:>6.1}%", stats.calls);
    }
    let _ = writeln!(text, "{:<24} {:>9} {total:>13.3}", "total", "");
    text
}

/// Adds up the self times of spans by name.
struct SpanTimer {
    totals: SpanTotals,
    /// The time since a fixed moment.
    clock: Box<dyn Fn() -> Duration + Send + Sync>,
}

impl SpanTimer {
    fn new(totals: SpanTotals) -> Self {
        let begin = Instant::now();
        Self { totals, clock: Box::new(move || begin.elapsed()) }
    }
}

thread_local! {
    /// The open spans of this thread: the time of entry, and the time of their children so far.
    static SPAN_STACK: RefCell<Vec<(Duration, Duration)>> = const { RefCell::new(Vec::new()) };
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanTimer {
    fn on_enter(&self, _id: &Id, _context: LayerContext<'_, S>) {
        let now = (self.clock)();
        SPAN_STACK.with_borrow_mut(|stack| stack.push((now, Duration::ZERO)));
    }

    fn on_exit(&self, id: &Id, context: LayerContext<'_, S>) {
        let Some((entered, children)) = SPAN_STACK.with_borrow_mut(Vec::pop) else { return };
        let duration = (self.clock)().saturating_sub(entered);
        SPAN_STACK.with_borrow_mut(|stack| {
            if let Some((_, siblings)) = stack.last_mut() {
                *siblings += duration;
            }
        });
        let Some(span) = context.span(id) else { return };
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = totals.entry(span.name()).or_default();
        stats.calls += 1;
        stats.self_time += duration.saturating_sub(children);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn self_time_excludes_child_spans() {
        let totals = SpanTotals::default();
        // Each reading of the clock is a second later.
        let seconds = AtomicU64::new(0);
        let clock = move || Duration::from_secs(seconds.fetch_add(1, Ordering::Relaxed));
        let timer = SpanTimer { totals: totals.clone(), clock: Box::new(clock) };
        let subscriber = tracing_subscriber::registry().with(timer);
        tracing::subscriber::with_default(subscriber, || {
            let _step = tracing::trace_span!("step").entered();
            for _ in 0..2 {
                let _child = tracing::trace_span!("child").entered();
            }
        });
        let stats = |calls, seconds| SpanStats { calls, self_time: Duration::from_secs(seconds) };
        // `step` lasts from 0 to 5, its children from 1 to 2 and from 3 to 4.
        let expected = BTreeMap::from([("step", stats(1, 3)), ("child", stats(2, 2))]);
        assert_eq!(*totals.lock().unwrap(), expected);
    }

    #[test]
    fn the_table_begins_with_the_longest_operation() {
        let stats = |calls, millis| SpanStats { calls, self_time: Duration::from_millis(millis) };
        let totals = BTreeMap::from([("loss", stats(2, 250)), ("linear", stats(60, 750))]);
        insta::assert_snapshot!(table(&totals), @"
        operation                    calls self time (s)   share
        linear                          60         0.750   75.0%
        loss                             2         0.250   25.0%
        total                                      1.000
        ");
    }
}
