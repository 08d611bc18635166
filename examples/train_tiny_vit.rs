//! Where does the built-in image encoder come from?
//!
//! Trains a small DINOv2 from scratch to classify the object and the color of generated images, none of
//! which is used twice. Six pairs of an object and a color are held out.
//!
//! ```sh
//! cargo run --release --example train_tiny_vit -- crates/built-in/assets/tiny-vit
//! ```
//!
//! You should see an accuracy of some 96 % for both on new images, and the same on held-out pairs,
//! after six minutes on two cores.

#![expect(clippy::disallowed_methods, reason = "an example may read tensors directly")]

#[path = "tiny_images/drawing/mod.rs"]
#[expect(dead_code, reason = "the names are for questions")]
mod drawing;

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation::log_softmax};
use llama::model::Linear;
use train::{LearningRateDecay, LearningRateSchedule, ModuleGradients, OptimizerConfig};
use vision::{Encoder, EncoderConfig, EncoderFamily, EncoderSource, Preprocessing, RgbImage};

use crate::drawing::{Color, Labels, SIDE, Thing, image_at};

const BATCH: usize = 64;
/// One of this many images is converted to grayscale.
const GRAYSCALE_ONE_IN: usize = 4;
const STEPS: usize = 1000;
const SEED: u64 = 7;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).map_or("target/tiny-vit".into(), PathBuf::from);
    let device = device::parse(device::default_name()?)?;
    let mut classifier = ThingAndColorClassifier::init(&device.clone().autodiff());
    println!("{} parameters", classifier.num_params());

    let schedule = LearningRateSchedule {
        peak_learning_rate: 3e-3,
        warmup_steps: STEPS / 20,
        total_steps: STEPS,
        decay: LearningRateDecay::Cosine,
    };
    let settings =
        OptimizerConfig { max_gradient_norm: Some(1.0), weight_decay: 0.1, ..Default::default() };
    let mut optimizer = settings.init();
    let mut images =
        (0..).map(|index| image_at(SEED, index)).filter(|(_, labels)| !labels.is_held_out_pair());
    let begin = Instant::now();
    let mut recent = 0.0;
    for step in 0..STEPS {
        let batch = images.by_ref().take(BATCH).collect::<Vec<_>>();
        let loss = classifier.loss(&batch, &device);
        recent += f64::from(loss.clone().inner().into_scalar::<f32>());
        let gradients = ModuleGradients::from_grads(&classifier, loss.backward());
        let norm = gradients.norm();
        classifier = optimizer.step(classifier, gradients, &norm, schedule.learning_rate(step));
        if (step + 1).is_multiple_of(50) {
            let seconds = begin.elapsed().as_secs_f64();
            println!("step {:5}  loss {:.4}  {seconds:.0} s", step + 1, recent / 50.0);
            recent = 0.0;
        }
    }

    let trained = classifier.valid();
    trained.encoder.save(&folder, &preprocessing(), DType::F16)?;
    let saved = EncoderSource::open(&folder)?.load(SIDE as usize, &device)?;
    trained.report(&saved, &device);
    println!("{}: {} bytes", folder.display(), size(&folder)?);
    Ok(())
}

/// An encoder with one classification head each for the object and the color.
#[derive(Module, Debug)]
struct ThingAndColorClassifier {
    encoder: Encoder,
    thing: Linear,
    color: Linear,
}

type LabeledImage = (RgbImage, Labels);

impl ThingAndColorClassifier {
    fn init(device: &Device) -> Self {
        let mut config = EncoderConfig::for_family(EncoderFamily::Dinov2);
        config.image_size = SIDE as usize;
        config.patch_size = 4;
        config.d_model = 48;
        config.d_ff = 4 * 48;
        config.n_layers = 4;
        config.n_heads = 4;
        let head = |classes: usize| {
            let weight = Tensor::<2>::zeros([classes, config.d_model], device);
            Linear::new(weight, Some(Tensor::zeros([classes], device)))
        };
        Self {
            encoder: Encoder::init(&config, config.image_size, SEED, device),
            thing: head(Thing::ALL.len()),
            color: head(Color::ALL.len()),
        }
    }

    /// Mean negative log-likelihood of the object, plus that of the color. The last images of a batch
    /// are converted to grayscale and have no color loss.
    fn loss(&self, images: &[LabeledImage], device: &Device) -> Tensor<1> {
        let colored = images.len() - images.len() / GRAYSCALE_ONE_IN;
        let mut shown = images.to_vec();
        shown[colored..].iter_mut().for_each(|(image, _)| *image = to_grayscale(image));
        let class_token = self.encoder.forward(pixels(&shown, device), &[]).class_token();
        let [_batch, d_model] = class_token.dims();
        let first = class_token.clone().slice([0..colored, 0..d_model]);
        let thing = |labels: &Labels| labels.thing as usize;
        let color = |labels: &Labels| labels.color as usize;
        let things = mean_log_likelihood(self.thing.forward(class_token), images, thing, color);
        let colors =
            mean_log_likelihood(self.color.forward(first), &images[..colored], color, thing);
        (things + colors).neg()
    }

    /// Prints the accuracy of both heads on new images, for known and held-out pairs.
    fn report(&self, encoder: &Encoder, device: &Device) {
        const N_IMAGES: u64 = 4800;
        let (held_out, known): (Vec<_>, Vec<_>) = (0..N_IMAGES)
            .map(|index| image_at(SEED + 1, index))
            .partition(|(_, labels)| labels.is_held_out_pair());
        for (name, images) in [("known pairs", known), ("held-out pairs", held_out)] {
            let (mut things, mut colors) = (0, 0);
            for batch in images.chunks(BATCH) {
                let class_token = encoder.forward(pixels(batch, device), &[]).class_token();
                let predict = |head: &Linear| -> Vec<i64> {
                    let best = head.forward(class_token.clone()).argmax(1).into_data();
                    best.iter::<i64>().collect()
                };
                let (thing, color) = (predict(&self.thing), predict(&self.color));
                let predictions = thing.into_iter().zip(color);
                for ((_, labels), (thing, color)) in batch.iter().zip(predictions) {
                    things += usize::from(thing == labels.thing as i64);
                    colors += usize::from(color == labels.color as i64);
                }
            }
            let count = images.len();
            let percent = |correct: usize| 100.0 * correct as f64 / count as f64;
            let (things, colors) = (percent(things), percent(colors));
            println!(
                "{name}: accuracy {things:.1} % (object), {colors:.1} % (color), {count} images"
            );
        }
    }
}

/// Mean log-likelihood of the correct classes.
///
/// The class that forms a held-out pair with the other label is masked: otherwise its absence from the
/// training data would lower its likelihood.
fn mean_log_likelihood(
    logits: Tensor<2>,
    images: &[LabeledImage],
    label: fn(&Labels) -> usize,
    other: fn(&Labels) -> usize,
) -> Tensor<1> {
    let [rows, classes] = logits.dims();
    let device = logits.device().without_autodiff();
    let labels = images.iter().map(|(_, labels)| label(labels) as i64).collect::<Vec<_>>();
    let labels = Tensor::<1, Int>::from_ints(labels.as_slice(), &device);
    let mask = images.iter().flat_map(|(_, labels)| {
        (0..classes).map(|class| if class == other(labels) { -1e4 } else { 0.0 })
    });
    let mask =
        Tensor::from_data(TensorData::new(mask.collect::<Vec<f32>>(), [rows, classes]), &device);
    log_softmax(logits + mask, 1).gather(1, labels.reshape([-1, 1])).mean()
}

/// In grayscale: objects are to be recognized by shape.
fn to_grayscale(image: &RgbImage) -> RgbImage {
    let mut image = image.clone();
    for pixel in image.pixels_mut() {
        let [red, green, blue] = pixel.0.map(u32::from);
        pixel.0 = [((3 * red + 6 * green + blue) / 10) as u8; 3];
    }
    image
}

/// No resizing; pixels from -1 to 1.
fn preprocessing() -> Preprocessing {
    let size = SIDE as usize;
    Preprocessing::new(size, size, [0.5; 3], [0.5; 3])
}

fn pixels(images: &[LabeledImage], device: &Device) -> Tensor<4> {
    let images = images.iter().map(|(image, _)| image.clone()).collect::<Vec<_>>();
    preprocessing().pixels(&images, device)
}

fn size(folder: &Path) -> std::io::Result<u64> {
    Ok(folder.join("model.safetensors").metadata()?.len())
}
