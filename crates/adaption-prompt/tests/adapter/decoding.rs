//! Decoding with an adapter of nonzero gates: cache and batch do not change the results.

use burn::tensor::Tensor;
use llama::{GenerationConfig, KvCache, Llama, NoAdapter, generate};
use testing::{Golden, assert_close};

use crate::golden_models::{CASES, golden_prompt_config, open_adapter, open_base};

#[test]
fn cached_decoding_equals_uncached() {
    for device in testing::devices() {
        for case in CASES {
            let llama = open_base(case, &device);
            let golden = Golden::open(&format!("{case}/golden.safetensors"));
            let prompts =
                open_adapter(&golden, "", golden_prompt_config(), &llama, &device).prepare(&llama);
            let tokens = golden.int_tensor("input_ids", &device);
            let [batch, seq] = tokens.dims();
            let whole = llama.forward(tokens.clone(), None, &prompts).unwrap();
            // Prefill of seven tokens, then one token at a time.
            let mut state = KvCache::new(llama.config(), vec![0; batch], seq, &device).unwrap();
            let mut pieces = Vec::new();
            let mut from = 0;
            for len in std::iter::once(7).chain(std::iter::repeat_n(1, seq - 7)) {
                let piece = tokens.clone().narrow(1, from, len);
                pieces.push(llama.forward(piece, Some(&mut state), &prompts).unwrap());
                from += len;
            }
            assert_close(case, Tensor::cat(pieces, 1), whole, 1e-4);
        }
    }
}

#[test]
fn batched_row_equals_single_row() {
    for device in testing::devices() {
        for case in CASES {
            let llama: Llama = open_base(case, &device);
            let golden = Golden::open(&format!("{case}/golden.safetensors"));
            let prompts =
                open_adapter(&golden, "", golden_prompt_config(), &llama, &device).prepare(&llama);
            let rows = [vec![3, 1, 4, 1, 5, 9, 2, 6], vec![27, 18], vec![31, 41, 59, 26, 53]];
            let config = GenerationConfig { max_new_tokens: 20, ..Default::default() };
            let together = generate(&llama, &prompts, &rows, &config).unwrap();
            let base = generate(&llama, &NoAdapter, &rows, &config).unwrap();
            assert_ne!(
                together.iter().map(|row| &row.tokens).collect::<Vec<_>>(),
                base.iter().map(|row| &row.tokens).collect::<Vec<_>>(),
                "{case}: the adapter changes nothing"
            );
            for (row, found) in rows.iter().zip(together) {
                let alone = generate(&llama, &prompts, std::slice::from_ref(row), &config).unwrap();
                assert_eq!(found.tokens, alone[0].tokens, "{case}");
            }
        }
    }
}
