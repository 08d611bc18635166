//! Training with pictures: each is looked at once, rows with and without one learn in one batch, and
//! parts of an adapter leave each other alone.

use std::sync::Arc;

use crate::tiny::open_base;
use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdapterWeights, AdaptionPromptConfig, BaseInfo, Gate,
    GateActivation, ImageConfig, ImageFusion, ImageProjectorConfig, V2Config,
};
use base64::Engine;
use burn::tensor::Tensor;
use llama::Llama;
use testing::{assert_values_close, golden_folder};
use train::{
    Batch, BatchAdapter, Example, ExampleSampler, FineTuningMethod, ImageFeatureCache, Instruction,
    LearningRateSchedule, ModuleGradients, MultimodalAdapter, OptimizerConfig, PartKind,
    TrainableWeights, Trainer, checkpointed_adapter_backward, label_loss,
};
use vision::{EncoderSource, FeatureExtractor, FeatureSpec, read_image};

const CASE: &str = "llama-gqa-tied";
const PHOTOS: [&str; 3] = ["astronaut.png", "coffee.webp", "coffee.jpg"];

fn photo(name: &str) -> String {
    golden_folder().join("vision/photos").join(name).display().to_string()
}

/// A tiny encoder, read as a whole picture or all of it.
fn viewer(llama: &Llama, is_global: bool) -> FeatureExtractor {
    let source = EncoderSource::open(golden_folder().join("vision/dinov2-small")).unwrap();
    let reading = if is_global { FeatureSpec::global } else { FeatureSpec::all_tokens };
    FeatureExtractor::load(&source, reading(source.config(), 28), &llama.device()).unwrap()
}

fn pictures(llama: &Llama, is_global: bool) -> ImageFeatureCache {
    let row = |name: &&str| Instruction {
        image: Some(photo(name)),
        ..Instruction::new("What is it?", "", "It.")
    };
    let rows = PHOTOS.iter().map(row).collect::<Vec<_>>();
    let viewer = viewer(llama, is_global);
    let (found, broken) =
        ImageFeatureCache::encode(&viewer, &rows, &llama.device(), &mut |_| {}).unwrap();
    assert!(broken.is_empty(), "{broken:?}");
    found
}

/// Adapters that see, with whether they look at whole pictures.
fn kinds(llama: &Llama) -> Vec<(&'static str, bool, AdapterConfig)> {
    let prompts = |layers| AdaptionPromptConfig {
        adapter_len: 4,
        layers: AdaptedLayers::Last(layers),
        gate: Gate::PerHead,
        ..Default::default()
    };
    let width = |is_global| viewer(llama, is_global).shape()[1];
    let queries = ImageProjectorConfig::Queries { count: 4, width: 8, blocks: 2, heads: 2 };
    let image = |is_global: bool, fusion| ImageConfig {
        features: width(is_global),
        form: if is_global { ImageProjectorConfig::Global { hidden: 8 } } else { queries.clone() },
        fusion,
        encoder: None,
    };
    let early =
        ImageFusion::Early { layers: 1, gate: Gate::Scalar, activation: GateActivation::Tanh };
    let added = ImageFusion::Prompts { gate: 0.5 };
    let with = |config: AdapterConfig, image| AdapterConfig { image: Some(image), ..config };
    let tuned = AdapterConfig { v2: Some(V2Config::bias_only()), ..prompts(2).into() };
    vec![
        ("global", true, with(prompts(2).into(), image(true, added.clone()))),
        ("queries", false, with(tuned, image(false, added))),
        ("early", false, with(prompts(1).into(), image(false, early))),
    ]
}

/// Rows about pictures, some of them about the same, and about none.
fn examples() -> Vec<Example> {
    let row = |row: u32| Example {
        tokens: (0..7 + row % 4).map(|i| (row / 2 * 31 + i * 17) % 127 + 1).collect(),
        labels_from: 2 + row as usize % 3,
        image: (row % 4 != 3).then(|| Arc::from(photo(PHOTOS[row as usize / 2 % 3]))),
    };
    (0..10).map(row).collect()
}

/// A learning adapter whose gates are all open.
fn opened(config: &AdapterConfig, llama: &Llama) -> AdapterWeights {
    let fresh = config.init(llama, 3, &llama.device()).unwrap();
    let mut data = fresh.to_data(BaseInfo::from_config(llama.config(), None)).unwrap();
    for own in data.prompts.iter_mut().flat_map(|own| own.layers.values_mut()) {
        own.gate.fill(0.4);
    }
    for (_name, (_shape, values)) in data
        .image
        .iter_mut()
        .flat_map(|own| &mut own.tensors)
        .filter(|(name, _)| name.ends_with("gate"))
    {
        values.fill(0.3);
    }
    let device = llama.device().autodiff();
    AdapterWeights::from_data(&data, &llama.config().into(), "a test".as_ref(), &device).unwrap()
}

fn numbers(gradients: &ModuleGradients) -> Vec<(String, Vec<f32>)> {
    let by_name = gradients.iter_named();
    let values = |tensor: &Tensor<1>| testing::values(tensor.clone());
    by_name.map(|(name, own)| (name.into(), own.map(values).unwrap_or_default())).collect()
}

#[test]
fn each_picture_is_looked_at_once_and_seen_as_its_encoder_does() {
    for device in testing::devices() {
        let llama = open_base(CASE, &device);
        let viewer = viewer(&llama, false);
        let bytes = std::fs::read(photo(PHOTOS[1])).unwrap();
        let coded = base64::engine::general_purpose::STANDARD.encode(bytes);
        let images = [
            Some(photo(PHOTOS[0])),
            None,
            Some(format!("data:image/webp;base64,{coded}")),
            Some(photo(PHOTOS[0])),
        ];
        let row = |image| Instruction { image, ..Instruction::new("a", "", "b") };
        let rows = images.clone().map(row);
        let mut looked = 0;
        let found = ImageFeatureCache::encode(&viewer, &rows, &device, &mut |more| looked += more);
        let (found, broken) = found.unwrap();
        assert_eq!((found.len(), looked, broken.len()), (2, 2, 0));
        let names = images.each_ref().map(|image| image.as_deref());
        let views = found.image_batch(&names).unwrap();
        assert_eq!(views.rows, [Some(0), None, Some(1), Some(0)]);
        let read = |name: &str| read_image(photo(name).as_ref()).unwrap();
        let expected = viewer.encode(&[read(PHOTOS[0]), read(PHOTOS[1])]);
        testing::assert_close("features", views.features, expected, 1e-5);
        assert!(found.image_batch(&[None, None]).is_none());
    }
}

#[test]
fn pictures_that_cannot_be_read_are_named() {
    let llama = open_base(CASE, &testing::flex());
    let row =
        |image: &str| Instruction { image: Some(image.into()), ..Instruction::new("a", "", "b") };
    let rows = [
        row(&photo(PHOTOS[0])),
        row("/nowhere/a.png"),
        row("data:image/png;base64,iVBORw0KGgo="),
        row("/nowhere/a.png"),
    ];
    let found =
        ImageFeatureCache::encode(&viewer(&llama, true), &rows, &llama.device(), &mut |_| {});
    let (found, broken) = found.unwrap();
    assert_eq!((found.len(), broken.len()), (1, 2));
    assert!(
        found.has_image_of(&rows[0])
            && !found.has_image_of(&rows[1])
            && !found.has_image_of(&rows[2])
    );
    let messages = broken.iter().map(|own| own.error.to_string()).collect::<Vec<_>>();
    assert!(messages[0].starts_with("/nowhere/a.png: cannot read the picture"), "{messages:?}");
    assert!(messages[1].starts_with("data:image/png (8 bytes): cannot read"), "{messages:?}");
}

#[test]
fn a_batch_of_rows_with_and_without_pictures_learns_as_its_rows_do() {
    for device in testing::devices() {
        let llama = open_base(CASE, &device);
        let examples = examples();
        for (name, is_global, config) in kinds(&llama) {
            let pictures = pictures(&llama, is_global);
            let adapter = opened(&config, &llama);
            let gradients = |examples: &[&Example]| {
                let batch = Batch::new(examples);
                let seeing = MultimodalAdapter::new(&llama, adapter.clone(), Some(&pictures));
                let seen = seeing.for_images(&batch.image_names());
                let loss = label_loss(&llama, &*seen, &batch).unwrap();
                (testing::values(loss.clone().inner())[0], loss.backward())
            };
            let (whole, mut found) = gradients(&examples.iter().collect::<Vec<_>>());
            let mut together = ModuleGradients::empty(&adapter);
            together.accumulate(&adapter, &mut found, 1.0);
            let mut apart = ModuleGradients::empty(&adapter);
            let mut sum = 0.0;
            for example in &examples {
                let (loss, mut found) = gradients(&[example]);
                sum += loss;
                apart.accumulate(&adapter, &mut found, 1.0);
            }
            assert!((whole - sum).abs() < 1e-3, "{name}: {whole} together, {sum} apart");
            let expected = numbers(&apart);
            for ((what, found), (_, expected)) in numbers(&together).iter().zip(&expected) {
                let what = format!("{name} {what}");
                // Softmax does not see what is added to all keys.
                let nothing = what.ends_with("attention.key.bias");
                assert!(
                    nothing || expected.iter().any(|x| x.abs() > 1e-6),
                    "{what}: nothing to compare"
                );
                assert_values_close(&what, found, expected, &[found.len()], 1e-3);
            }
        }
    }
}

#[test]
fn computing_layers_twice_gives_the_same_gradients() {
    for device in testing::devices() {
        let llama = open_base(CASE, &device);
        let examples = examples();
        let batch = Batch::new(&examples.iter().collect::<Vec<_>>());
        for (name, is_global, config) in kinds(&llama) {
            let pictures = pictures(&llama, is_global);
            let adapter = opened(&config, &llama);
            let seeing = MultimodalAdapter::new(&llama, adapter.clone(), Some(&pictures));
            let seen = seeing.for_images(&batch.image_names());
            let loss = label_loss(&llama, &*seen, &batch).unwrap() / batch.n_labels() as f64;
            let expected = numbers(&ModuleGradients::from_grads(&adapter, loss.backward()));
            let views = pictures.image_batch(&batch.image_names());
            let mut found = ModuleGradients::empty(&adapter);
            let labels = batch.n_labels();
            let again = checkpointed_adapter_backward(
                &llama,
                &adapter,
                &batch,
                views.as_ref(),
                labels,
                &mut found,
            );
            let losses = [loss.inner(), again.unwrap()].map(|loss| testing::values(loss)[0]);
            assert!((losses[0] - losses[1]).abs() < 1e-5, "{name}: {losses:?}");
            for ((what, found), (_, expected)) in numbers(&found).iter().zip(&expected) {
                let what = format!("{name} {what}");
                assert_values_close(&what, found, expected, &[found.len()], 1e-4);
            }
        }
    }
}

fn trainer<'a>(
    llama: &'a Llama,
    learner: TrainableWeights,
    examples: &[Example],
    pictures: &'a ImageFeatureCache,
) -> Trainer<'a> {
    let order = ExampleSampler {
        n_examples: examples.len(),
        batch_size: 3,
        gradient_accumulation_steps: 1,
        seed: 5,
        shuffle: true,
    };
    let schedule =
        LearningRateSchedule { peak_learning_rate: 0.05, warmup_steps: 1, total_steps: 12 };
    let optimizer = OptimizerConfig { max_gradient_norm: Some(1.0), ..Default::default() };
    Trainer::new(llama, learner, examples, order, schedule, &optimizer)
        .with_image_features(Some(pictures))
}

fn trained(trainer: &mut Trainer) -> AdapterWeights {
    while !trainer.is_done() {
        trainer.step().unwrap();
    }
    trainer.reports().unwrap();
    match trainer.trainable() {
        TrainableWeights::Adapter(adapter) => adapter,
        TrainableWeights::Full(_) => unreachable!("an adapter learns"),
    }
}

#[test]
fn what_sees_learns_too_and_a_step_without_pictures_is_no_harm() {
    let llama = open_base(CASE, &testing::flex());
    let blind = examples().into_iter().filter(|example| example.image.is_none());
    for (name, is_global, config) in kinds(&llama) {
        let pictures = pictures(&llama, is_global);
        let learner = FineTuningMethod::from(config).init(&llama, 3).unwrap();
        let before = learner.adapter().unwrap().to_data(BaseInfo::default()).unwrap();
        // In an epoch of these some steps have no picture at all.
        let examples = [examples(), blind.clone().collect(), blind.clone().collect()].concat();
        let after = trained(&mut trainer(&llama, learner, &examples, &pictures));
        let after = after.to_data(BaseInfo::default()).unwrap();
        for (what, (_shape, values)) in &after.image.unwrap().tensors {
            let old = &before.image.as_ref().unwrap().tensors[what].1;
            assert_ne!(values, old, "{name}: {what} has learned nothing");
            assert!(values.iter().all(|x| x.is_finite()), "{name}: {what}");
        }
    }
}

#[test]
fn captions_teach_what_sees_and_instructions_the_rest() {
    let llama = open_base(CASE, &testing::flex());
    let (_, is_global, config) = kinds(&llama).pop().unwrap();
    let pictures = pictures(&llama, is_global);
    let folder = tempfile::tempdir().unwrap();
    let data = |adapter: &AdapterWeights| adapter.to_data(BaseInfo::default()).unwrap();

    // First images alone, with nothing else in the adapter.
    let image = AdapterConfig { prompts: None, ..config.clone() };
    let learner = FineTuningMethod::from(image).init(&llama, 3).unwrap();
    let learner = learner.with_trainable_groups(&[PartKind::Image]).unwrap();
    let captions = examples().into_iter().filter(|example| example.image.is_some());
    let first = trained(&mut trainer(&llama, learner, &captions.collect::<Vec<_>>(), &pictures));
    first.save(folder.path(), &llama, CASE).unwrap();

    // Then the rest, which that adapter does not have yet.
    let config = AdapterConfig { v2: Some(V2Config::bias_only()), ..config };
    let method = FineTuningMethod::from(config.clone());
    let learner = method.init_from_adapter(folder.path(), &llama, 4, None).unwrap();
    assert_eq!(data(learner.adapter().unwrap()).image, data(&first).image);
    let learner = learner.with_trainable_groups(&[PartKind::Prompts, PartKind::V2]).unwrap();
    let start = data(learner.adapter().unwrap());
    let learning = learner.n_trainable_parameters();
    let image = start.image.iter().flat_map(|own| own.tensors.values());
    let image = image.map(|(_shape, values)| values.len()).sum::<usize>();
    assert_eq!(learning + image, learner.n_parameters());
    let texts = examples().into_iter().map(|example| Example { image: None, ..example });
    let second = trained(&mut trainer(&llama, learner, &texts.collect::<Vec<_>>(), &pictures));
    let second = data(&second);
    assert_eq!(second.image, start.image, "what sees was to stay as it was");
    assert_ne!(second.prompts, start.prompts);
    assert_ne!(second.v2, start.v2);
}

#[test]
fn parts_that_are_not_there_cannot_learn() {
    let llama = open_base(CASE, &testing::flex());
    let method = FineTuningMethod::from(AdaptionPromptConfig {
        layers: AdaptedLayers::Last(2),
        ..Default::default()
    });
    let error = |parts: &[PartKind]| {
        method.init(&llama, 0).unwrap().with_trainable_groups(parts).unwrap_err().to_string()
    };
    assert!(error(&[PartKind::Image]).contains("[Image] of an adapter of [Prompts]"));
    assert!(error(&[]).contains("at least one"));
    let full = FineTuningMethod::Full.init(&llama, 0).unwrap();
    assert!(full.with_trainable_groups(&[PartKind::Prompts]).is_err());
}

#[test]
fn training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped() {
    let llama = open_base(CASE, &testing::flex());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let examples = examples();
    for (name, is_global, config) in kinds(&llama) {
        let pictures = pictures(&llama, is_global);
        for parts in [vec![PartKind::Prompts, PartKind::Image], vec![PartKind::Image]] {
            let start = || {
                let learner = FineTuningMethod::from(config.clone()).init(&llama, 3).unwrap();
                learner.with_trainable_groups(&parts).unwrap()
            };
            let new = || trainer(&llama, start(), &examples, &pictures).with_group_by_image(true);
            let mut whole = new();
            let mut stopped = new();
            for _ in 0..5 {
                stopped.step().unwrap();
            }
            stopped.save_checkpoint(&path, &()).unwrap();
            let mut resumed = new();
            resumed.load_checkpoint::<()>(&path).unwrap();
            let data = |adapter: AdapterWeights| adapter.to_data(BaseInfo::default()).unwrap();
            assert_eq!(data(trained(&mut resumed)), data(trained(&mut whole)), "{name} {parts:?}");
        }
    }
}
