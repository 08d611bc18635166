//! Where the time of a training goes: spans ─┬─► a table of parts
//!                                           └─► a trace for chrome://tracing or Perfetto

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

/// A profile that is being taken, until it is dropped.
pub struct Profiler {
    parts: Parts,
    /// Writes the trace's end.
    guard: FlushGuard,
    /// Until it is known that there is a place for it.
    trace: NamedTempFile,
}

/// Time spent in each part, by name.
type Parts = Arc<Mutex<BTreeMap<&'static str, Part>>>;

/// One part of the work.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Part {
    calls: u64,
    /// Without that of the parts inside it.
    own: Duration,
}

impl Profiler {
    /// Begins to take a profile of the whole process; every call of a part goes into the trace.
    pub fn start() -> Result<Self> {
        let no_trace = || Error::system("no temporary file for the trace");
        let trace = NamedTempFile::new().map_err(no_trace())?;
        let file = trace.reopen().map_err(no_trace())?;
        let (chrome, guard) = ChromeLayerBuilder::new().writer(file).build();
        let parts = Parts::default();
        let subscriber =
            tracing_subscriber::registry().with(chrome).with(Times::new(parts.clone()));
        tracing::subscriber::set_global_default(subscriber)
            .map_err(Error::system("a profile is taken already"))?;
        Ok(Self { parts, guard, trace })
    }

    /// Writes the trace to its place and gives a table of the parts, the longest first.
    pub fn finish(self, trace: &Path) -> Result<String> {
        drop(self.guard);
        checkpoint::files::write_with(trace, |temporary| {
            std::fs::copy(self.trace.path(), temporary).map(|_bytes| ())
        })?;
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(table(&parts))
    }
}

fn table(parts: &BTreeMap<&'static str, Part>) -> String {
    let total = parts.values().map(|part| part.own).sum::<Duration>().as_secs_f64();
    let mut rows = parts.iter().collect::<Vec<_>>();
    rows.sort_by_key(|(_, part)| std::cmp::Reverse(part.own));
    let mut text = format!("{:<24} {:>9} {:>10} {:>7}\n", "part", "calls", "seconds", "share");
    for (name, part) in rows {
        let seconds = part.own.as_secs_f64();
        let share = seconds / total.max(f64::MIN_POSITIVE) * 100.0;
        let _ = writeln!(text, "{name:<24} {:>9} {seconds:>10.3} {share:>6.1}%", part.calls);
    }
    let _ = writeln!(text, "{:<24} {:>9} {total:>10.3}", "all", "");
    text
}

/// Adds up the time of spans by name.
struct Times {
    parts: Parts,
    /// The time since some moment.
    clock: Box<dyn Fn() -> Duration + Send + Sync>,
}

impl Times {
    fn new(parts: Parts) -> Self {
        let begin = Instant::now();
        Self { parts, clock: Box::new(move || begin.elapsed()) }
    }
}

thread_local! {
    /// Spans that this thread is in: when each was entered, and the time of those inside it.
    static OPEN: RefCell<Vec<(Duration, Duration)>> = const { RefCell::new(Vec::new()) };
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Times {
    fn on_enter(&self, _id: &Id, _context: LayerContext<'_, S>) {
        let now = (self.clock)();
        OPEN.with_borrow_mut(|open| open.push((now, Duration::ZERO)));
    }

    fn on_exit(&self, id: &Id, context: LayerContext<'_, S>) {
        let Some((entered, inside)) = OPEN.with_borrow_mut(Vec::pop) else { return };
        let took = (self.clock)().saturating_sub(entered);
        OPEN.with_borrow_mut(|open| {
            if let Some((_, outside)) = open.last_mut() {
                *outside += took;
            }
        });
        let Some(span) = context.span(id) else { return };
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let part = parts.entry(span.name()).or_default();
        part.calls += 1;
        part.own += took.saturating_sub(inside);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_part_does_not_count_what_is_inside_it() {
        let parts = Parts::default();
        // A second goes by whenever somebody looks at the clock.
        let seconds = AtomicU64::new(0);
        let clock = move || Duration::from_secs(seconds.fetch_add(1, Ordering::Relaxed));
        let times = Times { parts: parts.clone(), clock: Box::new(clock) };
        let subscriber = tracing_subscriber::registry().with(times);
        tracing::subscriber::with_default(subscriber, || {
            let _step = tracing::trace_span!("step").entered();
            for _ in 0..2 {
                let _inside = tracing::trace_span!("inside").entered();
            }
        });
        let part = |calls, seconds| Part { calls, own: Duration::from_secs(seconds) };
        // From 0 to 5, but for 1 to 2 and 3 to 4.
        let expected = BTreeMap::from([("step", part(1, 3)), ("inside", part(2, 2))]);
        assert_eq!(*parts.lock().unwrap(), expected);
    }

    #[test]
    fn the_table_begins_with_the_longest_part() {
        let part = |calls, millis| Part { calls, own: Duration::from_millis(millis) };
        let parts = BTreeMap::from([("loss", part(2, 250)), ("linear", part(60, 750))]);
        insta::assert_snapshot!(table(&parts), @"
        part                         calls    seconds   share
        linear                          60      0.750   75.0%
        loss                             2      0.250   25.0%
        all                                     1.000
        ");
    }
}
