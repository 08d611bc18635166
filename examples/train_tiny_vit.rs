//! Where does the built-in image encoder come from?
//!
//! Trains a small DINOv2 from scratch to tell the things and the colours of pictures that are drawn
//! while it learns, none of them twice. Six pairs of a thing and a colour are in none of them.
//!
//! ```sh
//! cargo run --release --example train_tiny_vit -- assets/tiny-vit
//! ```
//!
//! You should see both told rightly in some 96 of 100 new pictures, and in as many where the pair
//! is new, after six minutes on two cores.

#![expect(clippy::disallowed_methods, reason = "programs of their own wait as they like")]

#[path = "tiny_pictures/drawing/mod.rs"]
#[expect(dead_code, reason = "nobody here asks for the names of things")]
mod drawing;

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation::log_softmax};
use llama::model::Linear;
use train::{LearningRateSchedule, ModuleGradients, OptimizerConfig, ParameterOptimizer};
use vision::{
    Activation, Encoder, EncoderConfig, EncoderFamily, EncoderSource, Preprocessing, RgbImage,
};

use crate::drawing::{Colour, Labels, SIDE, Thing, picture_at};

const BATCH: usize = 64;
/// One picture of so many is shown without its colours.
const GREY: usize = 4;
const STEPS: usize = 1000;
const SEED: u64 = 7;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).map_or("target/tiny-vit".into(), PathBuf::from);
    let device = device::parse(device::default_name()?)?;
    let mut learner = Learner::init(&device.clone().autodiff());
    println!("{} parameters", learner.num_params());

    let schedule = LearningRateSchedule {
        peak_learning_rate: 3e-3,
        warmup_steps: STEPS / 20,
        total_steps: STEPS,
    };
    let settings =
        OptimizerConfig { max_gradient_norm: Some(1.0), weight_decay: 0.1, ..Default::default() };
    let mut optimizer = ParameterOptimizer::new(&settings);
    let mut shown =
        (0..).map(|index| picture_at(SEED, index)).filter(|(_, own)| !own.is_held_out_pair());
    let begin = Instant::now();
    let mut recent = 0.0;
    for step in 0..STEPS {
        let batch = shown.by_ref().take(BATCH).collect::<Vec<_>>();
        let loss = learner.loss(&batch, &device);
        recent += f64::from(loss.clone().inner().into_scalar::<f32>());
        let gradients = ModuleGradients::from_grads(&learner, loss.backward());
        let norm = gradients.norm();
        learner = optimizer.step(learner, gradients, &norm, schedule.learning_rate(step));
        if (step + 1).is_multiple_of(50) {
            let seconds = begin.elapsed().as_secs_f64();
            println!("step {:5}  loss {:.4}  {seconds:.0} s", step + 1, recent / 50.0);
            recent = 0.0;
        }
    }

    let learned = learner.valid();
    learned.encoder.save(&folder, &preprocessing(), DType::F16)?;
    let saved = EncoderSource::open(&folder)?.load(SIDE as usize, &device)?;
    learned.report(&saved, &device);
    println!("{}: {} bytes", folder.display(), size(&folder)?);
    Ok(())
}

/// An encoder, and what it has to tell.
#[derive(Module, Debug)]
struct Learner {
    encoder: Encoder,
    thing: Linear,
    colour: Linear,
}

type Picture = (RgbImage, Labels);

impl Learner {
    fn init(device: &Device) -> Self {
        let config = EncoderConfig {
            family: EncoderFamily::Dinov2,
            image_size: SIDE as usize,
            patch_size: 4,
            d_model: 48,
            d_ff: 4 * 48,
            n_layers: 4,
            n_heads: 4,
            activation: Activation::Gelu,
            norm_eps: 1e-6,
            projection: None,
        };
        let head = |answers: usize| {
            let weight = Tensor::<2>::zeros([answers, config.d_model], device);
            Linear::new(weight, Some(Tensor::zeros([answers], device)))
        };
        Self {
            encoder: Encoder::init(&config, config.image_size, SEED, device),
            thing: head(Thing::ALL.len()),
            colour: head(Colour::ALL.len()),
        }
    }

    /// Mean negative log-likelihood of the thing, plus that of the colour, which the last pictures
    /// of a batch have none of.
    fn loss(&self, pictures: &[Picture], device: &Device) -> Tensor<1> {
        let coloured = pictures.len() - pictures.len() / GREY;
        let mut shown = pictures.to_vec();
        shown[coloured..].iter_mut().for_each(|(picture, _)| *picture = grey(picture));
        let class = self.encoder.forward(pixels(&shown, device), &[]).class_token();
        let [_batch, d_model] = class.dims();
        let first = class.clone().slice([0..coloured, 0..d_model]);
        let (thing, colour) =
            (|own: &Labels| own.thing as usize, |own: &Labels| own.colour as usize);
        let things = likelihood(self.thing.forward(class), pictures, thing, colour);
        let colours = likelihood(self.colour.forward(first), &pictures[..coloured], colour, thing);
        (things + colours).neg()
    }

    /// Shares of things and of colours that are told rightly in pictures that nobody has seen.
    fn report(&self, encoder: &Encoder, device: &Device) {
        const PICTURES: u64 = 4800;
        let (new, known): (Vec<_>, Vec<_>) = (0..PICTURES)
            .map(|index| picture_at(SEED + 1, index))
            .partition(|own| own.1.is_held_out_pair());
        for (name, pictures) in [("known pairs", known), ("new pairs", new)] {
            let (mut things, mut colours) = (0, 0);
            for some in pictures.chunks(BATCH) {
                let class = encoder.forward(pixels(some, device), &[]).class_token();
                let told = |head: &Linear| -> Vec<i64> {
                    let best = head.forward(class.clone()).argmax(1).into_data();
                    best.iter::<i64>().collect()
                };
                let (thing, colour) = (told(&self.thing), told(&self.colour));
                let pairs = some.iter().zip(thing.into_iter().zip(colour));
                for ((_, labels), (thing, colour)) in pairs {
                    things += usize::from(thing == labels.thing as i64);
                    colours += usize::from(colour == labels.colour as i64);
                }
            }
            let share = |right: usize| 100.0 * right as f64 / pictures.len() as f64;
            let (things, colours) = (share(things), share(colours));
            let count = pictures.len();
            println!(
                "{name}: {things:.1} % of things, {colours:.1} % of colours, in {count} pictures"
            );
        }
    }
}

/// Mean log-likelihood of the right answers. What is never right beside the other label is no
/// answer at all: nobody is taught that no hat is red just because none was shown.
fn likelihood(
    scores: Tensor<2>,
    pictures: &[Picture],
    right: fn(&Labels) -> usize,
    other: fn(&Labels) -> usize,
) -> Tensor<1> {
    let [rows, answers] = scores.dims();
    let device = scores.device().without_autodiff();
    let labels = pictures.iter().map(|(_, own)| right(own) as i64).collect::<Vec<_>>();
    let labels = Tensor::<1, Int>::from_ints(labels.as_slice(), &device);
    let never = pictures.iter().flat_map(|(_, own)| {
        (0..answers).map(|answer| if answer == other(own) { -1e4 } else { 0.0 })
    });
    let never =
        Tensor::from_data(TensorData::new(never.collect::<Vec<f32>>(), [rows, answers]), &device);
    log_softmax(scores + never, 1).gather(1, labels.reshape([-1, 1])).mean()
}

/// Without its colours: shapes are to be known whatever the colour.
fn grey(picture: &RgbImage) -> RgbImage {
    let mut picture = picture.clone();
    for pixel in picture.pixels_mut() {
        let [red, green, blue] = pixel.0.map(u32::from);
        pixel.0 = [((3 * red + 6 * green + blue) / 10) as u8; 3];
    }
    picture
}

/// As they are, from -1 to 1.
fn preprocessing() -> Preprocessing {
    let size = SIDE as usize;
    Preprocessing { shortest_edge: size, image_size: size, mean: [0.5; 3], std: [0.5; 3] }
}

fn pixels(pictures: &[Picture], device: &Device) -> Tensor<4> {
    let pictures = pictures.iter().map(|(picture, _)| picture.clone()).collect::<Vec<_>>();
    preprocessing().pixels(&pictures, device)
}

fn size(folder: &Path) -> std::io::Result<u64> {
    Ok(folder.join("model.safetensors").metadata()?.len())
}
