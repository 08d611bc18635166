//! Memory sizes: `8GiB` ─► bytes, and the memory that the system has available.

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

/// Available bytes of a CPU device; `None` for GPUs and where the system does not report it.
pub fn available_memory(device: &str) -> Option<u64> {
    let is_cpu = device::backend(device).is_some_and(|backend| !backend.indexed);
    is_cpu.then(available_host_memory)?
}

/// Available bytes of the host's memory; `None` where the system does not report it.
///
/// In a container: no more than its limit leaves.
pub fn available_host_memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let system = parse_available(&read("/proc/meminfo")?)?;
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let limit = number("/sys/fs/cgroup/memory.max");
    let used = number("/sys/fs/cgroup/memory.current").unwrap_or(0);
    Some(limit.map_or(system, |limit| system.min(limit.saturating_sub(used))))
}

/// Parses `/proc/meminfo`: the memory that is available without swapping.
fn parse_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(kib << 10)
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
    fn available_memory_is_found_among_the_others() {
        let text = "MemTotal:  100 kB\nMemFree: 7 kB\nMemAvailable:   50 kB\n";
        assert_eq!(parse_available(text), Some(50 << 10));
        assert_eq!(parse_available("MemFree: 7 kB\n"), None);
    }
}
