//! Where the time of a training goes: spans ─┬─► a table of parts
//!                                           └─► a trace for chrome://tracing or Perfetto

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tempfile::NamedTempFile;
use tracing::{Id, Subscriber};
use tracing_chrome::{ChromeLayerBuilder, FlushGuard};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// A profile that is being taken, until it is dropped.
pub struct Profile {
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

impl Profile {
    /// Begins to take a profile of the whole process; every call of a part goes into the trace.
    pub fn start() -> anyhow::Result<Self> {
        let trace = NamedTempFile::new().context("no temporary file for the trace")?;
        let file = trace.reopen().context("no temporary file for the trace")?;
        let (chrome, guard) = ChromeLayerBuilder::new().writer(file).build();
        let parts = Parts::default();
        let subscriber = tracing_subscriber::registry().with(chrome).with(Times(parts.clone()));
        tracing::subscriber::set_global_default(subscriber)
            .context("a profile is taken already")?;
        Ok(Self { parts, guard, trace })
    }

    /// Writes the trace to its place and gives a table of the parts, the longest first.
    pub fn finish(self, trace: &Path) -> anyhow::Result<String> {
        drop(self.guard);
        llama::files::write_with(trace, |temporary| {
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
struct Times(Parts);

thread_local! {
    /// Spans that this thread is in: when each was entered, and the time of those inside it.
    static OPEN: RefCell<Vec<(Instant, Duration)>> = const { RefCell::new(Vec::new()) };
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Times {
    fn on_enter(&self, _id: &Id, _context: LayerContext<'_, S>) {
        OPEN.with_borrow_mut(|open| open.push((Instant::now(), Duration::ZERO)));
    }

    fn on_exit(&self, id: &Id, context: LayerContext<'_, S>) {
        let Some((entered, inside)) = OPEN.with_borrow_mut(Vec::pop) else { return };
        let took = entered.elapsed();
        OPEN.with_borrow_mut(|open| {
            if let Some((_, outside)) = open.last_mut() {
                *outside += took;
            }
        });
        let Some(span) = context.span(id) else { return };
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let part = parts.entry(span.name()).or_default();
        part.calls += 1;
        part.own += took.saturating_sub(inside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_does_not_count_what_is_inside_it() {
        let parts = Parts::default();
        let subscriber = tracing_subscriber::registry().with(Times(parts.clone()));
        let pause = Duration::from_millis(20);
        tracing::subscriber::with_default(subscriber, || {
            let _step = tracing::trace_span!("step").entered();
            for _ in 0..2 {
                let _inside = tracing::trace_span!("inside").entered();
                let begin = Instant::now();
                while begin.elapsed() < pause {}
            }
        });
        let parts = parts.lock().unwrap();
        assert_eq!((parts["step"].calls, parts["inside"].calls), (1, 2));
        assert!(parts["inside"].own >= 2 * pause);
        assert!(parts["step"].own < parts["inside"].own);
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
