//! CLIP and DINOv2 image encoders on Burn: checkpoints, preprocessing, image features.
//!
//! ```text
//! folder, file ─► EncoderSource ─► Encoder ─┐
//! JPEG, PNG, WebP ─► RgbImage ─► Preprocessing ─► pixels ─► hidden states ─► FeatureSpec ─► features
//!                     └────────────────────── FeatureExtractor ────────────────────────────┘
//! ```
//!
//! A loaded encoder is frozen: it has no gradients, so the features of an image are computed once.
//! [`Encoder::init`] makes a trainable encoder and [`Encoder::save`] writes it.
//!
//! ```
//! use vision::{EncoderSource, FeatureExtractor, FeatureSpec, RgbImage};
//!
//! # fn main() -> vision::Result<()> {
//! # let folder = testing::golden_folder().join("../../crates/built-in/assets/tiny-vit");
//! # let device = testing::flex();
//! // A folder with config.json, model.safetensors and preprocessor_config.json.
//! let source = EncoderSource::open(folder)?;
//! let image_size = source.preprocessing().image_size;
//! let spec = FeatureSpec::all_tokens(source.config(), image_size);
//! let extractor = FeatureExtractor::load(&source, spec, &device)?;
//!
//! // `vision::read_image` reads a file.
//! let image = RgbImage::from_pixel(200, 100, [255, 0, 0].into());
//! let features = extractor.encode(&[image]);
//! assert_eq!(features.dims(), [1, extractor.n_tokens(), extractor.width()]);
//! println!("{features}");
//! # Ok(())
//! # }
//! ```

mod block;
mod config;
mod config_keys;
mod cubic;
mod decode;
mod encoder;
mod encoder_info;
mod error;
mod feature_extractor;
mod feature_spec;
mod hugging_face_config;
mod image_limits;
mod init;
mod load;
mod openai_config;
mod position_embeddings;
mod preprocess;
mod preprocessor_config;
mod resample;
mod save;
mod tensor_names;
mod tensors;

// Parts of the image projector of `adaption-prompt`.
#[doc(hidden)]
pub use block::{Attention, Block, BlockConfig, Mlp};
pub use config::{Activation, EncoderConfig, EncoderFamily};
pub use decode::{decode_image, decode_image_within, read_image};
pub use diagnostic::{Advice, Diagnostic};
pub use encoder::{Encoder, EncoderOutput, class_token};
pub use encoder_info::EncoderInfo;
pub use error::{Error, Result};
pub use feature_extractor::FeatureExtractor;
pub use feature_spec::{FeatureSpec, HiddenState, TokenSelection};
/// An image in memory; a type of the `image` crate, re-exported for callers without that dependency.
pub use image::RgbImage;
pub use image_limits::ImageLimits;
pub use load::EncoderSource;
pub use preprocess::Preprocessing;
