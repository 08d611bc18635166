//! Who has gradients, and that every way to them gives the same.

use burn::tensor::{Tensor, TensorData};
use llama::model::{Linear, Weight};
use llama::{LinearName, Llama, Precision};
use testing::{Golden, count_params_with_gradient};
use train::{ModuleGradients, checkpointed_adapter_backward, label_loss};

use crate::tiny::{CASES, golden_prompt_config, open_adapter, open_base, open_base_in};
use crate::{golden_batch, mean_loss};

/// Notes for each layer whether its query already belongs to a graph.
struct Watched<A>(A, std::cell::RefCell<Vec<bool>>);

impl<A: llama::Adapter> llama::Adapter for Watched<A> {
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

        let watched = Watched(adapter.prepare(&llama), std::cell::RefCell::default());
        let loss = label_loss(&llama, &watched, &batch).unwrap();
        // Three layers, the last two adapted: the first adapted layer's own query is still plain.
        assert_eq!(watched.1.into_inner(), [false, false, true]);

        let gradients = loss.backward();
        assert_eq!(count_params_with_gradient(&llama, &gradients), 0);
        assert_eq!(count_params_with_gradient(&adapter, &gradients), 4);
    }
}

/// Checks that the gradients of two ways agree, and are not nothing.
fn assert_same(case: &str, found: &ModuleGradients, expected: &ModuleGradients) {
    assert_eq!(found.iter_named().count(), expected.iter_named().count(), "{case}");
    for ((name, found), (_, expected)) in found.iter_named().zip(expected.iter_named()) {
        let (found, expected) = (found.unwrap().clone(), expected.unwrap().clone());
        testing::assert_close_relative(&format!("{case} {name}"), found, expected, 1e-5);
    }
}

#[test]
fn recomputed_layers_give_the_same_loss_and_gradients() {
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
            let mut found = ModuleGradients::empty(&adapter);
            let loss =
                checkpointed_adapter_backward(&llama, &adapter, &batch, None, labels, &mut found)
                    .unwrap();
            testing::assert_close_relative(&format!("{case} loss"), loss, expected_loss, 1e-5);
            assert_same(case, &found, &expected);
        }
    }
}

/// The same model with its matrices in f32.
fn dense(mut llama: Llama) -> Llama {
    let dense = |weight: &mut Weight| {
        let values = TensorData::new(testing::values(weight.to_dense()), weight.dims());
        *weight = Weight::frozen(values, &weight.device());
    };
    let linear = |linear: &mut Linear| dense(&mut linear.weight);
    dense(&mut llama.embedding);
    llama.head.iter_mut().for_each(linear);
    for layer in &mut llama.layers {
        let (attention, feed_forward) = (&mut layer.attention, &mut layer.feed_forward);
        for own in [&mut attention.query, &mut attention.key, &mut attention.value] {
            linear(own);
        }
        linear(&mut attention.output);
        feed_forward.gate.iter_mut().for_each(linear);
        linear(&mut feed_forward.up);
        linear(&mut feed_forward.down);
    }
    llama
}

#[test]
fn a_quantised_base_gives_the_gradients_of_the_dense_model_of_its_weights() {
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
            let (mut found, labels) = (ModuleGradients::empty(&adapter), batch.n_labels());
            let loss =
                checkpointed_adapter_backward(&llama, &adapter, &batch, None, labels, &mut found)
                    .unwrap();

            let dense = dense(llama);
            let expected = mean_loss(&dense, &adapter, &batch);
            let plain = expected.clone().inner();
            testing::assert_close_relative(&format!("{case} loss"), loss, plain, 1e-5);
            let expected = ModuleGradients::from_grads(&adapter, expected.backward());
            assert_same(case, &found, &expected);
        }
    }
}

#[test]
fn an_f16_base_loses_no_small_gradients() {
    /// Labels of a step, most of them in other batches: each gets a share that f16 cannot hold.
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
            let mut found = ModuleGradients::empty(&adapter);
            checkpointed_adapter_backward(llama, &adapter, &batch, None, LABELS, &mut found)
                .unwrap();
            found
        };
        let base = open_base_in(Precision::F16, case, device);
        // The same weights, rounded to f16, in f32.
        let (found, expected) = (gradients(&base), gradients(&dense(base.clone())));
        for ((name, found), (_, expected)) in found.iter_named().zip(expected.iter_named()) {
            let (found, expected) = (found.unwrap().clone(), expected.unwrap().clone());
            // Devices that multiply in f16 are off by a percent; what vanished would be off by all.
            testing::assert_close_relative(name, found, expected, 5e-2);
        }
    }
}
