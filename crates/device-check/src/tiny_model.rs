//! A tiny model: its logits, and a training step of an adapter.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::path::Path;

use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdapterWeights, AdaptionPromptConfig, Gate, GateActivation,
    PromptInit, PromptProjection,
};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use checkpoint::{TensorSource, TensorSpec};
use llama::weights;
use llama::{KvCache, Llama, LlamaConfig, NoAdapter, Precision};

use train::{Batch, Example, ModuleGradients, OptimizerConfig, Result, label_loss};

use super::named_values::{NamedValues, random_values};

/// Three sequences.
const TOKENS: [[u32; 9]; 3] = [
    [3, 14, 15, 9, 26, 5, 35, 8, 9],
    [7, 9, 32, 38, 4, 6, 26, 43, 3],
    [38, 32, 7, 9, 5, 2, 8, 8, 4],
];

/// Two query heads per key head; small enough for any device.
fn tiny_config() -> LlamaConfig {
    LlamaConfig {
        n_layers: 3,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 8,
        d_model: 32,
        d_ff: 48,
        vocab_size: 50,
        max_positions: 16,
        ..LlamaConfig::default()
    }
}

/// Weights derived from their names, large enough for uneven attention.
struct HashedWeights(BTreeMap<String, Vec<usize>>);

impl TensorSource for HashedWeights {
    fn path(&self) -> &Path {
        Path::new("the model of the device check")
    }

    fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.0
    }

    fn read(&self, name: &str) -> checkpoint::Result<TensorData> {
        let shape = &self.0[name];
        let mut hasher = fnv::FnvHasher::default();
        name.hash(&mut hasher);
        let mut values = random_values(hasher.finish(), shape.iter().product());
        // Matrices have mean 0, norms mean 1.
        let (mean, scale) = if shape.len() > 1 { (0.0, 0.35) } else { (1.0, 0.5) };
        for value in &mut values {
            *value = mean + scale * *value;
        }
        Ok(TensorData::new(values, shape.clone()))
    }
}

fn tiny_model(precision: Precision, device: &Device) -> Result<Llama> {
    let specs = weights::expected_tensors(&tiny_config()).into_iter();
    let shapes = specs.map(|TensorSpec { name, shape }| (name, shape)).collect();
    Ok(weights::load(tiny_config(), &HashedWeights(shapes), precision, device)?)
}

/// Grouped-query attention: a full forward pass, and prefill and decode with padding and masks.
pub fn attention(device: &Device) -> Result<Vec<NamedValues>> {
    full_and_cached_logits(&tiny_model(Precision::F32, device)?)
}

fn full_and_cached_logits(llama: &Llama) -> Result<Vec<NamedValues>> {
    let rows = |from: usize, to: usize| TOKENS.map(|row| row[from..to].to_vec());
    let logits = |hidden| llama.logits(hidden, &NoAdapter);
    let whole = llama.forward(llama.tokens(&rows(0, 9))?, None, &NoAdapter)?;
    let mut results = vec![NamedValues::from_tensor("full forward", logits(whole))?];
    let mut state = KvCache::new(llama.config(), vec![2, 0, 1], 9, &llama.device())?;
    for (name, from, to) in [("prefill", 0, 7), ("decode 1", 7, 8), ("decode 2", 8, 9)] {
        let tokens = llama.tokens(&rows(from, to))?;
        let hidden = llama.forward(tokens, Some(&mut state), &NoAdapter)?;
        // Positions of padding have no meaning.
        let last = hidden.narrow(1, to - from - 1, 1);
        results.push(NamedValues::from_tensor(format!("{name}, padded"), logits(last))?);
    }
    Ok(results)
}

/// A training step of an adapter with open gates: loss, gradients, and changes by AdamW.
pub fn training_step(device: &Device) -> Result<Vec<NamedValues>> {
    adapter_step(&tiny_model(Precision::F32, device)?)
}

fn adapter_step(llama: &Llama) -> Result<Vec<NamedValues>> {
    /// Large enough that rounding does not hide the changes.
    const LEARNING_RATE: f64 = 1.0;
    let device = llama.device();
    let prompts = AdaptionPromptConfig {
        adapter_len: 5,
        layers: AdaptedLayers::Last(2),
        gate: Gate::PerHead,
        activation: GateActivation::Tanh,
        factor: true,
        init: PromptInit { gate: 0.3, gate_std: 0.1, ..PromptInit::default() },
        projection: PromptProjection::Adapted,
    };
    let adapter = AdapterConfig::from(prompts).init(llama, 1, &device.autodiff())?;
    let examples = [(9, 3), (6, 2), (4, 1)].iter().zip(TOKENS).map(|(&(len, labels_from), row)| {
        Example::with_labels_from(row[..len].to_vec(), labels_from)
    });
    let examples = examples.collect::<Vec<_>>();
    let batch = Batch::new(&examples.iter().collect::<Vec<_>>());

    let loss = label_loss(llama, &adapter.prepare(llama), &batch)? / batch.n_labels() as f64;
    let mut results = vec![NamedValues::from_tensor("loss", loss.clone().inner())?];
    let gradients = ModuleGradients::from_grads(&adapter, loss.backward());
    for (name, gradient) in gradients.iter_named() {
        if let Some(gradient) = gradient {
            results
                .push(NamedValues::from_tensor(format!("gradient of {name}"), gradient.clone())?);
        }
    }
    // AdamW's first step has the size of the learning rate for any gradient, so the rounding of a
    // gradient near 0 would decide its direction. A large epsilon makes the step smooth.
    let config = OptimizerConfig { epsilon: 0.1, ..OptimizerConfig::default() };
    let norm = gradients.norm();
    let before = parameter_values(&adapter)?;
    let adapter = config.init().step(adapter, gradients, &norm, LEARNING_RATE);
    let after = parameter_values(&adapter)?;
    results.extend(before.into_iter().zip(after).map(|(before, after)| {
        let change = after.values.iter().zip(&before.values).map(|(after, before)| after - before);
        NamedValues { name: format!("step of {}", after.name), values: change.collect() }
    }));
    Ok(results)
}

/// The values of every parameter of an adapter.
fn parameter_values(adapter: &AdapterWeights) -> Result<Vec<NamedValues>> {
    struct CollectValues {
        path: Vec<String>,
        values: Result<Vec<NamedValues>>,
    }
    impl ModuleVisitor for CollectValues {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Ok(all) = &mut self.values {
                match NamedValues::from_tensor(self.path.join("."), param.val().inner()) {
                    Ok(numbers) => all.push(numbers),
                    Err(error) => self.values = Err(error),
                }
            }
        }

        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
    }
    let mut values = CollectValues { path: Vec::new(), values: Ok(Vec::new()) };
    adapter.visit(&mut values);
    values.values
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::check_cases::{CHECK_CASES, CheckCase};
    use super::*;

    fn part(name: &str) -> &'static CheckCase {
        CHECK_CASES.iter().find(|part| part.name == name).unwrap()
    }

    #[test]
    fn cached_decoding_equals_the_full_forward() {
        let results = attention(&testing::flex()).unwrap();
        let vocab = tiny_config().vocab_size;
        // The last position of the sequence without padding.
        let whole = &results[0].values[(9 + 8) * vocab..][..vocab];
        let other = &results[3].values[vocab..][..vocab];
        testing::assert_values_close("logits", other, whole, &[vocab], 1e-5);
    }

    #[test]
    fn f16_weights_are_classified_as_reduced_precision() {
        let flex = testing::flex();
        let (exact, rounded) =
            (tiny_model(Precision::F32, &flex), tiny_model(Precision::F16, &flex));
        let (exact, rounded) = (exact.unwrap(), rounded.unwrap());
        let result = part("attention").compare(
            &full_and_cached_logits(&rounded).unwrap(),
            &full_and_cached_logits(&exact).unwrap(),
        );
        assert_eq!(result.verdict, Verdict::ReducedPrecision, "{result:?}");
        let steps = (adapter_step(&rounded).unwrap(), adapter_step(&exact).unwrap());
        let result = part("training step").compare(&steps.0, &steps.1);
        assert_eq!(result.verdict, Verdict::ReducedPrecision, "{result:?}");
    }

    #[test]
    fn one_wrong_weight_is_detected() {
        let flex = testing::flex();
        let correct = tiny_model(Precision::F32, &flex).unwrap();
        let mut wrong = correct.clone();
        let value = &mut wrong.layers[1].attention.value.weight;
        *value = value.to_dense().slice_fill([3..4, 5..6], 0.5).into();
        let result = part("attention").compare(
            &full_and_cached_logits(&wrong).unwrap(),
            &full_and_cached_logits(&correct).unwrap(),
        );
        assert_eq!(result.verdict, Verdict::Wrong, "{result:?}");
        let steps = (adapter_step(&wrong).unwrap(), adapter_step(&correct).unwrap());
        let result = part("training step").compare(&steps.0, &steps.1);
        assert_eq!(result.verdict, Verdict::Wrong, "{result:?}");
    }
}
