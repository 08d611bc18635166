//! The loss at the rows of labels, compared with the computation of every row; packed and padded batches
//! compared with single rows.

use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdapterWeights, AdaptionPromptConfig, Gate, LoraConfig, V2Config,
};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use llama::config::ModelShape;
use llama::model::PrefixSharing;
use llama::{Adapter, LinearName, Llama};
use testing::{Golden, assert_close_relative, assert_values_close};
use train::activation_checkpointing::checkpointed_adapter_backward;
use train::{Batch, Example, ModuleGradients, label_loss};

use crate::examples;
use crate::tiny::{CASES, golden_prompt_config, open_adapter, open_base};

/// Moves every parameter away from its initial value, so that nothing in the adapter is closed.
pub fn opened<M: Module>(module: M) -> M {
    struct Open(usize);
    impl ModuleMapper for Open {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.0 += 1;
            let value = param.val();
            let (device, shape) = (value.device(), value.dims());
            let count = shape.iter().product::<usize>();
            let change = (0..count).map(|i| 0.2 * ((i * 7 + self.0 * 13) as f32).sin());
            let change = TensorData::new(change.collect::<Vec<_>>(), shape);
            let value =
                value.inner() + Tensor::from_data(change, &device.clone().without_autodiff());
            Param::from_tensor(if device.is_autodiff() { value.autodiff() } else { value })
        }
    }
    module.map(&mut Open(0))
}

/// Adapters that change the last layer in every way, opened.
fn open_adapters(llama: &Llama, device: &Device) -> Vec<(&'static str, AdapterWeights)> {
    let prompts = || AdaptionPromptConfig {
        adapter_len: 4,
        layers: AdaptedLayers::Last(2),
        gate: Gate::PerHead,
        ..Default::default()
    };
    let shape = ModelShape::from(llama.config());
    let every_linear = LinearName::ALL_IN_LAYER.iter().copied();
    let every_linear = every_linear.filter(|&name| shape.has_linear(0, name)).collect::<Vec<_>>();
    let lora = || LoraConfig { rank: 2, linears: every_linear.clone(), ..Default::default() };
    let all =
        AdapterConfig { v2: Some(V2Config::input_scale()), lora: Some(lora()), ..prompts().into() };
    let configs: [(&str, AdapterConfig); 4] = [
        ("prompts", prompts().into()),
        ("v2", V2Config::paper().into()),
        ("lora", lora().into()),
        ("prompts, v2 and lora", all),
    ];
    let open = |config: AdapterConfig| opened(config.init(llama, 3, device).unwrap());
    configs.into_iter().map(|(name, config)| (name, open(config))).collect()
}

/// Sum of the losses of all labels, with every row of every layer computed.
fn full_loss(llama: &Llama, adapter: &dyn Adapter, examples: &[Example]) -> Tensor<1> {
    let batch = Batch::new(&examples.iter().collect::<Vec<_>>());
    let packed = llama.pack(&batch.inputs(), &PrefixSharing::All).unwrap();
    let mut hidden = llama.embed(packed.tokens.clone(), &packed.context);
    for index in 0..llama.layers.len() {
        hidden = llama.layer(index, hidden, &packed.context, adapter);
    }
    let logits = llama.logits(llama.final_norm(hidden, adapter), adapter);
    let [batch, seq, vocab] = logits.dims();
    let scores =
        log_softmax(logits.reshape([batch * seq, vocab]), 1).reshape([batch * seq * vocab]);
    let labels = examples.iter().zip(&packed.token_rows).flat_map(|(example, rows)| {
        example
            .label_positions()
            .map(|at| (rows[at - 1] * vocab) as i64 + i64::from(example.tokens[at]))
    });
    let labels = labels.collect::<Vec<_>>();
    let count = labels.len();
    let device = llama.device();
    scores.select(0, Tensor::from_data(TensorData::new(labels, [count]), &device)).sum().neg()
}

/// Checks that the gradients of two passes agree to `tolerance` of the largest of all, and each parameter's
/// to ten times that of its own largest. One that is zero but for rounding, such as that of a key's bias, is
/// compared with a tenth of the largest of all.
fn assert_gradients_match(
    what: &str,
    actual: &ModuleGradients,
    expected: &ModuleGradients,
    tolerance: f64,
) {
    let values = |gradients: &ModuleGradients| {
        let named = gradients.iter_named();
        let named =
            named.map(|(name, own)| (name.to_owned(), testing::values(own.unwrap().clone())));
        named.collect::<Vec<_>>()
    };
    let largest = |values: &[f32]| values.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
    let (actual, expected) = (values(actual), values(expected));
    assert_eq!(actual.len(), expected.len(), "{what}");
    let all = expected.iter().map(|(_, own)| largest(own)).fold(0.0, f32::max);
    for ((name, actual), (_, expected)) in actual.iter().zip(&expected) {
        let own = largest(expected).max(0.1 * all);
        for (scale, tolerance) in [(all, tolerance), (own, 10.0 * tolerance)] {
            let scaled =
                |values: &[f32]| values.iter().map(|value| value / scale).collect::<Vec<_>>();
            let (actual, expected) = (scaled(actual), scaled(expected));
            let what = format!("{what} {name}");
            assert_values_close(&what, &actual, &expected, &[actual.len()], tolerance);
        }
    }
}

/// The mean loss and the gradients of some batches of one step.
fn step(
    llama: &Llama,
    adapter: &AdapterWeights,
    batches: &[Vec<&Example>],
) -> (f64, ModuleGradients) {
    let batches = batches.iter().map(|rows| Batch::new(rows)).collect::<Vec<_>>();
    let labels: usize = batches.iter().map(Batch::n_labels).sum();
    let (mut sum, mut gradients) = (0.0, ModuleGradients::empty(adapter));
    for batch in &batches {
        let loss = label_loss(llama, &adapter.prepare(llama), batch).unwrap() / labels as f64;
        sum += f64::from(testing::values(loss.clone().inner())[0]);
        gradients.accumulate(adapter, &mut loss.backward(), 1.0);
    }
    (sum, gradients)
}

#[test]
fn the_loss_at_label_rows_equals_the_computation_of_every_row() {
    for device in testing::devices() {
        for case in ["llama-gqa-tied", "llama-bias", "gpt2"] {
            let llama = open_base(case, &device);
            let examples = examples(5);
            let batch = Batch::new(&examples.iter().collect::<Vec<_>>());
            let labels = batch.n_labels();
            for (name, adapter) in open_adapters(&llama, &device.clone().autodiff()) {
                let what = format!("{case} {name}");
                let full = full_loss(&llama, &adapter.prepare(&llama), &examples) / labels as f64;
                let expected_loss = full.clone().inner();
                let expected = ModuleGradients::from_grads(&adapter, full.backward());

                let loss = label_loss(&llama, &adapter.prepare(&llama), &batch).unwrap();
                let loss = loss / labels as f64;
                let plain = loss.clone().inner();
                assert_close_relative(&format!("{what} loss"), plain, expected_loss.clone(), 1e-6);
                let actual = ModuleGradients::from_grads(&adapter, loss.backward());
                assert_gradients_match(&what, &actual, &expected, 1e-5);

                let mut actual = ModuleGradients::empty(&adapter);
                let loss = checkpointed_adapter_backward(
                    &llama,
                    &adapter,
                    &batch,
                    None,
                    labels,
                    &mut actual,
                );
                let what = format!("{what}, checkpointed");
                let loss = loss.unwrap();
                assert_close_relative(&format!("{what} loss"), loss, expected_loss, 1e-6);
                assert_gradients_match(&what, &actual, &expected, 1e-5);
            }
        }
    }
}

/// Records the number of rows that each layer's down projection computes.
struct RowProbe<A>(A, std::cell::RefCell<Vec<usize>>);

impl<A: Adapter> Adapter for RowProbe<A> {
    fn prompts(&self, layer: usize) -> &[llama::GatedPrompt] {
        self.0.prompts(layer)
    }

    fn linear(
        &self,
        layer: usize,
        name: LinearName,
        input: &Tensor<3>,
        linear: &llama::model::Linear,
    ) -> Option<Tensor<3>> {
        if name == LinearName::Down {
            let [batch, seq, _d_ff] = input.dims();
            self.1.borrow_mut().push(batch * seq);
        }
        self.0.linear(layer, name, input, linear)
    }
}

#[test]
fn the_feed_forward_network_of_the_last_layer_runs_at_label_rows_only() {
    for device in testing::devices() {
        let llama = open_base("llama-gqa-tied", &device);
        let examples = examples(5);
        let batch = Batch::new(&examples.iter().collect::<Vec<_>>());
        let adapter = golden_prompt_config().init(&llama, 3, &device.clone().autodiff()).unwrap();
        let adapter = AdapterWeights::from(adapter);
        let probe = RowProbe(adapter.prepare(&llama), std::cell::RefCell::default());
        label_loss(&llama, &probe, &batch).unwrap();
        let (all, labels) = (batch.n_processed_tokens(&llama), batch.n_labels());
        assert!(labels < all);
        assert_eq!(probe.1.into_inner(), [all, all, labels]);
    }
}

#[test]
fn packed_padded_and_single_rows_give_the_same_loss_and_gradients() {
    for case in CASES {
        // Rows of different lengths, some with a common beginning; a device packs or pads them.
        let mut examples = examples(7);
        let beginning = examples[6].tokens[..4].to_vec();
        for example in &mut examples[2..4] {
            example.tokens[..4].copy_from_slice(&beginning);
        }
        let golden = Golden::open(&format!("{case}/golden.safetensors"));
        let together = [examples.iter().collect::<Vec<_>>()];
        let alone = examples.iter().map(|example| vec![example]).collect::<Vec<_>>();
        let mut on_other_device: Option<(f64, ModuleGradients)> = None;
        for device in testing::devices() {
            let llama = open_base(case, &device);
            let adapter =
                open_adapter(&golden, "", golden_prompt_config(), &llama, &device.autodiff());
            let how = if llama.has_fused_attention() { "packed" } else { "padded" };
            let (loss, gradients) = step(&llama, &adapter, &together);
            let (expected_loss, expected) = step(&llama, &adapter, &alone);
            assert!(
                (loss / expected_loss - 1.0).abs() < 1e-5,
                "{case} {how}: {loss} {expected_loss}"
            );
            assert_gradients_match(&format!("{case} {how}"), &gradients, &expected, 1e-5);
            // Devices round differently.
            if let Some((other_loss, other)) = &on_other_device {
                assert!((loss / other_loss - 1.0).abs() < 1e-5, "{case}: {loss} {other_loss}");
                assert_gradients_match(&format!("{case} on two devices"), &gradients, other, 1e-4);
            }
            on_other_device = Some((loss, gradients));
        }
    }
}
