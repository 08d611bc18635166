//! The HTTP server on a fake model: every path, every kind of error, and clients that behave badly.

mod access;
mod adapters;
mod chat;
mod completions;
mod connections;
mod fixture;
mod hostile;
mod limits;
mod observability;
mod streams;
