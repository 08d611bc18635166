//! All methods use the same trainer: prompts, Adapter V2, both, LoRA, the whole model.

use crate::tiny::{self, open_base};
use crate::{examples, schedule};
use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdapterWeights, AdaptionPromptConfig, BaseInfo, Gate,
    GateActivation, LoraConfig, V2Config, V2Scale,
};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use llama::{Llama, ModelSource, NoAdapter, Precision, read_back};
use testing::count_params_with_gradient;
use text::Tokenizer;
use train::run::CHECKPOINT_FILE;
use train::{
    Batch, Example, FineTuningMethod, ModuleGradients, TrainableWeights, Trainer, evaluate_loss,
    label_loss,
};

const CASE: &str = "llama-gqa-tied";

/// All methods with their names.
fn methods() -> Vec<(&'static str, FineTuningMethod)> {
    let prompts = AdaptionPromptConfig {
        adapter_len: 4,
        layers: AdaptedLayers::Chosen(vec![0, 2]),
        gate: Gate::PerHead,
        activation: GateActivation::Tanh,
        factor: true,
        ..Default::default()
    };
    let both = |v2| AdapterConfig { v2: Some(v2), ..prompts.clone().into() };
    vec![
        ("prompts", prompts.clone().into()),
        ("v2", V2Config::paper().into()),
        ("v2 on inputs", V2Config::input_scale().into()),
        ("v2 of biases", V2Config::bias_only().into()),
        ("v2 without norms", V2Config { norms: false, ..V2Config::lit() }.into()),
        ("norms", V2Config { scale: V2Scale::None, bias: false, ..V2Config::paper() }.into()),
        ("prompts and v2", both(V2Config::lit()).into()),
        ("lora", LoraConfig { rank: 4, ..Default::default() }.into()),
        ("full", FineTuningMethod::Full),
    ]
}

fn trainer<'a>(
    llama: &'a Llama,
    method: &FineTuningMethod,
    examples: &[Example],
    total_steps: usize,
) -> Trainer<'a> {
    Trainer::builder(llama, method.init(llama, 3).unwrap(), examples)
        .batch_size(2)
        .gradient_accumulation_steps(2)
        .seed(5)
        .max_gradient_norm(Some(1.0))
        .schedule(schedule(0.02, total_steps))
        .build()
        .unwrap()
}

fn steps(trainer: &mut Trainer, count: usize) {
    for _ in 0..count {
        trainer.step().unwrap();
    }
}

fn loss(trainable: &TrainableWeights, llama: &Llama, examples: &[Example]) -> f64 {
    let report = trainable.with_adapter(llama, None, |llama, adapter| {
        evaluate_loss(llama, adapter, examples, 4, &mut |_| {})
    });
    report.unwrap().loss
}

/// The values of all parameters of a module, in the order of its fields.
pub fn parameter_values(module: &impl Module) -> Vec<TensorData> {
    struct Collect(Vec<TensorData>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(read_back(param.val().inner()).unwrap());
        }
    }
    let mut collect = Collect(Vec::new());
    module.visit(&mut collect);
    collect.0
}

#[test]
fn every_method_starts_equal_to_the_base_and_lowers_the_loss() {
    for device in testing::devices() {
        let llama = open_base(CASE, &device);
        let before = parameter_values(&llama);
        let examples = examples(6);
        let base = evaluate_loss(&llama, &NoAdapter, &examples, 4, &mut |_| {}).unwrap().loss;
        for (name, method) in methods() {
            let mut trainer = trainer(&llama, &method, &examples, 25);
            // A trained head sums its losses in another order.
            let start = loss(&trainer.trainable(), &llama, &examples);
            assert!((start / base - 1.0).abs() < 1e-6, "{name}: {base} -> {start} at the start");
            while !trainer.is_done() {
                trainer.step().unwrap();
            }
            let trainable = trainer.trainable();
            let after = loss(&trainable, &llama, &examples);
            assert!(after < base - 0.2, "{name}: {base} -> {after}");
            assert!(trainable.is_finite().unwrap(), "{name}");
            assert_eq!(parameter_values(&llama), before, "{name}: the base changed");
        }
    }
}

#[test]
fn every_trainable_parameter_has_a_gradient_and_no_other() {
    for device in testing::devices() {
        let llama = open_base(CASE, &device);
        let examples = examples(6);
        let batch = Batch::new(&examples.iter().collect::<Vec<_>>());
        for (name, method) in methods() {
            let trainable = method.init(&llama, 3).unwrap();
            let sum = trainable.with_adapter(&llama, None, |llama, adapter| {
                label_loss(llama, &*adapter.for_batch(&batch), &batch)
            });
            let gradients = sum.unwrap().backward();
            assert_eq!(count_params_with_gradient(&llama, &gradients), 0, "{name}");
            let count = parameter_values(&trainable).len();
            assert_eq!(count_params_with_gradient(&trainable, &gradients), count, "{name}");
            let gradients = ModuleGradients::from_grads(&trainable, gradients);
            assert_eq!(
                gradients.iter_named().filter(|(_, gradient)| gradient.is_some()).count(),
                count
            );
            let norm = testing::values(gradients.norm())[0];
            assert!(norm.is_finite() && norm > 0.0, "{name}: {norm}");
        }
    }
}

#[test]
fn every_method_resumes_bit_for_bit() {
    for device in testing::devices() {
        let llama = open_base(CASE, &device);
        let examples = examples(6);
        for (name, method) in methods() {
            let mut uninterrupted = trainer(&llama, &method, &examples, 6);
            steps(&mut uninterrupted, 6);
            let reports = uninterrupted.reports().unwrap();

            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(CHECKPOINT_FILE);
            let mut first = trainer(&llama, &method, &examples, 6);
            steps(&mut first, 3);
            first.save_checkpoint(&path, &name).unwrap();
            drop(first);
            let mut second = trainer(&llama, &method, &examples, 6);
            assert_eq!(second.load_checkpoint::<String>(&path).unwrap(), name);
            steps(&mut second, 3);
            assert_eq!(second.reports().unwrap(), reports[3..], "{name}");
            assert_eq!(
                parameter_values(&second.trainable()),
                parameter_values(&uninterrupted.trainable()),
                "{name}"
            );
        }
    }
}

#[test]
fn another_methods_checkpoint_is_refused() {
    let llama = open_base(CASE, &testing::flex());
    let examples = examples(6);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(CHECKPOINT_FILE);
    let mut v2 = trainer(&llama, &V2Config::paper().into(), &examples, 2);
    v2.step().unwrap();
    v2.save_checkpoint(&path, &0).unwrap();
    for (name, method) in methods().into_iter().filter(|(name, _)| !name.contains("v2")) {
        let mut other = trainer(&llama, &method, &examples, 2);
        let before = parameter_values(&other.trainable());
        // Its parameters are a subset of those of Adapter V2.
        if name == "norms" {
            continue;
        }
        let error = other.load_checkpoint::<u8>(&path).unwrap_err();
        assert!(matches!(error, train::Error::Checkpoint { .. }), "{name}: {error}");
        assert_eq!(parameter_values(&other.trainable()), before, "{name}");
    }
}

#[test]
fn trained_weights_round_trip() {
    let llama = open_base(CASE, &testing::flex());
    let tokenizer = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
    let tokenizer = Tokenizer::from_folder(&tokenizer).unwrap();
    let examples = examples(6);
    for (name, method) in methods() {
        let mut trainer = trainer(&llama, &method, &examples, 3);
        steps(&mut trainer, 3);
        let trained = trainer.trainable();
        let folder = tempfile::tempdir().unwrap();
        trained.save(folder.path(), &llama, &tokenizer, "base").unwrap();
        let loaded = TrainableWeights::load(folder.path(), &method, &llama).unwrap();
        assert_eq!(loss(&loaded, &llama, &examples), loss(&trained, &llama, &examples), "{name}");
        if let (Some(loaded), Some(trained)) = (loaded.adapter(), trained.adapter()) {
            let data = |adapter: &AdapterWeights| adapter.to_data(BaseInfo::default()).unwrap();
            assert_eq!(data(loaded), data(trained), "{name}");
        }
    }
}

#[test]
fn a_whole_model_is_saved_as_a_model() {
    for device in testing::devices() {
        for case in tiny::CASES {
            let llama = open_base(case, &device);
            let tokenizer =
                testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
            let tokenizer = Tokenizer::from_folder(&tokenizer).unwrap();
            let examples = examples(6);
            let mut trainer = trainer(&llama, &FineTuningMethod::Full, &examples, 2);
            steps(&mut trainer, 2);
            let TrainableWeights::Full(trained) = trainer.trainable() else {
                panic!("not a model")
            };
            let folder = tempfile::tempdir().unwrap();
            trainer.trainable().save(folder.path(), &llama, &tokenizer, "base").unwrap();

            // The config includes the window, biases and rotary scaling of the base.
            let source = ModelSource::open(folder.path()).unwrap();
            assert_eq!(source.config(), llama.config(), "{case}");
            let loaded = source.load(Precision::F32, &device).unwrap().into_parameters();
            let logits = |model: &Llama| {
                let tokens = model.tokens(&[vec![3, 1, 4, 1, 5]]).unwrap();
                let hidden = model.forward(tokens, None, &NoAdapter).unwrap();
                read_back(model.logits(hidden, &NoAdapter)).unwrap()
            };
            assert_eq!(logits(&loaded), logits(&trained), "{case}");
            assert_ne!(logits(&loaded), logits(&llama), "{case}: nothing was trained");
            let ids = tokenizer.encode("Anna lives in").unwrap();
            assert_eq!(source.tokenizer().unwrap().encode("Anna lives in").unwrap(), ids);
        }
    }
}
