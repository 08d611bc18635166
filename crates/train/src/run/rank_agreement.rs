//! Whether all ranks of a run were started with the same things, and whether they still have the same
//! weights.

use std::fmt;

use communicator::Communicator;
use llama::read_back;
use serde_json::Value;

use super::run_record::different_leaves;
use crate::error::{Error, Result};
use crate::trainable::{Parameter, TrainableWeights, parameters};

/// A fact in which a rank differs from rank 0.
#[derive(Debug, Clone, PartialEq)]
pub struct RankDifference {
    /// The rank.
    pub rank: usize,
    /// Its host.
    pub host: String,
    /// The fact: a key of `run.json`, such as `data_hash`, or a fact that the program adds.
    pub name: String,
    /// The value of rank 0; null if it has none.
    pub first: Value,
    /// The value of the rank; null if it has none.
    pub own: Value,
}

impl fmt::Display for RankDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Value| match value {
            Value::Null => "none".to_owned(),
            value => value.to_string(),
        };
        let Self { rank, host, name, first, own } = self;
        write!(f, "rank {rank} on {host}: {name}: {}, rank 0 has {}", text(own), text(first))
    }
}

/// Checks that `facts`, such as checksums of the program and of the model's files, are equal in all ranks.
///
/// # Errors
/// [`Error::RanksDiffer`], the same in all ranks.
pub fn check_equal_facts(ranks: &dyn Communicator, facts: &Value) -> Result<()> {
    let host = ranks.place().host;
    let own = serde_json::to_vec(&(host, facts)).expect("plain JSON");
    let all = ranks.all_gather(&own);
    let parse = |bytes: &Vec<u8>| -> (String, Value) {
        serde_json::from_slice(bytes).expect("a rank sends what it has written as JSON")
    };
    let (_host, first) = parse(&all[0]);
    let mut differences = Vec::new();
    for (rank, bytes) in all.iter().enumerate().skip(1).filter(|(_, bytes)| **bytes != all[0]) {
        let (host, own) = parse(bytes);
        differences.extend(different_leaves(&first, &own).into_iter().map(|leaf| RankDifference {
            rank,
            host: host.clone(),
            name: leaf.name,
            first: leaf.saved,
            own: leaf.current,
        }));
    }
    if differences.is_empty() { Ok(()) } else { Err(Error::RanksDiffer { differences }) }
}

/// Checks that the weights are equal in all ranks, bit for bit.
///
/// # Errors
/// [`Error::RankWeightsDiffer`], the same in all ranks; [`Error::Model`] if the device fails.
pub(super) fn check_equal_weights(
    ranks: &dyn Communicator,
    weights: &TrainableWeights,
    step: usize,
) -> Result<()> {
    let checksum = weights_checksum(weights)?.to_le_bytes();
    let all = ranks.all_gather(&checksum);
    match all.iter().position(|other| *other != all[0]) {
        Some(rank) => Err(Error::RankWeightsDiffer { rank, step }),
        None => Ok(()),
    }
}

/// The checksum of all weights.
pub(super) fn weights_checksum(weights: &TrainableWeights) -> Result<u32> {
    let mut checksum = 0;
    for Parameter { value, .. } in parameters(weights) {
        checksum = crc32c::crc32c_append(checksum, read_back(value)?.as_bytes());
    }
    Ok(checksum)
}

#[cfg(test)]
mod tests {
    use communicator::Threads;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rank_with_other_facts_is_named_to_all() {
        let found = Threads::run(3, |ranks| {
            let batch_size = if ranks.rank() == 2 { 4 } else { 8 };
            let facts = json!({ "model": "a", "settings": { "batch_size": batch_size } });
            check_equal_facts(ranks, &facts).unwrap_err().to_string()
        });
        let expected = "the ranks were not started with the same things\n  \
                        rank 2 on localhost: settings.batch_size: 4, rank 0 has 8";
        assert!(found.iter().all(|found| found == expected), "{found:?}");
    }

    #[test]
    fn equal_facts_pass_on_any_host() {
        let facts = json!({ "model": "a" });
        assert!(Threads::run(2, |ranks| check_equal_facts(ranks, &facts).is_ok()) == [true; 2]);
    }
}
