//! Attention on GPUs compared with attention on the CPU: values and gradients, with open gates.

use std::sync::Arc;

use burn::tensor::{Device, Distribution, Tensor, TensorData};
use kernels::{
    AttentionDims, DeviceTables, GatedPrompt, GpuKernel, RotaryTable, Sequence, SequenceLayout,
    attention, count_launches, has_fused_attention,
};
use testing::{assert_values_close, flex, values};

use super::devices;

/// An attention of sequences and a prompt.
#[derive(Debug, Clone)]
struct Case {
    /// Query heads, KV heads, width.
    heads: [usize; 3],
    /// Tokens of each sequence.
    lens: Vec<usize>,
    /// First tokens that all sequences share.
    shared: usize,
    window: Option<usize>,
    rotary: bool,
    /// Tokens of the prompt; no prompt if there are none.
    prompt: usize,
    /// Whether each sequence has its own prompt.
    own_prompts: bool,
    /// Valid tokens of each prompt.
    prompt_lens: Option<Vec<usize>>,
}

impl Case {
    fn new(heads: [usize; 3], lens: &[usize]) -> Self {
        Self {
            heads,
            lens: lens.to_vec(),
            shared: 0,
            window: None,
            rotary: true,
            prompt: 10,
            own_prompts: false,
            prompt_lens: None,
        }
    }

    fn dims(&self) -> AttentionDims {
        let [heads, kv_heads, head_dim] = self.heads;
        AttentionDims { heads, kv_heads, head_dim }
    }

    fn rows(&self) -> usize {
        let own = self.lens.iter().skip(1).map(|len| len - self.shared).sum::<usize>();
        self.lens[0] + own
    }

    /// A layout that no pass has used yet.
    fn layout(&self) -> SequenceLayout {
        let (mut first_token, mut rows) = (0, self.lens[0]);
        let (mut token_rows, mut positions) = (Vec::new(), (0..self.lens[0]).collect::<Vec<_>>());
        let mut sequences = Vec::new();
        for (index, &len) in self.lens.iter().enumerate() {
            sequences.push(Sequence { first_row: first_token, len, past: 0, padding: 0 });
            first_token += len;
            if index == 0 {
                token_rows.extend(0..len);
                continue;
            }
            token_rows.extend((0..self.shared).chain(rows..rows + len - self.shared));
            positions.extend(self.shared..len);
            rows += len - self.shared;
        }
        let half = self.heads[2] / 2;
        let angles = positions
            .iter()
            .flat_map(|&position| (0..half).map(move |i| position as f32 * 0.5_f32.powi(i as i32)));
        let (sin, cos) = angles.map(f32::sin_cos).unzip();
        SequenceLayout {
            sequences: Arc::new(sequences),
            token_rows: (self.shared > 0).then(|| Arc::new(token_rows)),
            block_tables: None,
            rotary_table: self.rotary.then(|| Arc::new(RotaryTable::new(cos, sin))),
            device_tables: DeviceTables::default(),
        }
    }

    /// Random queries, keys and values, prompt, gates, and the gradient of the output.
    fn inputs(&self) -> Vec<TensorData> {
        let [heads, kv_heads, head_dim] = self.heads;
        let batches = if self.own_prompts { self.lens.len() } else { 1 };
        let rows = self.rows();
        let prompt = self.prompt.max(1);
        let shapes = [
            vec![rows, (heads + 2 * kv_heads) * head_dim],
            vec![batches, kv_heads, prompt, head_dim],
            vec![batches, kv_heads, prompt, head_dim],
            vec![batches, heads, 1, 1],
            vec![rows, heads * head_dim],
        ];
        let random = |shape: Vec<usize>| {
            let len = shape.iter().product::<usize>();
            let tensor = Tensor::<1>::random([len], Distribution::Normal(0.0, 1.0), &flex());
            TensorData::new(values(tensor), shape)
        };
        shapes.map(random).to_vec()
    }

    /// The output, and the gradients of all inputs, with the number of launches forward and backward.
    /// Without `track_qkv` only the prompt has gradients.
    fn compute(
        &self,
        inputs: &[TensorData],
        track_qkv: bool,
        device: &Device,
    ) -> (Vec<Vec<f32>>, [usize; 2]) {
        let layout = self.layout();
        let leaf4 = |index: usize| Tensor::<4>::from_data(inputs[index].clone(), device).autodiff();
        let qkv = Tensor::<2>::from_data(inputs[0].clone(), device);
        let qkv = if track_qkv { qkv.autodiff().require_grad() } else { qkv };
        let [key, value, gate] = [1, 2, 3].map(|index| leaf4(index).require_grad());
        let prompt = GatedPrompt {
            key: key.clone(),
            value: value.clone(),
            gate: gate.clone(),
            lens: self.prompt_lens.clone(),
        };
        let prompt = (self.prompt > 0).then_some(&prompt);
        let (out, forward) =
            count_launches(|| attention(qkv.clone(), self.dims(), &layout, self.window, prompt));
        let d_out = Tensor::<2>::from_data(inputs[4].clone(), device);
        let loss = (out.clone() * Tensor::from_inner(d_out)).sum();
        let (gradients, backward) = count_launches(|| loss.backward());
        let mut results = vec![values(out.inner())];
        if track_qkv {
            results.push(values(qkv.grad(&gradients).expect("a gradient of qkv")));
        }
        if prompt.is_some() {
            let gradients = [key, value, gate].map(|leaf| leaf.grad(&gradients));
            results.extend(gradients.map(|gradient| values(gradient.expect("of the prompt"))));
        }
        (results, [forward.fused, backward.fused])
    }

    fn check(&self) {
        self.check_with(true);
    }

    fn check_with(&self, track_qkv: bool) {
        let inputs = self.inputs();
        let (expected, _) = self.compute(&inputs, track_qkv, &flex());
        for device in devices(GpuKernel::Attention) {
            assert!(has_fused_attention(&device, self.dims()), "{self:?}");
            let (found, launches) = self.compute(&inputs, track_qkv, &device);
            let prompt = match (self.prompt > 0, self.own_prompts) {
                (false, _) => 0,
                (true, own) => {
                    if own || self.lens.len() == 1 {
                        1
                    } else {
                        2
                    }
                }
            };
            let expected_launches = [1, 1 + usize::from(track_qkv) + prompt];
            assert_eq!(launches, expected_launches, "{self:?}");
            let names = ["output", "d_qkv", "d_key", "d_value", "d_gate"];
            let skipped = usize::from(!track_qkv);
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let name = names[if index == 0 { 0 } else { index + skipped }];
                let scale = expected.iter().fold(1.0_f32, |max, value| max.max(value.abs()));
                let [found, expected] =
                    [found, expected].map(|values| values.iter().map(|value| value / scale));
                let [found, expected] = [found.collect::<Vec<_>>(), expected.collect()];
                let what = format!("{name} of {self:?}");
                assert_values_close(&what, &found, &expected, &[found.len()], 2e-5);
            }
        }
    }
}

#[test]
fn sequences_of_1_to_300_tokens() {
    Case::new([9, 3, 64], &[300, 1, 31, 32, 33]).check();
}

#[test]
fn heads_of_every_width() {
    for head_dim in [2, 16, 20, 34, 50, 80, 96, 128] {
        Case::new([2, 1, head_dim], &[40, 7]).check();
    }
}

#[test]
fn groups_of_one_to_eight_heads() {
    for heads in [[2, 2, 16], [4, 2, 16], [3, 1, 16], [10, 2, 16], [8, 1, 16]] {
        Case::new(heads, &[19, 5]).check();
    }
}

#[test]
fn sliding_windows() {
    for window in [1, 2, 17, 40, 1000] {
        Case { window: Some(window), ..Case::new([4, 2, 16], &[70, 16]) }.check();
    }
}

#[test]
fn sequences_with_a_shared_prefix() {
    for shared in [1, 5, 40] {
        Case { shared, ..Case::new([4, 2, 16], &[60, 45, 40, 41]) }.check();
        let window = Some(20);
        Case { shared, window, ..Case::new([4, 2, 16], &[60, 45, 40, 41]) }.check();
    }
}

#[test]
fn prompts_of_any_length_and_number() {
    for prompt in [0, 1, 33, 100] {
        Case { prompt, ..Case::new([4, 2, 16], &[9, 20]) }.check();
        if prompt > 0 {
            Case { prompt, own_prompts: true, ..Case::new([4, 2, 16], &[9, 20]) }.check();
            Case { prompt, ..Case::new([4, 2, 16], &[9]) }.check();
        }
    }
}

#[test]
fn prompts_of_different_lengths_in_a_batch() {
    Case {
        prompt: 40,
        own_prompts: true,
        prompt_lens: Some(vec![40, 1, 33]),
        ..Case::new([4, 2, 16], &[9, 20, 1])
    }
    .check();
}

#[test]
fn positions_without_rotation() {
    Case { rotary: false, ..Case::new([4, 4, 16], &[9, 20]) }.check();
}

#[test]
fn a_prompt_has_gradients_where_queries_have_none() {
    Case::new([4, 2, 16], &[9, 20]).check_with(false);
}

#[test]
fn the_same_input_gives_the_same_bits() {
    let case = Case::new([4, 2, 16], &[70, 33]);
    let inputs = case.inputs();
    for device in devices(GpuKernel::Attention) {
        let [first, second] = [0, 1].map(|_| case.compute(&inputs, true, &device));
        assert!(first == second);
    }
}
