//! A step over several ranks: what each holds, sends and computes ─► memory and predicted time
//!
//! ```text
//! step = busiest rank's tokens × time of a token  +  all-reduce over hosts
//! all-reduce = 2 log2(ranks) × latency  +  2 (ranks − 1) / ranks × bytes ÷ bandwidth
//! ```
//!
//! The time of the all-reduce is that of a reduce-scatter and an all-gather by recursive halving and doubling
//! (Thakur, Rabenseifner, Gropp, 2005, section 4.5). `docs/scale.md` compares it with measurements.

use std::fmt;

use indicatif::HumanBytes;
use llama::LlamaConfig;
use serde::Serialize;

use super::report::PlanReport;

/// Options of the prediction.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Several ranks")]
pub struct ScaleArgs {
    /// Plan a training over N ranks: the memory of each, the bytes of a step and, with --token-ms, its time.
    /// --batch-size is that of all ranks together.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ranks: Option<u32>,
    /// Hosts on which the ranks run [default: 1].
    #[arg(long, value_name = "H", requires = "ranks", value_parser = clap::value_parser!(u32).range(1..))]
    hosts: Option<u32>,
    /// Measured milliseconds of a training step of one rank, divided by its tokens.
    #[arg(long, value_name = "MS", requires = "ranks", value_parser = parse_positive)]
    token_ms: Option<f64>,
    /// Bandwidth between hosts, in Gbit/s [default: 10].
    #[arg(long, value_name = "GBIT", requires = "ranks", value_parser = parse_positive)]
    bandwidth: Option<f64>,
    /// Time of a small message between hosts, in microseconds [default: 50].
    #[arg(long, value_name = "US", requires = "ranks", value_parser = parse_positive)]
    latency: Option<f64>,
}

fn parse_positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "expected a number above 0".into())
}

impl ScaleArgs {
    /// Number of ranks, if the plan is for several.
    pub fn ranks(&self) -> Option<usize> {
        self.ranks.map(|ranks| ranks as usize)
    }

    /// The prediction for steps of a global batch.
    pub fn plan(
        &self,
        report: &PlanReport,
        config: &LlamaConfig,
        rows: usize,
    ) -> Option<ScalePlan> {
        let ranks = self.ranks()?;
        let hosts = self.hosts.map_or(1, |hosts| hosts as usize).min(ranks);
        let network = Network {
            bandwidth_gbit: self.bandwidth.unwrap_or(10.0),
            latency_us: self.latency.unwrap_or(50.0),
        };
        // AdamW keeps two values for each parameter.
        let bytes = report.devices.first()?.training.plan.optimizer / 2;
        let all_reduce_ms = if hosts == 1 { 0.0 } else { network.all_reduce_ms(ranks, bytes) };
        let tokens = report.batch * report.seq;
        let compute_ms = self.token_ms.map(|token| token * tokens as f64);
        let step = compute_ms.map(|compute_ms| StepTime {
            compute_ms,
            step_ms: compute_ms + all_reduce_ms,
            tokens_per_second: 1e3 * (rows * report.seq) as f64 / (compute_ms + all_reduce_ms),
            efficiency: compute_ms * rows as f64
                / (report.batch * ranks) as f64
                / (compute_ms + all_reduce_ms),
        });
        let on_fullest_host = ranks.div_ceil(hosts) as u64;
        let devices = report.devices.iter().map(|device| RankMemory {
            device: device.device.clone(),
            rank: device.training.total,
            host: device.training.total.saturating_mul(on_fullest_host),
        });
        let layers = config.n_layers.div_ceil(hosts);
        let weights = report.devices.first()?.training.plan.weights;
        let layered = (hosts > 1).then(|| LayeredModel {
            layers_per_host: layers,
            weights_per_host: weights / config.n_layers.max(1) as u64 * layers as u64,
            // The hidden state forward and its gradient backward, in f32.
            bytes_per_token: 8 * config.d_model as u64,
        });
        Some(ScalePlan {
            ranks,
            hosts,
            rows_per_rank: report.batch,
            all_reduce_bytes: bytes,
            all_reduce_ms,
            network,
            step,
            devices: devices.collect(),
            layered,
        })
    }
}

/// A step over several ranks; the fields are JSON keys of `plan --json`.
#[derive(Debug, Serialize)]
pub struct ScalePlan {
    ranks: usize,
    hosts: usize,
    /// Of the busiest rank.
    rows_per_rank: usize,
    all_reduce_bytes: u64,
    /// Between hosts; within a host it is not counted.
    all_reduce_ms: f64,
    network: Network,
    /// `None` without a measured time of a token.
    step: Option<StepTime>,
    devices: Vec<RankMemory>,
    /// The alternative for a base that does not fit on a host; `None` on one host.
    layered: Option<LayeredModel>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Network {
    bandwidth_gbit: f64,
    latency_us: f64,
}

impl Network {
    /// The time of a sum over all ranks.
    fn all_reduce_ms(self, ranks: usize, bytes: u64) -> f64 {
        let ranks = ranks as f64;
        let latency = 2.0 * ranks.log2().ceil() * self.latency_us / 1e3;
        let sent = 2.0 * (ranks - 1.0) / ranks * bytes as f64;
        latency + sent * 8.0 / (self.bandwidth_gbit * 1e6)
    }
}

#[derive(Debug, Serialize)]
struct StepTime {
    compute_ms: f64,
    step_ms: f64,
    tokens_per_second: f64,
    /// The speed divided by that of as many ranks that need not wait for each other.
    efficiency: f64,
}

#[derive(Debug, Serialize)]
struct RankMemory {
    device: String,
    rank: u64,
    /// All ranks of the host with most of them.
    host: u64,
}

/// A base whose layers are divided among hosts.
#[derive(Debug, Serialize)]
struct LayeredModel {
    layers_per_host: usize,
    weights_per_host: u64,
    bytes_per_token: u64,
}

impl fmt::Display for ScalePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ranks, hosts, rows_per_rank, all_reduce_bytes, all_reduce_ms, network, .. } =
            self;
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        writeln!(
            f,
            "\n{ranks} rank{} on {hosts} host{}: {rows_per_rank} row{} of a batch each",
            plural(*ranks),
            plural(*hosts),
            plural(*rows_per_rank)
        )?;
        for RankMemory { device, rank, host } in &self.devices {
            let [rank, host] = [*rank, *host].map(HumanBytes);
            writeln!(f, "  memory on {device}: {rank} a rank, {host} a host")?;
        }
        let Network { bandwidth_gbit, latency_us } = network;
        write!(f, "  a step sums {} over the ranks", HumanBytes(*all_reduce_bytes))?;
        if *hosts > 1 {
            write!(f, ": {all_reduce_ms:.2} ms at {bandwidth_gbit} Gbit/s and {latency_us} us")?;
        }
        writeln!(f)?;
        match &self.step {
            Some(StepTime { compute_ms, step_ms, tokens_per_second, efficiency }) => writeln!(
                f,
                "  predicted: {step_ms:.1} ms a step, of which {compute_ms:.1} compute; \
                 {tokens_per_second:.0} tokens/s, {:.1} % of perfect",
                100.0 * efficiency
            )?,
            None => writeln!(
                f,
                "  the time of a step needs --token-ms: the seconds_per_step of `train --dry-run` of one \
                 rank, divided by its tokens"
            )?,
        }
        if let Some(LayeredModel { layers_per_host, weights_per_host, bytes_per_token }) =
            &self.layered
        {
            writeln!(
                f,
                "  if the base does not fit on a host: {layers_per_host} layers a host hold {} of weights \
                 and pass on {} a token; this program does not train so",
                HumanBytes(*weights_per_host),
                HumanBytes(*bytes_per_token)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_sum_has_a_part_of_messages_and_a_part_of_bytes() {
        let network = Network { bandwidth_gbit: 8.0, latency_us: 100.0 };
        // Two messages of a tenth of a millisecond, and each byte once in each direction.
        assert!((network.all_reduce_ms(2, 1_000_000) - 1.2).abs() < 1e-9);
        assert!((network.all_reduce_ms(1024, 0) - 2.0).abs() < 1e-9);
        assert!(
            (network.all_reduce_ms(1024, 1_000_000) - 2.0 - 2.0 * 1023.0 / 1024.0).abs() < 1e-9
        );
    }
}
