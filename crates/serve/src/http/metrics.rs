//! `/metrics`: what the engine does, in the text format of Prometheus.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::state::AppState;
use crate::engine::{EngineHandle, Observer, RequestReport, StepReport};

/// Names of all metrics begin with this and an underscore.
const PREFIX: &str = "llama_adapter";

/// Metrics of a server, and the [`Observer`] of its engine.
pub struct Metrics {
    registry: Registry,
    engine: Arc<OnceLock<EngineHandle>>,
    requests: Family<RequestLabels, Counter>,
    finished: Family<ReasonLabels, Counter>,
    adapters: Family<AdapterLabels, Counter>,
    rejected: Family<RejectLabels, Counter>,
    first_token: Histogram,
    token_gap: Histogram,
    request_time: Histogram,
    queue_time: Histogram,
    step_time: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    endpoint: String,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AdapterLabels {
    adapter: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectLabels {
    why: &'static str,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut all = Registry::with_prefix(PREFIX);
        let engine = Arc::new(OnceLock::new());
        all.register_collector(Box::new(EngineCollector(engine.clone())));
        let (requests, finished) = (Family::default(), Family::default());
        let (adapters, rejected) = (Family::default(), Family::default());
        all.register("requests", "HTTP requests by endpoint and status", requests.clone());
        all.register("finished", "Generations by what ended them", finished.clone());
        all.register("adapter_requests", "Generations by adapter", adapters.clone());
        all.register(
            "rejected",
            "Requests that were refused by code of the error",
            rejected.clone(),
        );
        let mut seconds = |name, help, histogram: Histogram| {
            all.register_with_unit(name, help, Unit::Seconds, histogram.clone());
            histogram
        };
        // From a millisecond to a minute, and to an hour for whole requests.
        let short = || Histogram::new(exponential_buckets(0.001, 2.0, 17));
        let long = || Histogram::new(exponential_buckets(0.01, 2.0, 19));
        Self {
            first_token: seconds(
                "time_to_first_token",
                "Time from a request's arrival to the first token of an answer",
                long(),
            ),
            token_gap: seconds("time_between_tokens", "Time between tokens of an answer", short()),
            request_time: seconds("request", "Time from a request's arrival to its end", long()),
            queue_time: seconds("queue", "Time from a request's arrival to its first pass", long()),
            step_time: seconds("step", "Time of a pass of the model", short()),
            registry: all,
            engine,
            requests,
            finished,
            adapters,
            rejected,
        }
    }

    /// Reads the gauges of this engine.
    pub(super) fn watch(&self, engine: EngineHandle) {
        // The first one stays: a server has one engine.
        let _ = self.engine.set(engine);
    }

    /// Counts a response.
    pub(super) fn count_response(&self, endpoint: &str, code: u16) {
        let labels = RequestLabels { endpoint: endpoint.to_owned(), code };
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts a request that was refused.
    pub(super) fn count_rejected(&self, why: &'static str) {
        self.rejected.get_or_create(&RejectLabels { why }).inc();
    }

    /// Drops the count of an adapter that was unloaded: names are endless.
    pub(super) fn forget_adapter(&self, name: &str) {
        self.adapters.remove(&AdapterLabels { adapter: name.to_owned() });
    }

    /// The metrics as text.
    fn to_text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Observer for Metrics {
    fn step(&self, step: &StepReport) {
        self.step_time.observe(step.time.as_secs_f64());
    }

    fn first_token(&self, since_arrival: Duration) {
        self.first_token.observe(since_arrival.as_secs_f64());
    }

    fn token_gap(&self, gap: Duration) {
        self.token_gap.observe(gap.as_secs_f64());
    }

    fn finished(&self, request: &RequestReport) {
        let reason = request.outcome.name();
        self.finished.get_or_create(&ReasonLabels { reason }).inc();
        // Mixes are endless: they count as one.
        let adapter = match &request.adapter {
            None => "none",
            Some(names) if names.contains('+') => "mix",
            Some(name) => name,
        };
        self.adapters.get_or_create(&AdapterLabels { adapter: adapter.to_owned() }).inc();
        self.request_time.observe(request.total.as_secs_f64());
        if let Some(queued) = request.queued {
            self.queue_time.observe(queued.as_secs_f64());
        }
    }
}

/// Reads the engine's own counters and gauges at each scrape.
#[derive(Debug)]
struct EngineCollector(Arc<OnceLock<EngineHandle>>);

impl Collector for EngineCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(engine) = self.0.get() else { return Ok(()) };
        let stats = engine.stats();
        let count = engine.adapters().len();
        let gauges = [
            ("queue_depth", "Answers that wait for their turn", stats.queued),
            ("adapters", "Adapters that can be asked for", count),
            (
                "adapters_loaded",
                "Prepared adapters in memory, mixes and images too",
                stats.adapters,
            ),
            ("adapter_bytes", "Bytes of prepared adapters", stats.adapter_bytes),
            (
                "cache_bytes",
                "Bytes of the key-value cache that running requests use",
                stats.used_blocks * stats.block_bytes,
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value as i64);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let by_state = [
            (
                "rows",
                "Answers in the running batch by what they do",
                &[("prefilling", stats.prefilling), ("decoding", stats.decoding)][..],
            ),
            (
                "cache_blocks",
                "Blocks of the key-value cache by use",
                &[
                    ("used", stats.used_blocks),
                    ("cached", stats.cached_blocks),
                    ("free", stats.free_blocks),
                ],
            ),
        ];
        for (name, help, values) in by_state {
            let kind = ConstGauge::new(0_i64).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (state, value) in values {
                let gauge = ConstGauge::new(*value as i64);
                gauge.encode(family.encode_family(&[("state", *state)])?)?;
            }
        }
        let counters = [
            ("prompt_tokens", "Tokens of prompts", stats.prompt_tokens),
            (
                "cached_prompt_tokens",
                "Tokens of prompts that were in the cache already",
                stats.cached_prompt_tokens,
            ),
            ("generated_tokens", "New tokens", stats.generated_tokens),
            (
                "preemptions",
                "Answers that lost their cache and were computed again",
                stats.preemptions,
            ),
            ("engine_errors", "Passes of the model that failed", stats.errors),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

/// `GET /metrics`.
pub(super) async fn metrics(State(state): State<AppState>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    // Writing into a string does not fail.
    let text = state.metrics().to_text().unwrap_or_default();
    ([(CONTENT_TYPE, content_type)], text)
}
