//! Can a frozen language model be trained to answer questions about images?
//!
//! ```sh
//! cargo run --release --example image_conditioning
//! ```
//!
//! You should see answers with and without the image, and the accuracy: at chance level without images,
//! about 85 % of things and 97 % of colors with them, also for pairs of thing and color that no training
//! row has.

use llama_adapter::adapter::{ImageConfig, ImageFusion, ImageProjectorConfig};
use llama_adapter::{
    AdaptedLayers, AdapterConfig, AdaptionPromptConfig, Example, FeatureExtractor, Instruction,
    Precision, TrainLength, Trainer, built_in, device,
};

use llama_adapter::train::data::RowEncoder;
use llama_adapter::train::eval::{ChoiceScoring, correct_choices, predict_choices};
use llama_adapter::train::{FineTuningMethod, ImageFeatureCache, MultimodalAdapter};
use llama_adapter::vision::{FeatureSpec, HiddenState};

fn main() -> anyhow::Result<()> {
    let device = device::parse(device::default_name()?)?;
    let source = built_in::model()?;
    let (llama, tokenizer) = (source.load(Precision::F32, &device)?, source.tokenizer()?);
    let questions = built_in::IMAGE_QUESTIONS;
    let (train_rows, mut test_rows) = (questions.train()?, questions.test()?);
    let has = |row: &Instruction, tag: &str| row.tags.iter().any(|own| own == tag);
    test_rows.retain(|row| has(row, "thing") || has(row, "colour"));

    // The encoder is frozen too: each image is encoded once.
    let encoder = built_in::image_encoder()?;
    let size = encoder.preprocessing().image_size;
    let states = vec![HiddenState::Normed];
    let feature_spec = FeatureSpec { states, ..FeatureSpec::global(encoder.config(), size) };
    let extractor = FeatureExtractor::load(&encoder, feature_spec, &device)?;
    let all_rows = train_rows.iter().chain(&test_rows);
    let (image_features, _broken) =
        ImageFeatureCache::encode(&extractor, all_rows, &device, &mut |_| {})?;

    let layers = AdaptedLayers::Last(llama.config().n_layers - 1);
    let features = extractor.width();
    let form = ImageProjectorConfig::Global { hidden: 128 };
    let image =
        ImageConfig { features, form, fusion: ImageFusion::Prompts { gate: 1.0 }, encoder: None };
    let prompts = AdaptionPromptConfig { layers, ..Default::default() };
    let config = AdapterConfig { image: Some(image), ..prompts.into() };
    let statistics = image_features.feature_statistics(&train_rows);
    let trainable = FineTuningMethod::from(config)
        .init(&llama, 0)?
        .with_feature_statistics(statistics.as_ref());

    let (examples, _truncation) = Example::encode_all(&train_rows, &tokenizer, 256)?;
    let mut trainer = Trainer::builder(&llama, trainable, examples)
        .batch_size(16)
        .length(TrainLength::Steps(200))
        .learning_rate(6e-2)
        .image_features(&image_features)
        .build()?;
    while !trainer.is_done() {
        trainer.step()?;
    }

    let trainable = trainer.trainable();
    let adapter = trainable.adapter().expect("an adapter was trained");
    let encoder = RowEncoder::alpaca(&tokenizer)?;
    let predict = |image_features| {
        let adapter = MultimodalAdapter::new(&llama, adapter.clone(), image_features);
        predict_choices(
            &llama,
            &adapter,
            &encoder,
            &test_rows,
            ChoiceScoring::Likelihood,
            16,
            &mut |_| {},
        )
    };
    let (without_image, with_image) = (predict(None)?, predict(Some(&image_features))?);
    let predictions = without_image.iter().zip(&with_image);
    for (row, (without_image, with_image)) in test_rows.iter().zip(predictions).take(4) {
        let option =
            |predicted: &Option<usize>| predicted.map_or("", |index| row.options[index].as_str());
        let (without_image, with_image) = (option(without_image), option(with_image));
        println!("{} {}", row.instruction, row.output);
        println!("    without image: {without_image}  with image: {with_image}");
    }
    for tag in ["thing", "colour", "known pair", "new pair"] {
        let accuracy = |predicted: &[Option<usize>]| {
            let correct = correct_choices(&test_rows, predicted).into_iter().zip(&test_rows);
            let correct = correct.filter(|(_, row)| has(row, tag)).map(|(correct, _)| correct);
            let correct = correct.collect::<Vec<_>>();
            100 * correct.iter().filter(|correct| **correct).count() / correct.len()
        };
        let (without_image, with_image) = (accuracy(&without_image), accuracy(&with_image));
        println!("{tag}: accuracy {without_image} % without image, {with_image} % with image");
    }
    Ok(())
}
