//! Memory sizes: `8GiB` ─► bytes, and the memory that the system has available.

use sysinfo::System;

/// Units, longest names first.
const UNITS: [(&str, u64); 12] = [
    ("KIB", 1 << 10),
    ("MIB", 1 << 20),
    ("GIB", 1 << 30),
    ("TIB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("B", 1),
];

/// Bytes of a size such as `8GiB`, `1.5G`, `500MB` or `123456`. G means GiB.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let upper = text.trim().to_uppercase();
    let unit = UNITS.iter().find_map(|(name, unit)| Some((upper.strip_suffix(name)?, *unit)));
    let (number, unit) = unit.unwrap_or((&upper, 1));
    match number.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok((number * unit as f64) as u64),
        _ => Err("expected a size above 0, such as 8GiB, 500MB or 1.5G".into()),
    }
}

/// Available bytes of a CPU device, within the limit of the container if there is one; `None` for GPUs
/// and where the system does not report it.
pub fn available_memory(device: &str) -> Option<u64> {
    let is_cpu = device::backend(device).is_some_and(|backend| !backend.indexed);
    is_cpu.then(available_host_memory)?
}

/// Available bytes of the host's memory, within the limit of the container if there is one; `None` where the
/// system does not report it.
pub fn available_host_memory() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory();
    let limit = (system.total_memory() > 0).then(|| system.cgroup_limits()).flatten();
    let in_container = limit.map(|limit| limit.total_memory.saturating_sub(limit.rss));
    within_limit(system.available_memory(), in_container)
}

/// What the system can give without swapping, and what the container may take beyond its programs: the
/// file cache counts toward its limit but makes room.
fn within_limit(system: u64, in_container: Option<u64>) -> Option<u64> {
    let available = in_container.map_or(system, |container| container.min(system));
    (available > 0).then_some(available)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed_with_and_without_units() {
        for (text, bytes) in [
            ("8GiB", 8 << 30),
            ("1.5g", 3 << 29),
            ("500 MB", 500_000_000),
            ("16kb", 16_000),
            ("12B", 12),
            ("4096", 4096),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "-1G", "0", "8 apples", "inf", "1e400"] {
            assert!(parse_size(text).unwrap_err().contains("8GiB"), "{text}");
        }
    }

    #[test]
    fn the_limit_of_a_container_counts_if_it_is_lower() {
        assert_eq!(within_limit(50, Some(20)), Some(20));
        assert_eq!(within_limit(50, Some(80)), Some(50));
        assert_eq!(within_limit(50, None), Some(50));
        assert_eq!(within_limit(0, None), None);
    }

    #[test]
    fn memory_is_known_for_cpus_only() {
        assert!(available_memory("flex").is_some_and(|bytes| bytes > 1 << 20));
        assert_eq!(available_memory("wgpu"), None);
    }
}
