//! The engine on real models: mixed batches, adapters in folders, images.

mod folders;
mod images;
mod same_answers;
mod world;
