//! The results of `plan`: estimates and suggested changes for each device.

use memory_plan::{
    MemoryPlan, MemorySaving, PrefixCachePlan, SettingChange, Workload, memory_savings,
};
use serde::{Serialize, Serializer};

use super::scale::ScalePlan;
use crate::failure::{Failure, Result};

/// The estimates of all devices; the fields are the JSON keys of `plan --json`.
#[derive(Debug, Serialize)]
pub struct PlanReport {
    pub model: String,
    pub precision: String,
    pub batch: usize,
    pub seq: usize,
    pub labels: usize,
    pub new_tokens: usize,
    pub recompute: bool,
    /// `None` if the first layer is adapted.
    pub prefix_cache: Option<CacheEstimate>,
    pub devices: Vec<DevicePlan>,
    /// The plan for several ranks, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<ScalePlan>,
}

/// The size of the frozen-prefix cache.
#[derive(Debug, Serialize)]
pub struct CacheEstimate {
    #[serde(flatten)]
    pub plan: PrefixCachePlan,
    /// Number of training rows, if given.
    pub rows: Option<u64>,
    /// Bytes of that many rows.
    pub bytes: Option<u64>,
}

impl CacheEstimate {
    /// The size for some rows of the workload's length.
    pub fn new(plan: PrefixCachePlan, rows: Option<u64>) -> Self {
        let bytes = rows.map(|rows| rows.saturating_mul(plan.bytes_per_row));
        Self { plan, rows, bytes }
    }
}

/// The estimates of one device.
#[derive(Debug, Serialize)]
pub struct DevicePlan {
    pub device: String,
    /// Available bytes, if known.
    pub memory: Option<u64>,
    /// Whether estimates for this backend were validated with measured peaks.
    pub measured: bool,
    pub training: MemoryEstimate,
    pub answering: MemoryEstimate,
}

/// The estimated memory of a workload.
#[derive(Debug, Serialize)]
pub struct MemoryEstimate {
    #[serde(flatten)]
    pub plan: MemoryPlan,
    pub total: u64,
    /// `None` if the available memory is unknown.
    pub fits: Option<bool>,
    pub changes: Vec<SuggestedChange>,
}

/// A change that saves memory.
#[derive(Debug, Serialize)]
pub struct SuggestedChange {
    #[serde(rename = "change")]
    pub option: ChangedOption,
    /// Estimated bytes with the change.
    pub total: u64,
    /// Bytes that the change saves.
    pub saves: u64,
    /// Whether the workload fits with this change alone; true if the available memory is unknown.
    pub fits: bool,
}

/// The option that makes a change, with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedOption {
    /// The option in tables.
    pub text: String,
    /// The option in JSON, where it keeps its first name.
    json: String,
}

impl Serialize for ChangedOption {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.json)
    }
}

impl From<SettingChange> for ChangedOption {
    fn from(change: SettingChange) -> Self {
        let (name, first_name, value) = match change {
            SettingChange::ActivationCheckpointing => {
                ("--activation-checkpointing", "--recompute", String::new())
            }
            SettingChange::BatchSize(rows) => ("--batch-size", "--batch", format!(" {rows}")),
            SettingChange::SeqLen(tokens) => ("--seq-len", "--seq", format!(" {tokens}")),
            SettingChange::AdaptedLayers(layers) => {
                ("--adapter-layers", "--adapter-layers", format!(" {layers}"))
            }
            SettingChange::Precision(precision) => {
                ("--precision", "--precision", format!(" {precision}"))
            }
        };
        Self { text: format!("{name}{value}"), json: format!("{first_name}{value}") }
    }
}

impl From<MemorySaving> for SuggestedChange {
    fn from(MemorySaving { change, total, bytes_saved, fits }: MemorySaving) -> Self {
        Self { option: change.into(), total, saves: bytes_saved, fits }
    }
}

impl MemoryEstimate {
    /// Estimates the memory of a workload and searches for changes that make it fit into `memory`.
    pub fn new(workload: &Workload, memory: Option<u64>) -> Result<Self> {
        let plan = MemoryPlan::new(workload).map_err(Failure::as_usage)?;
        let total = plan.total();
        let fits = memory.map(|memory| total <= memory);
        let changes = memory_savings(workload, memory).into_iter().map(SuggestedChange::from);
        Ok(Self { plan, total, fits, changes: changes.collect() })
    }
}
