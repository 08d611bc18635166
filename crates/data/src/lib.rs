//! Rows of data files of every shape: JSON, tables, Parquet, compressed, mixed, streamed.

pub mod statistics;
