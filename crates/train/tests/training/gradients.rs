//! Which parameters have gradients, and that activation checkpointing and quantized bases give the
//! same gradients.

use burn::tensor::{Tensor, TensorData};
use llama::model::{Linear, Weight};
use llama::{LinearName, Llama, Precision};
use testing::{Golden, count_params_with_gradient};
use train::activation_checkpointing::checkpointed_adapter_backward;
use train::{ModuleGradients, label_loss};

use crate::tiny::{CASES, golden_prompt_config, open_adapter, open_base, open_base_in};
use crate::{golden_batch, mean_loss};

/// Records for each layer whether the input of its query projection is tracked.
struct GraphProbe<A>(A, std::cell::RefCell<Vec<bool>>);

impl<A: llama::Adapter> llama::Adapter for GraphProbe<A> {
    fn prompts(&self, layer: usize) -> &[llama::GatedPrompt] {
        self.0.prompts(layer)
    }

    fn linear(
        &self,
        layer: usize,
        name: LinearName,
        input: &Tensor<3>,
        linear: &Linear,
    ) -> Option<Tensor<3>> {
        if name == LinearName::Query {
            self.1.borrow_mut().push(input.is_tracked());
        }
        self.0.linear(layer, name, input, linear)
    }
}

#[test]
fn only_the_adapter_has_gradients_and_nothing_below_it_has_a_graph() {
    for device in testing::devices() {
        let llama = open_base("llama-gqa-tied", &device);
        let golden = Golden::open("llama-gqa-tied/golden.safetensors");
        let adapter =
            open_adapter(&golden, "", golden_prompt_config(), &llama, &device.clone().autodiff());
        let batch = golden_batch(&golden);

        let probe = GraphProbe(adapter.prepare(&llama), std::cell::RefCell::default());
        let loss = label_loss(&llama, &probe, &batch).unwrap();
        // Three layers, the last two adapted: the input of the first adapted layer is not tracked.
        assert_eq!(probe.1.into_inner(), [false, false, true]);

        let gradients = loss.backward();
        assert_eq!(count_params_with_gradient(&llama, &gradients), 0);
        assert_eq!(count_params_with_gradient(&adapter, &gradients), 4);
    }
}

/// Checks that all gradients exist and agree.
fn assert_gradients_match(case: &str, actual: &ModuleGradients, expected: &ModuleGradients) {
    assert_eq!(actual.iter_named().count(), expected.iter_named().count(), "{case}");
    for ((name, actual), (_, expected)) in actual.iter_named().zip(expected.iter_named()) {
        let (actual, expected) = (actual.unwrap().clone(), expected.unwrap().clone());
        testing::assert_close_relative(&format!("{case} {name}"), actual, expected, 1e-5);
    }
}

#[test]
fn activation_checkpointing_gives_the_same_loss_and_gradients() {
    for device in testing::devices() {
        for case in CASES {
            let llama = open_base(case, &device);
            let golden = Golden::open(&format!("{case}/golden.safetensors"));
            let device = device.clone().autodiff();
            let adapter = open_adapter(&golden, "", golden_prompt_config(), &llama, &device);
            let batch = golden_batch(&golden);
            let labels = batch.n_labels();

            let loss = mean_loss(&llama, &adapter, &batch);
            let expected_loss = loss.clone().inner();
            let expected = ModuleGradients::from_grads(&adapter, loss.backward());
            let mut actual = ModuleGradients::empty(&adapter);
            let loss =
                checkpointed_adapter_backward(&llama, &adapter, &batch, None, labels, &mut actual)
                    .unwrap();
            testing::assert_close_relative(&format!("{case} loss"), loss, expected_loss, 1e-5);
            assert_gradients_match(case, &actual, &expected);
        }
    }
}

/// A model with all matrices dequantized to f32.
fn to_dense(mut llama: Llama) -> Llama {
    let dense = |weight: &mut Weight| {
        let values = TensorData::new(testing::values(weight.to_dense()), weight.dims());
        *weight = Weight::frozen(values, &weight.device());
    };
    let linear = |linear: &mut Linear| dense(&mut linear.weight);
    dense(&mut llama.embedding);
    llama.head.iter_mut().for_each(linear);
    for layer in &mut llama.layers {
        let (attention, feed_forward) = (&mut layer.attention, &mut layer.feed_forward);
        for projection in [&mut attention.query, &mut attention.key, &mut attention.value] {
            linear(projection);
        }
        linear(&mut attention.output);
        feed_forward.gate.iter_mut().for_each(linear);
        linear(&mut feed_forward.up);
        linear(&mut feed_forward.down);
    }
    llama
}

#[test]
fn a_quantized_base_gives_the_gradients_of_its_dequantized_model() {
    for device in testing::devices() {
        for case in CASES {
            let llama = open_base_in(Precision::Bits4, case, &device);
            let golden = Golden::open(&format!("{case}/golden.safetensors"));
            let adapter = open_adapter(
                &golden,
                "",
                golden_prompt_config(),
                &llama,
                &device.clone().autodiff(),
            );
            let batch = golden_batch(&golden);
            let (mut actual, labels) = (ModuleGradients::empty(&adapter), batch.n_labels());
            let loss =
                checkpointed_adapter_backward(&llama, &adapter, &batch, None, labels, &mut actual)
                    .unwrap();

            let dense = to_dense(llama);
            let expected = mean_loss(&dense, &adapter, &batch);
            let plain = expected.clone().inner();
            testing::assert_close_relative(&format!("{case} loss"), loss, plain, 1e-5);
            let expected = ModuleGradients::from_grads(&adapter, expected.backward());
            assert_gradients_match(case, &actual, &expected);
        }
    }
}

#[test]
fn loss_scaling_keeps_small_gradients_with_an_f16_base() {
    /// Labels of a step, most of them in other batches: the gradient of one label underflows in f16.
    const LABELS: usize = 1_000_000;
    for device in testing::devices().iter().filter(|device| Precision::F16.is_supported(device)) {
        let case = "llama-gqa-tied";
        let golden = Golden::open(&format!("{case}/golden.safetensors"));
        let batch = golden_batch(&golden);
        let gradients = |llama: &Llama| {
            let adapter = open_adapter(
                &golden,
                "",
                golden_prompt_config(),
                llama,
                &device.clone().autodiff(),
            );
            let mut actual = ModuleGradients::empty(&adapter);
            checkpointed_adapter_backward(llama, &adapter, &batch, None, LABELS, &mut actual)
                .unwrap();
            actual
        };
        let base = open_base_in(Precision::F16, case, device);
        // The same weights, rounded to f16, as f32.
        let (actual, expected) = (gradients(&base), gradients(&to_dense(base.clone())));
        for ((name, actual), (_, expected)) in actual.iter_named().zip(expected.iter_named()) {
            let (actual, expected) = (actual.unwrap().clone(), expected.unwrap().clone());
            // Devices that multiply in f16 differ by a percent; an underflow would differ by 100 %.
            testing::assert_close_relative(name, actual, expected, 5e-2);
        }
    }
}
