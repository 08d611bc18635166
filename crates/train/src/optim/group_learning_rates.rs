//! Learning rates of parameter groups.

use std::collections::BTreeMap;

use adaption_prompt::PartKind;
use burn::module::Module;
use serde::{Deserialize, Serialize};

use super::module_gradients::ModuleGradients;
use crate::error::{Error, Result};

/// Peak learning rates of parameter groups. Parameters without one have the run's learning rate; all
/// follow the same schedule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupLearningRates {
    /// Of the gates and gate factors of prompts and images, before the learning rate of their part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gates: Option<f64>,
    /// Of parts of the adapter.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<PartKind, f64>,
}

impl GroupLearningRates {
    /// Whether no group has its own learning rate.
    pub fn is_empty(&self) -> bool {
        self.gates.is_none() && self.parts.is_empty()
    }

    /// All learning rates.
    pub(crate) fn values(&self) -> impl Iterator<Item = f64> {
        self.gates.into_iter().chain(self.parts.values().copied())
    }

    /// The learning rate of the parameter at this path of
    /// [`TrainableWeights`](crate::TrainableWeights), if its group has one.
    pub(crate) fn of(&self, path: &str) -> Option<f64> {
        let path = path.strip_prefix("Adapter.")?;
        let part = || {
            let part = path.split('.').next()?.parse::<PartKind>().ok()?;
            self.parts.get(&part).copied()
        };
        self.gates.filter(|_| is_gate(path)).or_else(part)
    }

    /// Checks that each group has a trainable parameter.
    pub(crate) fn check(&self, module: &impl Module) -> Result<()> {
        let mut trained = ModuleGradients::empty(module).parameters;
        trained.retain(|parameter| parameter.is_trainable);
        let is_used =
            |alone: &Self| trained.iter().any(|parameter| alone.of(&parameter.name).is_some());
        if let Some(rate) = self.gates
            && !is_used(&Self { gates: self.gates, parts: BTreeMap::new() })
        {
            return Err(Error::Config {
                field: "the learning rate of gates",
                found: rate.to_string(),
                expected: "none: no gate is trained",
            });
        }
        for (&part, &rate) in &self.parts {
            if !is_used(&Self { gates: None, parts: [(part, rate)].into() }) {
                return Err(Error::Config {
                    field: "the learning rate of a part",
                    found: format!("{part}={rate}"),
                    expected: "parts that are trained",
                });
            }
        }
        Ok(())
    }
}

/// Whether a parameter of an adapter is a gate or a gate's factor, by its path.
fn is_gate(path: &str) -> bool {
    let mut names = path.split('.');
    match names.next() {
        Some("prompts") => matches!(names.next_back(), Some("gate" | "factor")),
        Some("image") => matches!(names.next(), Some("gate" | "early")),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_has_its_own_rate_before_that_of_its_part() {
        let rates = GroupLearningRates {
            gates: Some(0.5),
            parts: [(PartKind::Prompts, 0.1), (PartKind::Lora, 0.2)].into(),
        };
        for (path, expected) in [
            ("Adapter.prompts.layers.3.gate", Some(0.5)),
            ("Adapter.prompts.layers.3.factor", Some(0.5)),
            ("Adapter.prompts.layers.3.prompt", Some(0.1)),
            ("Adapter.lora.layers.0.pairs.1.a", Some(0.2)),
            ("Adapter.image.gate", Some(0.5)),
            ("Adapter.image.early.0", Some(0.5)),
            ("Adapter.image.tokens.Global.up.weight.Dense", None),
            ("Adapter.v2.layers.1.norms.0.weight", None),
            // The feed-forward network has a gate too.
            ("Full.layers.0.feed_forward.gate.weight.Dense", None),
        ] {
            assert_eq!(rates.of(path), expected, "{path}");
        }
    }
}
