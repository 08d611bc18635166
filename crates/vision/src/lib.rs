//! Frozen image encoders on Burn: CLIP's and DINOv2's vision transformers, and what they want of a
//! picture.
//!
//! ```text
//! JPEG, PNG, WebP ─► RgbImage ─► Preprocessing ─► pixels ─► Encoder ─► Features
//!                     └──────── FeatureExtractor ─────────────────────────┘ └─► Reading ─► features
//!                                folder, file ─► EncoderSource ──┘
//! ```
//!
//! An encoder that was loaded is frozen: it has no gradients, and what it sees in a picture need be
//! computed once only. [`Encoder::init`] makes one that can learn, [`Encoder::save`] keeps it.

mod block;
mod config;
mod encoder;
mod error;
mod init;
mod keys;
mod load;
mod names;
mod picture;
mod positions;
mod preprocess;
mod resample;
mod save;
mod viewer;

pub use block::{Attention, Block, Mlp};
pub use config::{Activation, EncoderConfig, EncoderFamily};
/// A picture in memory.
pub use image::RgbImage;

pub use diagnostic::{Advice, Diagnostic};
pub use encoder::{Encoder, EncoderOutput, class_token};
pub use error::{Error, Result};
pub use load::EncoderSource;
pub use picture::{decode_image, read_image};
pub use preprocess::Preprocessing;
pub use viewer::{EncoderInfo, FeatureExtractor, FeatureSpec, HiddenState, TokenSelection};
