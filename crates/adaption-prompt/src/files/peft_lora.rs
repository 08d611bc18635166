//! LoRA as PEFT's folder has it ─► as this crate has it: one factor for all products, and each linear
//! layer by itself.
//!
//! ```text
//! transformer.h.0.attn.c_attn.lora_A  [r, in]    ─► of query, key and value, the same for each
//! transformer.h.0.attn.c_attn.lora_B  [3 out, r] ─► a third of its rows for each
//! ```
//!
//! What a module's own rank or alpha makes of the factor is carried out in its B.

use std::collections::BTreeMap;

use llama::LinearName;
use llama::config::{Architecture, ModelShape};
use serde_json::{Map, Value};

use super::assemble::LoraShape;
use super::keys::{self, LinearModule, Part};
use super::lit::Purpose;
use super::patterns::PatternMap;
use super::targets::TargetModules;
use super::tensors::{Array, Arrays, is_lora_pair};
use crate::error::{Error, Result};

/// What PEFT's config says of LoRA.
#[derive(Debug, Clone)]
pub(crate) struct PeftLoraConfig {
    rank: usize,
    alpha: f64,
    /// Whether products are multiplied by `alpha / sqrt(rank)`, not `alpha / rank`.
    stabilised: bool,
    ranks: PatternMap<usize>,
    alphas: PatternMap<f64>,
    targets: TargetModules,
}

/// LoRA in this crate's form.
pub(crate) struct Plain {
    /// Every tensor of the file, those of LoRA under this crate's names.
    pub arrays: Arrays,
    pub shape: LoraShape,
    /// The base's family, where its modules show it.
    pub family: Option<&'static Architecture>,
    /// Layers of the model, where they had to be known.
    pub n_layers: Option<usize>,
}

impl PeftLoraConfig {
    /// # Errors
    /// What is wrong with which setting.
    pub fn parse(config: &Map<String, Value>) -> Result<Self, String> {
        let alpha = config.get("lora_alpha").and_then(Value::as_f64);
        let rank = config.get("r").and_then(Value::as_u64);
        Ok(Self {
            rank: rank.ok_or("`r` is no number of things")? as usize,
            alpha: alpha.ok_or("`lora_alpha` is no number")?,
            stabilised: match config.get("use_rslora") {
                None | Some(Value::Null) => false,
                Some(value) => value.as_bool().ok_or("`use_rslora` is neither true nor false")?,
            },
            ranks: map(config, "rank_pattern", |value| value.as_u64().map(|rank| rank as usize))?,
            alphas: map(config, "alpha_pattern", Value::as_f64)?,
            targets: TargetModules::parse(config)?,
        })
    }

    fn factor(&self, rank: usize, alpha: f64) -> f64 {
        let rank = rank as f64;
        alpha / if self.stabilised { rank.sqrt() } else { rank }
    }

    /// # Errors
    /// [`Error::Unknown`] where the model's sizes are needed. What is wrong with tensors goes to
    /// `problems`.
    pub fn plain(
        &self,
        arrays: Arrays,
        purpose: Purpose<'_>,
        problems: &mut Vec<String>,
    ) -> Result<Plain> {
        let (mut modules, arrays) = modules(arrays);
        let own = self.of_modules(&mut modules, problems);
        let common = self.factor(self.rank, self.alpha);
        // A factor of 0 cannot be made another by any B.
        let common = if common.is_finite() && common != 0.0 { common } else { 1.0 };
        let alpha = common * self.rank as f64;
        if !alpha.is_finite() || !(common as f32).is_finite() {
            problems.push(format!("the settings' factor of {common} makes infinite numbers"));
        }
        let shape = LoraShape { rank: self.rank, alpha, ranks: BTreeMap::new() };
        let mut plain = Plain { arrays, shape, family: None, n_layers: None };
        let highest = modules.keys().filter_map(|name| keys::place(name)?.layer).max();
        for (module, (rank, factor)) in own {
            let Some((a, mut b)) = modules.remove(&module) else { continue };
            let ratio = factor / common;
            if ratio != 1.0 {
                b.values.iter_mut().for_each(|x| *x = (f64::from(*x) * ratio) as f32);
            }
            if !b.values.iter().all(|x| x.is_finite()) {
                problems.push(format!("{module}: its factor of {factor} makes infinite numbers"));
            }
            // Other modules than linear layers keep their names, and are no part of an adapter here.
            let Some(place) = keys::place(&module) else {
                plain.put(&module, a, b);
                continue;
            };
            if let (Some(_), Purpose::Use(Some(sizes))) = (place.layer, purpose)
                && keys::linears_of_module(sizes.architecture, &module).is_none()
            {
                let name = sizes.architecture.name;
                problems
                    .push(format!("unexpected: {module}, which is no module of a {name} model"));
                continue;
            }
            plain.family = plain.family.or(place.family);
            if place.layer.is_none() {
                plain.n_layers = Some(match purpose {
                    Purpose::Use(sizes) => of_head(sizes)?,
                    Purpose::Summarize => highest.map_or(1, |layer| layer.saturating_add(1)),
                });
            }
            let Some(rows) = split(&place, b, rank, purpose)? else {
                let linears = &place.linears;
                problems
                    .push(format!("{module}: its rows are not those of {linears:?} in the model"));
                continue;
            };
            for (name, b) in place.linears.iter().zip(rows) {
                let layer = place.layer.or(plain.n_layers).unwrap_or(0);
                if rank != self.rank {
                    plain.shape.ranks.insert((layer, *name), rank);
                }
                let key = |part| keys::key(None, layer, part);
                plain.arrays.insert(key(Part::LoraA(*name)), a.clone());
                plain.arrays.insert(key(Part::LoraB(*name)), b);
            }
        }
        Ok(plain)
    }

    /// Rank and factor of each module that the config aims at and whose tensors have that rank.
    fn of_modules(
        &self,
        modules: &mut BTreeMap<String, (Array, Array)>,
        problems: &mut Vec<String>,
    ) -> Vec<(String, (usize, f64))> {
        let names = || modules.keys().map(String::as_str);
        let patterns = self
            .ranks
            .of(names())
            .and_then(|ranks| Ok((ranks, self.alphas.of(names())?, self.targets.of(names())?)));
        let (ranks, alphas, aimed_at) = match patterns {
            Ok(found) => found,
            Err(reason) => {
                problems.push(reason);
                return Vec::new();
            }
        };
        let mut found = Vec::new();
        let settings = ranks.into_iter().zip(alphas).zip(aimed_at);
        for ((name, (a, b)), ((rank, alpha), is_aimed_at)) in modules.iter().zip(settings) {
            if !is_aimed_at {
                problems.push(format!(
                    "{name}: its tensors are here, but the settings do not aim at it, so that PEFT \
                     would leave them out"
                ));
                continue;
            }
            let rank = rank.unwrap_or(self.rank);
            if rank == 0 || !is_lora_pair(a, b, rank) {
                let (a, b) = (&a.shape, &b.shape);
                problems.push(format!("{name}: expected rank {rank}, found {a:?} and {b:?}"));
                continue;
            }
            let factor = self.factor(rank, alpha.unwrap_or(self.alpha));
            found.push((name.clone(), (rank, factor)));
        }
        found
    }
}

impl Plain {
    fn put(&mut self, module: &str, a: Array, b: Array) {
        let [name_a, name_b] = ["A", "B"].map(|which| name(module, which));
        self.arrays.insert(name_a, a);
        self.arrays.insert(name_b, b);
    }
}

fn name(module: &str, which: &str) -> String {
    format!("{}{module}.lora_{which}.weight", keys::PEFT_PREFIX)
}

/// A setting that has a value for each of some patterns.
fn map<T: Copy>(
    config: &Map<String, Value>,
    setting: &str,
    number: impl Fn(&Value) -> Option<T>,
) -> Result<PatternMap<T>, String> {
    let pairs = match config.get(setting).unwrap_or(&Value::Null) {
        Value::Null => Vec::new(),
        Value::Object(pairs) => {
            let pair = |(pattern, value): (&String, &Value)| {
                let value = number(value);
                let value = value.ok_or_else(|| {
                    format!("`{setting}`: the value of `{}` is no number", pattern.escape_debug())
                })?;
                Ok((pattern.clone(), value))
            };
            pairs.iter().map(pair).collect::<Result<_, String>>()?
        }
        _ => return Err(format!("`{setting}` is not a map of patterns")),
    };
    PatternMap::new(pairs).map_err(|reason| format!("`{setting}`: {reason}"))
}

/// The two matrices of each module that has both, and all other tensors.
fn modules(mut arrays: Arrays) -> (BTreeMap<String, (Array, Array)>, Arrays) {
    let module = |key: &String| {
        let module = key.strip_prefix(keys::PEFT_PREFIX)?.strip_suffix(".lora_A.weight")?;
        Some(module.to_owned())
    };
    let names = arrays.keys().filter_map(module).collect::<Vec<_>>();
    let mut found = BTreeMap::new();
    for module in names {
        let [name_a, name_b] = ["A", "B"].map(|which| name(&module, which));
        if let Some(b) = arrays.remove(&name_b)
            && let Some(a) = arrays.remove(&name_a)
        {
            found.insert(module, (a, b));
        }
    }
    (found, arrays)
}

/// Whether every model of a family has as many heads of keys and values as of queries.
fn has_equal_heads(family: &Architecture) -> bool {
    family.name == "gpt2"
}

fn of_head(sizes: Option<&ModelShape>) -> Result<usize> {
    let (to, what) = ("reading LoRA on the output head", "the model's number of layers");
    Ok(sizes.ok_or(Error::MissingBaseInfo { to, what })?.n_layers)
}

/// The rows of each linear layer of a module, or nothing, where they are not the model's.
fn split(
    place: &LinearModule,
    b: Array,
    rank: usize,
    purpose: Purpose<'_>,
) -> Result<Option<Vec<Array>>> {
    let rows = b.values.len() / rank;
    let parts = place.linears.len();
    let sizes = match purpose {
        Purpose::Use(sizes) => sizes,
        Purpose::Summarize => None,
    };
    let counts = match (&place.linears[..], sizes) {
        ([_one], _) => return Ok(Some(vec![b])),
        (linears, Some(sizes)) => {
            linears.iter().map(|&name| sizes.linear_shape(name)[0]).collect::<Vec<_>>()
        }
        // Heads of keys and values may be fewer than those of queries.
        (linears, None)
            if linears.contains(&LinearName::Key)
                && matches!(purpose, Purpose::Use(_))
                && !place.family.is_some_and(has_equal_heads) =>
        {
            let (to, what) = ("reading LoRA on query, key and value in one", "the model's heads");
            return Err(Error::MissingBaseInfo { to, what });
        }
        // To be shown, it does not matter which number is of which.
        (_, None) => {
            (0..parts).map(|part| rows / parts + usize::from(part < rows % parts)).collect()
        }
    };
    if counts.iter().try_fold(0_usize, |sum, &count| sum.checked_add(count)) != Some(rows) {
        return Ok(None);
    }
    let mut values = b.values.into_iter();
    let part = |rows: usize| Array::new([rows, rank], values.by_ref().take(rows * rank).collect());
    Ok(Some(counts.into_iter().map(part).collect()))
}
