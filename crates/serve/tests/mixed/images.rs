//! Requests with images, through the built-in image encoder.

use std::sync::Arc;

use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdaptionPromptConfig, ImageBatch, ImageConfig, ImageFusion,
    ImageProjectorConfig, PromptInit,
};
use burn::module::Module;
use burn::tensor::Device;
use image::{Rgb, RgbImage};
use llama::{GenerationConfig, Precision, generate};
use serve::{
    AdapterChoice, Diagnostic, EngineConfig, GenerationRequest, ImageEncoders, ImageInput,
};
use vision::{FeatureExtractor, FeatureSpec};

use crate::world::{Perturb, World};

/// The built-in encoder, loaded once.
struct BuiltInEncoder(Arc<FeatureExtractor>);

impl BuiltInEncoder {
    fn new(device: &Device) -> Self {
        let source = built_in::image_encoder().unwrap();
        let spec = FeatureSpec::global(source.config(), source.preprocessing().image_size);
        Self(Arc::new(FeatureExtractor::load(&source, spec, device).unwrap()))
    }
}

impl ImageEncoders for BuiltInEncoder {
    fn extractor(
        &self,
        _conditions: &[&ImageConfig],
    ) -> Result<Arc<FeatureExtractor>, Box<dyn Diagnostic + Send + Sync>> {
        Ok(Arc::clone(&self.0))
    }
}

fn picture(color: [u8; 3]) -> RgbImage {
    RgbImage::from_fn(
        32,
        32,
        |x, y| if (x / 8 + y / 8) % 2 == 0 { Rgb(color) } else { Rgb([0; 3]) },
    )
}

#[test]
fn each_request_has_its_own_image() {
    let device = testing::flex();
    let mut world = World::new(&device, Precision::F32);
    let encoder = BuiltInEncoder::new(&device);
    let prompts = AdaptionPromptConfig {
        adapter_len: 5,
        layers: AdaptedLayers::Last(2),
        init: PromptInit { gate: 0.5, gate_std: 0.2, ..PromptInit::default() },
        ..AdaptionPromptConfig::default()
    };
    let image = ImageConfig {
        features: encoder.0.width(),
        form: ImageProjectorConfig::Global { hidden: 16 },
        fusion: ImageFusion::Prompts { gate: 1.0 },
        encoder: None,
    };
    let config = AdapterConfig { image: Some(image), ..prompts.into() };
    let adapter = config.init(&world.llama, 9, &device).unwrap().map(&mut Perturb(9));
    world.adapters.push(("sees".into(), adapter.clone()));
    let extractor = Arc::clone(&encoder.0);
    world.images = Some(Arc::new(encoder));

    let engine = world.engine(EngineConfig::default());
    let pictures = [picture([255, 0, 0]), picture([0, 80, 255])];
    let request = |picture: Option<&RgbImage>| GenerationRequest {
        adapter: AdapterChoice::Named("sees".into()),
        image: picture.map(|picture| Arc::new(ImageInput::new(picture.clone()))),
        max_new_tokens: 20,
        ..GenerationRequest::new((10..80).collect())
    };
    let asked = [Some(&pictures[0]), None, Some(&pictures[1]), Some(&pictures[0])];
    let running = asked.map(|picture| engine.handle().submit(request(picture)).unwrap());
    let answers = running.map(|own| own.blocking_answer().unwrap());
    assert_eq!(answers[0].choices, answers[3].choices);

    let config = GenerationConfig { max_new_tokens: 20, ..GenerationConfig::default() };
    for (picture, answer) in asked.iter().zip(&answers) {
        let prepared = match picture {
            Some(picture) => {
                let features = extractor.encode(std::slice::from_ref(*picture));
                adapter.prepare_with_images(&world.llama, &ImageBatch::single(features))
            }
            None => adapter.prepare(&world.llama),
        };
        let expected = generate(&world.llama, &prepared, &[(10..80).collect()], &config).unwrap();
        assert_eq!(answer.token_ids()[0], expected[0].tokens);
    }
    let ids = answers.map(|answer| answer.token_ids());
    assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
}
