//! For models of any family and size: cache, batch and zero gates do not change the results.

use adaption_prompt::{AdaptedLayers, AdapterWeights, AdaptionPromptConfig, Gate, PromptInit};
use burn::tensor::Tensor;
use llama::architecture::ARCHITECTURES;
use llama::config::{BranchPoint, PositionEmbedding};
use llama::{KvCache, Llama, LlamaConfig, NoAdapter};
use proptest::prelude::*;
use testing::assert_close;

use testing::tiny_model as seeded;

/// A small model of any family.
fn config() -> impl Strategy<Value = LlamaConfig> {
    let family = 0..ARCHITECTURES.len();
    let heads = (1..=3_usize, 1..=3_usize, 1..=4_usize);
    let sizes = (1..=3_usize, 4..=20_usize, 1..=12_usize);
    let window = (proptest::option::of(1..=6_usize), 0..=2_usize);
    (family, heads, sizes, window).prop_map(|(family, heads, sizes, window)| {
        let (n_kv_heads, group, half) = heads;
        let (n_layers, d_model, d_ff) = sizes;
        let (sliding_window, full_attention_layers) = window;
        let base = ARCHITECTURES[family].defaults();
        let n_heads = n_kv_heads * group;
        let (head_dim, d_model) = match base.branch {
            BranchPoint::BeforeOutput => (2 * half, d_model),
            // At least 4 elements: a layer norm of two that are nearly equal is 1 or -1, depending
            // on their rounding.
            BranchPoint::AfterOutput => (2 * half.max(2), n_heads * 2 * half.max(2)),
        };
        LlamaConfig {
            n_layers,
            n_heads,
            n_kv_heads,
            head_dim,
            d_model,
            d_ff,
            vocab_size: seeded::VOCAB,
            max_positions: 16,
            sliding_window,
            full_attention_layers,
            ..base
        }
    })
}

/// The hidden states of one row without a cache.
fn alone(llama: &Llama, text: &[u32], adapter: &dyn llama::Adapter) -> Tensor<3> {
    llama.forward(llama.tokens(&[text.to_vec()]).unwrap(), None, adapter).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn padded_chunked_rows_equal_single_rows(
        config in config(),
        lens in proptest::collection::vec(1..=12_usize, 1..=3),
        first in 1..=12_usize,
        per_head in any::<bool>(),
    ) {
        for device in testing::devices() {
            let llama = seeded::model(config.clone(), &device);
            let gate = if per_head { Gate::PerHead } else { Gate::Scalar };
            let shape = AdaptionPromptConfig {
                adapter_len: 3,
                layers: AdaptedLayers::Last(config.n_layers.min(2)),
                gate,
                init: PromptInit { gate: 0.7, ..PromptInit::default() },
                ..Default::default()
            };
            let prompts = AdapterWeights::from(shape.init(&llama, 5, &device).unwrap());
            let prompts = prompts.prepare(&llama);
            let seq = *lens.iter().max().unwrap();
            let texts = (1..).zip(&lens).map(|(seed, &len)| seeded::tokens(seed, len));
            let texts = texts.collect::<Vec<_>>();
            let padding = lens.iter().map(|len| seq - len).collect::<Vec<_>>();
            let rows = texts.iter().zip(&padding);
            let rows = rows.map(|(text, &padding)| [&vec![0; padding][..], text].concat());
            let tokens = llama.tokens(&rows.collect::<Vec<_>>()).unwrap();

            let mut state = KvCache::new(&config, padding.clone(), seq, &device).unwrap();
            let mut pieces = Vec::new();
            let mut from = 0;
            for len in std::iter::once(first.min(seq)).chain(std::iter::repeat(1)) {
                if from == seq {
                    break;
                }
                let piece = tokens.clone().narrow(1, from, len);
                pieces.push(llama.forward(piece, Some(&mut state), &prompts).unwrap());
                from += len;
            }
            let together = Tensor::cat(pieces, 1);
            for (row, (text, &padding)) in texts.iter().zip(&padding).enumerate() {
                let found = together.clone().narrow(0, row, 1).narrow(1, padding, text.len());
                assert_close(&format!("row {row}"), found, alone(&llama, text, &prompts), 2e-4);
            }
        }
    }

    #[test]
    fn zero_gate_equals_the_base_bit_for_bit_for_any_config(config in config(), len in 1..=12_usize) {
        let device = testing::flex();
        let llama = seeded::model(config.clone(), &device);
        let layers = AdaptedLayers::Last(config.n_layers);
        let shape = AdaptionPromptConfig { adapter_len: 2, layers, ..Default::default() };
        let fresh = AdapterWeights::from(shape.init(&llama, 5, &device).unwrap());
        let fresh = fresh.prepare(&llama);
        let text = seeded::tokens(1, len);
        prop_assert_eq!(
            alone(&llama, &text, &fresh).into_data(),
            alone(&llama, &text, &NoAdapter).into_data()
        );
    }

    #[test]
    fn learned_positions_count_from_the_first_real_token(len in 1..=6_usize, pad in 1..=6_usize) {
        let config = seeded::configs().into_iter().find(|c| c.positions == PositionEmbedding::Learned);
        let config = config.unwrap();
        let device = testing::flex();
        let llama = seeded::model(config.clone(), &device);
        let text = seeded::tokens(3, len);
        let tokens = llama.tokens(&[[&vec![9; pad][..], &text].concat()]).unwrap();
        let mut state = KvCache::new(&config, vec![pad], pad + len, &device).unwrap();
        let padded = llama.forward(tokens, Some(&mut state), &NoAdapter).unwrap();
        let found = padded.narrow(1, pad, len);
        assert_close("padded", found, alone(&llama, &text, &NoAdapter), 1e-4);
    }
}
