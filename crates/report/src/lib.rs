//! Training runs as plots, a report page, tables of comparison and TensorBoard event files.
