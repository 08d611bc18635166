//! Changes of linear layers and norms, by the parts of one adapter or of several that are mixed.
//!
//! ```text
//! input ─► V2's input scale ─┬─► linear layer ─► + ─► V2's bias and output scale ─► output
//!                            └─► LoRA ───────────┘
//! ```

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;
use llama::model::{Linear, Norm, NormName, NormWeights};
use llama::{Adapter, LinearName};

use super::weights::AdapterWeights;
use crate::part::PartWeights;

/// The modifiers of an adapter or a mix. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Modifiers(Arc<Vec<WeightedModifiers>>);

/// The parts of one adapter that modify linear layers and norms, and the adapter's weight in a mix.
#[derive(Debug, Clone)]
struct WeightedModifiers {
    weight: f64,
    parts: AdapterWeights,
}

impl Modifiers {
    /// The given parts of one adapter.
    pub fn new(parts: AdapterWeights) -> Self {
        if parts.parts().is_empty() {
            return Self::default();
        }
        Self(Arc::new(vec![WeightedModifiers { weight: 1.0, parts }]))
    }

    /// The same changes multiplied by `weight`.
    pub fn scaled(self, weight: f64) -> Self {
        self.map(|own| WeightedModifiers { weight: own.weight * weight, ..own })
    }

    /// The sum of the changes of both.
    pub fn merged_with(self, other: Self) -> Self {
        let mut both = Arc::unwrap_or_clone(self.0);
        both.extend(Arc::unwrap_or_clone(other.0));
        Self(Arc::new(both))
    }

    /// The same changes with matrices packed for the device's kernels, if it has such.
    pub fn packed(self) -> Self {
        self.map(|own| WeightedModifiers { parts: own.parts.packed(), ..own })
    }

    fn map(self, change: impl Fn(WeightedModifiers) -> WeightedModifiers) -> Self {
        Self(Arc::new(Arc::unwrap_or_clone(self.0).into_iter().map(change).collect()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both are none, or clones of the same modifiers.
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_empty() && other.is_empty() || Arc::ptr_eq(&self.0, &other.0)
    }

    /// Size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        let bytes = |own: &WeightedModifiers| {
            let packed = own.parts.parts().into_iter().map(|(_, part)| part.packed_bytes());
            own.parts.num_params() * size_of::<f32>() + packed.sum::<usize>()
        };
        self.0.iter().map(bytes).sum()
    }

    pub fn modifies_linear(&self, layer: usize, name: LinearName) -> bool {
        self.0.iter().any(|own| own.modifies_linear(layer, name))
    }

    /// The change of a linear layer for some rows; `None` if there is none.
    ///
    /// # Shapes
    /// - `input`: `[batch, seq, in]`
    pub fn linear_change(
        &self,
        layer: usize,
        name: LinearName,
        input: &Tensor<3>,
    ) -> Option<LinearChange<'_>> {
        let modifiers = self.0.iter().filter(|own| own.modifies_linear(layer, name));
        let modifiers = modifiers.collect::<Vec<_>>();
        let is_mix = match modifiers[..] {
            [] => return None,
            [single] => single.weight != 1.0,
            _ => true,
        };
        let mut layer_inputs = if is_mix { vec![input.clone()] } else { Vec::new() };
        let terms = modifiers.into_iter().map(|modifiers| {
            let mut part_inputs = modifiers.part_inputs(layer, name, input.clone());
            let layer_input = part_inputs.pop().expect("the layer's own input is the last");
            let product = if is_mix && !modifiers.modifies_input(layer, name) {
                0
            } else {
                layer_inputs.push(layer_input);
                layer_inputs.len() - 1
            };
            Term { modifiers, part_inputs, product }
        });
        let terms = terms.collect();
        Some(LinearChange { layer, name, is_mix, layer_inputs, terms })
    }
}

impl Adapter for Modifiers {
    fn linear(
        &self,
        layer: usize,
        name: LinearName,
        input: &Tensor<3>,
        linear: &Linear,
    ) -> Option<Tensor<3>> {
        let change = self.linear_change(layer, name, input)?;
        let products = change.layer_inputs.iter().map(|input| linear.forward(input.clone()));
        let products = products.collect::<Vec<_>>();
        Some(change.output(&products))
    }

    fn norm(&self, layer: usize, name: NormName, norm: &Norm) -> Option<NormWeights> {
        let weights = self.0.iter().filter_map(|own| {
            let weights = own.norm(layer, name)?;
            Some((own.weight, weights))
        });
        let weights = weights.collect::<Vec<_>>();
        match &weights[..] {
            [] => None,
            [(weight, single)] if *weight == 1.0 => {
                // If only the weight was trained, the norm keeps its bias.
                let bias = single.bias.clone().or_else(|| norm.weights().bias);
                Some(NormWeights { bias, ..single.clone() })
            }
            several => Some(mix_norm_weights(several, norm)),
        }
    }
}

/// The change of a linear layer for some rows: what the layer is multiplied with, and what becomes of the
/// products. Several changes can share one product of all their rows.
#[derive(Debug)]
pub(super) struct LinearChange<'a> {
    layer: usize,
    name: LinearName,
    /// Whether the terms are weighted differences from the layer's output, which is the first product.
    is_mix: bool,
    layer_inputs: Vec<Tensor<3>>,
    terms: Vec<Term<'a>>,
}

/// The change by one adapter.
#[derive(Debug)]
struct Term<'a> {
    modifiers: &'a WeightedModifiers,
    /// Input of each part, the outermost first.
    part_inputs: Vec<Tensor<3>>,
    /// Index of the layer's product that the parts modify.
    product: usize,
}

impl LinearChange<'_> {
    /// Inputs of the layer, each `[batch, seq, in]`. [`output`](Self::output) takes their products.
    pub fn layer_inputs(&self) -> &[Tensor<3>] {
        &self.layer_inputs
    }

    /// Whether the only input of the layer is the unchanged one.
    pub fn keeps_input(&self) -> bool {
        !self.terms.iter().any(|own| own.modifiers.modifies_input(self.layer, self.name))
    }

    /// The changed output of the layer, `[batch, seq, out]`.
    pub fn output(self, products: &[Tensor<3>]) -> Tensor<3> {
        let Self { layer, name, is_mix, terms, .. } = self;
        let mut outputs = terms.into_iter().map(|Term { modifiers, part_inputs, product }| {
            let product = products[product].clone();
            (modifiers.weight, modifiers.output(layer, name, part_inputs, product))
        });
        if is_mix {
            let base = &products[0];
            return outputs.fold(base.clone(), |sum, (weight, output)| {
                sum + (output - base.clone()) * weight
            });
        }
        let (_one, output) = outputs.next().expect("there is a term");
        output
    }
}

impl WeightedModifiers {
    /// Parts that modify a linear layer, the outermost first.
    fn parts_on(&self, layer: usize, name: LinearName) -> Vec<&dyn PartWeights> {
        let parts = self.parts.parts().into_iter().map(|(_, part)| part);
        parts.filter(|part| part.modifies_linear(layer, name)).collect()
    }

    fn modifies_linear(&self, layer: usize, name: LinearName) -> bool {
        self.parts.parts().into_iter().any(|(_, part)| part.modifies_linear(layer, name))
    }

    fn modifies_input(&self, layer: usize, name: LinearName) -> bool {
        self.parts_on(layer, name).into_iter().any(|part| part.modifies_input(layer, name))
    }

    /// Input of each part, the outermost first, and last that of the layer.
    fn part_inputs(&self, layer: usize, name: LinearName, input: Tensor<3>) -> Vec<Tensor<3>> {
        let mut inputs = vec![input.clone()];
        self.parts_on(layer, name).into_iter().fold(input, |input, part| {
            let input = part.linear_input(layer, name, input);
            inputs.push(input.clone());
            input
        });
        inputs
    }

    /// The layer's product as all parts modify it, the innermost first.
    fn output(
        &self,
        layer: usize,
        name: LinearName,
        part_inputs: Vec<Tensor<3>>,
        product: Tensor<3>,
    ) -> Tensor<3> {
        let parts = self.parts_on(layer, name).into_iter().zip(part_inputs).rev();
        parts.fold(product, |output, (part, input)| part.linear_output(layer, name, input, output))
    }

    fn norm(&self, layer: usize, name: NormName) -> Option<NormWeights> {
        self.parts.parts().into_iter().find_map(|(_, part)| part.norm(layer, name))
    }
}

/// The base's norm weights plus the weighted differences of all others from them.
fn mix_norm_weights(others: &[(f64, NormWeights)], norm: &Norm) -> NormWeights {
    let NormWeights { weight: base, bias: base_bias } = norm.weights();
    let mix = |base: Tensor<3>, field: &dyn Fn(&NormWeights) -> Option<Tensor<3>>| {
        others.iter().fold(base.clone(), |sum, (weight, other)| match field(other) {
            Some(own) => sum + (own - base.clone()) * *weight,
            None => sum,
        })
    };
    NormWeights {
        weight: mix(base, &|own| Some(own.weight.clone())),
        bias: base_bias.map(|base| mix(base, &|own| own.bias.clone())),
    }
}
