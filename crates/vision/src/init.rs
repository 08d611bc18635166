//! seed ─► trainable encoder with random parameters

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::config::EncoderConfig;
use crate::encoder::Encoder;
use crate::tensor_names::{CheckpointLayout, TensorNames};
use crate::tensors::{Parameter, encoder_tensors};

impl Encoder {
    /// An encoder with random parameters for images of `image_size` pixels per side. On an autodiff
    /// device every parameter is trainable. The same seed gives the same encoder on any device.
    ///
    /// Matrices are uniform in ±√(6 / (in + out)), the class token and the position embeddings are
    /// normal with a standard deviation of 0.02; norms and layer scales are 1, biases 0.
    ///
    /// Source: arXiv 2010.11929, as released.
    ///
    /// # Panics
    /// If the image size is not a multiple of the patch size, or the width not of the number of heads.
    pub fn init(config: &EncoderConfig, image_size: usize, seed: u64, device: &Device) -> Self {
        /// Standard deviation of the embeddings.
        const STD: f32 = 0.02;
        let &EncoderConfig { d_model, patch_size, n_heads, .. } = config;
        assert!(image_size > 0 && image_size.is_multiple_of(patch_size), "{image_size} pixels");
        assert!(d_model.is_multiple_of(n_heads), "{n_heads} heads");

        let mut encoder = Self::zeros(config, image_size, device);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let names = TensorNames::new(CheckpointLayout::for_family(config.family), "");
        let config = EncoderConfig { image_size, ..config.clone() };
        for tensor in encoder_tensors(&names, &config) {
            let count = tensor.spec.shape.iter().product::<usize>();
            match tensor.parameter(&mut encoder) {
                Parameter::Vector(_) => {}
                Parameter::Matrix(weight) => {
                    let rows = tensor.spec.shape[0];
                    let columns = count / rows;
                    let bound = (6.0 / (rows + columns) as f32).sqrt();
                    let values = (0..count).map(|_| rng.random_range(-bound..bound));
                    let data = TensorData::new(values.collect::<Vec<f32>>(), [rows, columns]);
                    *weight = Tensor::<2>::from_data(data, device).into();
                }
                Parameter::Embedding(embedding) => {
                    let mut sample = || -> f32 { StandardNormal.sample(&mut rng) };
                    let values = (0..count).map(|_| STD * sample()).collect::<Vec<_>>();
                    let data = TensorData::new(values, [1, count / d_model, d_model]);
                    *embedding = Param::from_tensor(Tensor::from_data(data, device));
                }
            }
        }
        encoder
    }
}
