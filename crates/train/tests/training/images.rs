//! Training with images: each is encoded once, a batch may mix rows with and without images, and
//! parameter groups can be trained separately.

use std::sync::Arc;

use crate::schedule;
use crate::tiny::open_base;
use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdapterWeights, AdaptionPromptConfig, BaseInfo, Gate,
    GateActivation, ImageConfig, ImageFusion, ImageProjectorConfig, V2Config,
};
use base64::Engine;
use burn::tensor::Tensor;
use communicator::{Alone, Communicator, Threads};
use llama::Llama;
use testing::{assert_values_close, golden_folder};
use train::activation_checkpointing::checkpointed_adapter_backward;
use train::{
    Batch, BatchAdapter, CacheOffReason, Example, FineTuningMethod, ImageFeatureCache, Instruction,
    ModuleGradients, MultimodalAdapter, PartKind, PrefixCacheConfig, PrefixCacheDecision,
    TrainableWeights, Trainer, TrainerBuilder, label_loss,
};
use vision::{EncoderSource, FeatureExtractor, FeatureSpec, read_image};

const CASE: &str = "llama-gqa-tied";
const PHOTOS: [&str; 3] = ["astronaut.png", "coffee.webp", "coffee.jpg"];

fn photo(name: &str) -> String {
    golden_folder().join("vision/photos").join(name).display().to_string()
}

/// A tiny encoder with a global feature or with all tokens.
fn feature_extractor(llama: &Llama, is_global: bool) -> FeatureExtractor {
    let source = EncoderSource::open(golden_folder().join("vision/dinov2-small")).unwrap();
    let spec = if is_global { FeatureSpec::global } else { FeatureSpec::all_tokens };
    FeatureExtractor::load(&source, spec(source.config(), 28), &llama.device()).unwrap()
}

fn image_features(llama: &Llama, is_global: bool) -> ImageFeatureCache {
    let row = |name: &&str| Instruction {
        image: Some(photo(name)),
        ..Instruction::new("What is it?", "", "It.")
    };
    let rows = PHOTOS.iter().map(row).collect::<Vec<_>>();
    let extractor = feature_extractor(llama, is_global);
    let (found, broken) =
        ImageFeatureCache::encode(&extractor, &rows, &llama.device(), &mut |_| {}).unwrap();
    assert!(broken.is_empty(), "{broken:?}");
    found
}

/// Multimodal adapters, with whether they use a global feature.
fn multimodal_configs(llama: &Llama) -> Vec<(&'static str, bool, AdapterConfig)> {
    let prompts = |layers| AdaptionPromptConfig {
        adapter_len: 4,
        layers: AdaptedLayers::Last(layers),
        gate: Gate::PerHead,
        ..Default::default()
    };
    let width = |is_global| feature_extractor(llama, is_global).width();
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

/// Examples with images, some of them with the same one, and without.
fn examples() -> Vec<Example> {
    let row = |row: u32| {
        let tokens = (0..7 + row % 4).map(|i| (row / 2 * 31 + i * 17) % 127 + 1).collect();
        let image = (row % 4 != 3).then(|| Arc::from(photo(PHOTOS[row as usize / 2 % 3])));
        Example { image, ..Example::with_labels_from(tokens, 2 + row as usize % 3) }
    };
    (0..10).map(row).collect()
}

/// A trainable adapter whose gates are all open.
fn with_open_gates(config: &AdapterConfig, llama: &Llama) -> AdapterWeights {
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

fn gradient_values(gradients: &ModuleGradients) -> Vec<(String, Vec<f32>)> {
    let by_name = gradients.iter_named();
    let values = |tensor: &Tensor<1>| testing::values(tensor.clone());
    by_name.map(|(name, own)| (name.into(), own.map(values).unwrap_or_default())).collect()
}

#[test]
fn each_image_is_encoded_once_and_equals_the_encoder_output() {
    for device in testing::devices() {
        let llama = open_base(CASE, &device);
        let extractor = feature_extractor(&llama, false);
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
        let mut encoded = 0;
        let found =
            ImageFeatureCache::encode(&extractor, &rows, &device, &mut |more| encoded += more);
        let (found, broken) = found.unwrap();
        assert_eq!((found.len(), encoded, broken.len()), (2, 2, 0));
        let names = images.each_ref().map(|image| image.as_deref());
        let images = found.image_batch(&names).unwrap();
        assert_eq!(images.rows, [Some(0), None, Some(1), Some(0)]);
        let read = |name: &str| read_image(photo(name).as_ref()).unwrap();
        let expected = extractor.encode(&[read(PHOTOS[0]), read(PHOTOS[1])]);
        testing::assert_close("features", images.features, expected, 1e-5);
        assert!(found.image_batch(&[None, None]).is_none());
    }
}

#[test]
fn unreadable_images_are_reported() {
    let llama = open_base(CASE, &testing::flex());
    let row =
        |image: &str| Instruction { image: Some(image.into()), ..Instruction::new("a", "", "b") };
    let rows = [
        row(&photo(PHOTOS[0])),
        row("/nowhere/a.png"),
        row("data:image/png;base64,iVBORw0KGgo="),
        row("/nowhere/a.png"),
    ];
    let found = ImageFeatureCache::encode(
        &feature_extractor(&llama, true),
        &rows,
        &llama.device(),
        &mut |_| {},
    );
    let (found, broken) = found.unwrap();
    assert_eq!((found.len(), broken.len()), (1, 2));
    assert!(
        found.has_image_of(&rows[0])
            && !found.has_image_of(&rows[1])
            && !found.has_image_of(&rows[2])
    );
    let messages = broken.iter().map(|own| own.error.to_string()).collect::<Vec<_>>();
    assert!(messages[0].starts_with("/nowhere/a.png: cannot read the image"), "{messages:?}");
    assert!(messages[1].starts_with("data:image/png (8 bytes): cannot read"), "{messages:?}");
}

#[test]
fn a_mixed_batch_has_the_summed_gradients_of_its_rows() {
    for device in testing::devices() {
        let llama = open_base(CASE, &device);
        let examples = examples();
        for (name, is_global, config) in multimodal_configs(&llama) {
            let cache = image_features(&llama, is_global);
            let adapter = with_open_gates(&config, &llama);
            let gradients = |examples: &[&Example]| {
                let batch = Batch::new(examples);
                let multimodal = MultimodalAdapter::new(&llama, adapter.clone(), Some(&cache));
                let adapted = multimodal.for_batch(&batch);
                let loss = label_loss(&llama, &*adapted, &batch).unwrap();
                (testing::values(loss.clone().inner())[0], loss.backward())
            };
            let (whole, mut found) = gradients(&examples.iter().collect::<Vec<_>>());
            let mut mixed = ModuleGradients::empty(&adapter);
            mixed.accumulate(&adapter, &mut found, 1.0);
            let mut separate = ModuleGradients::empty(&adapter);
            let mut sum = 0.0;
            for example in &examples {
                let (loss, mut found) = gradients(&[example]);
                sum += loss;
                separate.accumulate(&adapter, &mut found, 1.0);
            }
            assert!((whole - sum).abs() < 1e-3, "{name}: {whole} mixed, {sum} separate");
            let expected = gradient_values(&separate);
            for ((what, found), (_, expected)) in gradient_values(&mixed).iter().zip(&expected) {
                let what = format!("{name} {what}");
                // Softmax is invariant to a bias of all keys.
                let is_zero = what.ends_with("attention.key.bias");
                assert!(
                    is_zero || expected.iter().any(|x| x.abs() > 1e-6),
                    "{what}: all gradients are zero"
                );
                assert_values_close(&what, found, expected, &[found.len()], 1e-3);
            }
        }
    }
}

#[test]
fn activation_checkpointing_with_images_gives_the_same_gradients() {
    for device in testing::devices() {
        let llama = open_base(CASE, &device);
        let examples = examples();
        let batch = Batch::new(&examples.iter().collect::<Vec<_>>());
        for (name, is_global, config) in multimodal_configs(&llama) {
            let cache = image_features(&llama, is_global);
            let adapter = with_open_gates(&config, &llama);
            let multimodal = MultimodalAdapter::new(&llama, adapter.clone(), Some(&cache));
            let adapted = multimodal.for_batch(&batch);
            let loss = label_loss(&llama, &*adapted, &batch).unwrap() / batch.n_labels() as f64;
            let expected = gradient_values(&ModuleGradients::from_grads(&adapter, loss.backward()));
            let images = cache.image_batch(&batch.image_names());
            let mut found = ModuleGradients::empty(&adapter);
            let labels = batch.n_labels();
            let again = checkpointed_adapter_backward(
                &llama,
                &adapter,
                &batch,
                images.as_ref(),
                labels,
                &mut found,
            );
            let losses = [loss.inner(), again.unwrap()].map(|loss| testing::values(loss)[0]);
            assert!((losses[0] - losses[1]).abs() < 1e-5, "{name}: {losses:?}");
            for ((what, found), (_, expected)) in gradient_values(&found).iter().zip(&expected) {
                let what = format!("{name} {what}");
                assert_values_close(&what, found, expected, &[found.len()], 1e-4);
            }
        }
    }
}

fn builder<'a>(
    llama: &'a Llama,
    trainable: TrainableWeights,
    examples: &[Example],
    image_features: &'a ImageFeatureCache,
) -> TrainerBuilder<'a> {
    Trainer::builder(llama, trainable, examples)
        .batch_size(3)
        .seed(5)
        .max_gradient_norm(Some(1.0))
        .schedule(schedule(0.05, 12))
        .image_features(image_features)
}

fn trainer<'a>(
    llama: &'a Llama,
    trainable: TrainableWeights,
    examples: &[Example],
    image_features: &'a ImageFeatureCache,
) -> Trainer<'a> {
    builder(llama, trainable, examples, image_features).build().unwrap()
}

fn train_to_end(trainer: &mut Trainer) -> AdapterWeights {
    while !trainer.is_done() {
        trainer.step().unwrap();
    }
    trainer.reports().unwrap();
    match trainer.trainable() {
        TrainableWeights::Adapter(adapter) => adapter,
        TrainableWeights::Full(_) => unreachable!("an adapter is trained"),
    }
}

#[test]
fn image_parameters_train_and_steps_without_images_are_harmless() {
    let llama = open_base(CASE, &testing::flex());
    let text_only = examples().into_iter().filter(|example| example.image.is_none());
    for (name, is_global, config) in multimodal_configs(&llama) {
        let cache = image_features(&llama, is_global);
        let trainable = FineTuningMethod::from(config).init(&llama, 3).unwrap();
        let before = trainable.adapter().unwrap().to_data(BaseInfo::default()).unwrap();
        // In an epoch of these some steps have no image.
        let examples =
            [examples(), text_only.clone().collect(), text_only.clone().collect()].concat();
        let after = train_to_end(&mut trainer(&llama, trainable, &examples, &cache));
        let after = after.to_data(BaseInfo::default()).unwrap();
        for (what, (_shape, values)) in &after.image.unwrap().tensors {
            let old = &before.image.as_ref().unwrap().tensors[what].1;
            assert_ne!(values, old, "{name}: {what} did not change");
            assert!(values.iter().all(|x| x.is_finite()), "{name}: {what}");
        }
    }
}

#[test]
fn ranks_train_with_images_what_one_process_trains() {
    for device in testing::devices() {
        for index in 0..3 {
            let losses = |ranks: &dyn Communicator| {
                let llama = open_base(CASE, &device);
                let (_name, is_global, config) = multimodal_configs(&llama).swap_remove(index);
                let cache = image_features(&llama, is_global);
                let trainable = TrainableWeights::from(with_open_gates(&config, &llama));
                let builder = builder(&llama, trainable, &examples(), &cache);
                let mut trainer = builder.ranks(ranks).build().unwrap();
                let reports = crate::reports(&mut trainer, 6);
                let losses = reports.iter().map(|report| report.loss).collect::<Vec<_>>();
                (losses, crate::adapter_values(&trainer))
            };
            let (expected, _) = losses(&Alone);
            let found = Threads::run(2, |ranks| losses(ranks));
            assert_eq!(found[0], found[1], "all ranks have the same weights");
            for (found, expected) in found[0].0.iter().zip(&expected) {
                assert!((found / expected - 1.0).abs() < 2e-5, "{found} {expected}");
            }
        }
    }
}

#[test]
fn captions_train_the_image_group_and_instructions_the_others() {
    let llama = open_base(CASE, &testing::flex());
    let (_, is_global, config) = multimodal_configs(&llama).pop().unwrap();
    let cache = image_features(&llama, is_global);
    let folder = tempfile::tempdir().unwrap();
    let data = |adapter: &AdapterWeights| adapter.to_data(BaseInfo::default()).unwrap();

    // First only the image part, in an adapter without other groups.
    let image = AdapterConfig { prompts: None, ..config.clone() };
    let trainable = FineTuningMethod::from(image).init(&llama, 3).unwrap();
    let trainable = trainable.with_trainable_groups(&[PartKind::Image]).unwrap();
    let captions = examples().into_iter().filter(|example| example.image.is_some());
    let first =
        train_to_end(&mut trainer(&llama, trainable, &captions.collect::<Vec<_>>(), &cache));
    first.save(folder.path(), &llama, CASE).unwrap();

    // Then the other groups, which that adapter does not have yet.
    let config = AdapterConfig { v2: Some(V2Config::bias_only()), ..config };
    let method = FineTuningMethod::from(config.clone());
    let trainable = method.init_from_adapter(folder.path(), &llama, 4, None).unwrap();
    assert_eq!(data(trainable.adapter().unwrap()).image, data(&first).image);
    let trainable = trainable.with_trainable_groups(&[PartKind::Prompts, PartKind::V2]).unwrap();
    let start = data(trainable.adapter().unwrap());
    let trainable_count = trainable.n_trainable_parameters();
    let image = start.image.iter().flat_map(|own| own.tensors.values());
    let image = image.map(|(_shape, values)| values.len()).sum::<usize>();
    assert_eq!(trainable_count + image, trainable.n_parameters());
    let texts = examples().into_iter().map(|example| Example { image: None, ..example });
    let second = train_to_end(&mut trainer(&llama, trainable, &texts.collect::<Vec<_>>(), &cache));
    let second = data(&second);
    assert_eq!(second.image, start.image, "the image group was frozen");
    assert_ne!(second.prompts, start.prompts);
    assert_ne!(second.v2, start.v2);
}

#[test]
fn absent_parameter_groups_cannot_be_trained() {
    let llama = open_base(CASE, &testing::flex());
    let method = FineTuningMethod::from(AdaptionPromptConfig {
        layers: AdaptedLayers::Last(2),
        ..Default::default()
    });
    let error = |groups: &[PartKind]| {
        method.init(&llama, 0).unwrap().with_trainable_groups(groups).unwrap_err().to_string()
    };
    assert!(error(&[PartKind::Image]).contains("[Image] of an adapter of [Prompts]"));
    assert!(error(&[]).contains("at least one"));
    let full = FineTuningMethod::Full.init(&llama, 0).unwrap();
    assert!(full.with_trainable_groups(&[PartKind::Prompts]).is_err());
}

#[test]
fn training_with_images_resumes_bit_for_bit() {
    let llama = open_base(CASE, &testing::flex());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let examples = examples();
    for (name, is_global, config) in multimodal_configs(&llama) {
        let cache = image_features(&llama, is_global);
        for groups in [vec![PartKind::Prompts, PartKind::Image], vec![PartKind::Image]] {
            let start = || {
                let trainable = FineTuningMethod::from(config.clone()).init(&llama, 3).unwrap();
                trainable.with_trainable_groups(&groups).unwrap()
            };
            let new = || {
                builder(&llama, start(), &examples, &cache).group_by_image(true).build().unwrap()
            };
            let mut uninterrupted = new();
            let mut interrupted = new();
            for _ in 0..5 {
                interrupted.step().unwrap();
            }
            interrupted.save_checkpoint(&path, &()).unwrap();
            let mut resumed = new();
            resumed.load_checkpoint::<()>(&path).unwrap();
            let data = |adapter: AdapterWeights| adapter.to_data(BaseInfo::default()).unwrap();
            assert_eq!(
                data(train_to_end(&mut resumed)),
                data(train_to_end(&mut uninterrupted)),
                "{name} {groups:?}"
            );
        }
    }
}

#[test]
fn the_frozen_prefix_cache_is_exact_with_images_and_off_where_they_change_the_first_layer() {
    let llama = open_base(CASE, &testing::flex());
    let examples = examples();
    for (name, is_global, config) in multimodal_configs(&llama) {
        let features = image_features(&llama, is_global);
        let builder = || {
            let adapter = with_open_gates(&config, &llama);
            builder(&llama, adapter.into(), &examples, &features).group_by_image(true)
        };
        // Six of the ten examples fit, for example.
        let cache = PrefixCacheConfig { max_bytes: Some(6 << 10), ..Default::default() };
        let mut cached = builder().prefix_cache(cache).build().unwrap();
        match cached.prefix_cache() {
            PrefixCacheDecision::On(cached) => {
                assert_eq!((name, cached.layers), ("global", 1));
                assert!((1..10).contains(&cached.examples), "{cached:?}");
            }
            // V2 adapts every layer, and early fusion the first one.
            PrefixCacheDecision::Off(reason) => {
                assert!(["queries", "early"].contains(&name), "{name}");
                assert_eq!(reason, CacheOffReason::NothingFrozen);
            }
        }
        let data = |adapter: AdapterWeights| adapter.to_data(BaseInfo::default()).unwrap();
        let expected = data(train_to_end(&mut builder().build().unwrap()));
        assert_eq!(data(train_to_end(&mut cached)), expected, "{name}");
    }
}
