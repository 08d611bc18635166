//! Serving of one model with many adapters.
