//! TODO-tour
