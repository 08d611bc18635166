//! Keys of `run.json` ─► the options that set them, for runs that are resumed with other settings

use train::Error;

/// Keys and their options. A key stands for all keys below it, too; the longest one counts.
const OPTIONS: &[(&str, &str)] = &[
    ("model", "--model"),
    ("precision", "--precision"),
    ("train_rows", "rows of --data"),
    ("eval_rows", "rows of --eval-data"),
    ("data_hash", "contents of --data and --eval-data"),
    ("method", "--method"),
    ("method.adapter.prompts.adapter_len", "--adapter-len"),
    ("method.adapter.prompts.layers", "--adapter-layers"),
    ("method.adapter.prompts.layers.chosen", "--layers"),
    ("method.adapter.prompts.gate", "--gate"),
    ("method.adapter.prompts.activation", "--tanh"),
    ("method.adapter.prompts.factor", "--gate-factor"),
    ("method.adapter.prompts.init.prompt_std", "--prompt-init-std"),
    ("method.adapter.prompts.init.gate_std", "--gate-init-std"),
    ("method.adapter.v2", "--v2-variant"),
    ("method.adapter.lora.rank", "--lora-rank"),
    ("method.adapter.lora.alpha", "--lora-alpha"),
    ("method.adapter.lora.linears", "--lora-target-modules"),
    ("method.adapter.lora.layers", "--adapter-layers"),
    ("method.adapter.image", "--image-encoder"),
    ("prompt_text", "--prompt-init-text"),
    ("start", "--from-adapter"),
    ("parts", "--trainable"),
    ("optimizer.weight_decay", "--weight-decay"),
    ("optimizer.clip", "--max-gradient-norm"),
    ("learning_rate", "--learning-rate"),
    ("warmup", "--warmup-ratio"),
    ("schedule", "--schedule"),
    ("group_learning_rates.gates", "--lr-gate"),
    ("group_learning_rates.parts", "--lr-part"),
    ("noise_alpha", "--noise"),
    ("prefix_cache", "--cache"),
    ("prefix_cache.max_bytes", "--cache-bytes"),
    ("prefix_cache.precision", "--cache-precision"),
    ("batch_size", "--batch-size"),
    ("batch_tokens", "--batch-tokens"),
    ("accumulate", "--gradient-accumulation-steps"),
    ("length.epochs", "--epochs"),
    ("length.steps", "--max-steps"),
    ("max_len", "--max-len"),
    ("recompute", "--activation-checkpointing"),
    ("ema_decay", "--ema"),
    ("early_stop", "--early-stop"),
    ("keep_best", "--keep-best"),
    ("seed", "--seed"),
    ("shuffle", "--no-shuffle"),
    ("pictures_together", "--group-by-image"),
    ("exact_match_rows", "--exact-match-rows"),
    ("max_skipped_steps", "--max-skipped-steps"),
];

/// The option that sets a key of `run.json`.
fn option_name(key: &str) -> Option<&'static str> {
    let is_at_or_above = |name: &str| {
        key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let found = OPTIONS.iter().filter(|(name, _)| is_at_or_above(name));
    found.max_by_key(|(name, _)| name.len()).map(|(_, option)| *option)
}

/// The same error, with options in place of keys of `run.json`.
pub(super) fn with_option_names(mut error: Error) -> Error {
    if let Error::SettingsMismatch { differences, .. } = &mut error {
        for difference in differences {
            if let Some(option) = option_name(&difference.name) {
                difference.name = option.to_owned();
            }
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use clap::Args as _;
    use serde_json::Value;
    use train::TrainConfig;

    use super::super::Args;
    use super::*;

    #[test]
    fn the_options_exist() {
        let command = Args::augment_args(clap::Command::new("train"));
        let options = command.get_arguments().filter_map(|option| option.get_long());
        let options = options.map(|name| format!("--{name}")).collect::<Vec<_>>();
        for &(key, text) in OPTIONS {
            for name in text.split(' ').filter(|word| word.starts_with("--")) {
                assert!(options.iter().any(|option| option == name), "{key}: {name}");
            }
        }
    }

    #[test]
    fn the_settings_of_a_default_run_have_options() {
        fn keys(path: &str, value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(fields) => fields.iter().for_each(|(key, value)| {
                    keys(format!("{path}.{key}").trim_start_matches('.'), value, found);
                }),
                _ => found.push(path.to_owned()),
            }
        }
        let mut found = Vec::new();
        keys("", &serde_json::to_value(TrainConfig::default()).unwrap(), &mut found);
        // The command line does not set these.
        let fixed =
            ["optimizer.beta_1", "optimizer.beta_2", "optimizer.epsilon", "checkpoint_every"];
        found.retain(|key| !fixed.contains(&key.as_str()));
        assert!(found.len() > 15, "{found:?}");
        for key in found {
            assert!(option_name(&key).is_some(), "{key}");
        }
    }

    #[test]
    fn the_longest_key_counts() {
        assert_eq!(option_name("method.adapter.prompts.layers.last"), Some("--adapter-layers"));
        assert_eq!(option_name("method"), Some("--method"));
        assert_eq!(option_name("seeds"), None);
    }
}
