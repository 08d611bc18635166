//! Golden files of every format, and corrupted ones.

mod corrupted;
mod torch;
