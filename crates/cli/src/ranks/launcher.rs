//! What MPI launchers tell a process through its environment.

/// Whether a launcher has started this process. Without one, MPI would start a daemon of its own for a
/// process that is alone.
#[cfg(feature = "mpi")]
pub fn is_launched() -> bool {
    ["OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
}

/// The number of ranks that a launcher has started, if it tells.
#[cfg(not(feature = "mpi"))]
pub fn announced_ranks() -> Option<usize> {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    let of_step = || std::env::var_os("PMIX_RANK").and_then(|_| number("SLURM_STEP_NUM_TASKS"));
    number("OMPI_COMM_WORLD_SIZE").or_else(|| number("PMI_SIZE")).or_else(of_step)
}
