//! The memory of this process, as the system counts it.

/// Resident memory in bytes; `None` where the system has no `/proc`.
pub(super) fn resident_bytes() -> Option<u64> {
    parse_resident_bytes(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_a_process_status() {
        let status = "Name:\ttrain\nVmHWM:\t    9000 kB\nVmRSS:\t    2048 kB\n";
        assert_eq!(parse_resident_bytes(status), Some(2 << 20));
        assert_eq!(parse_resident_bytes("VmRSS:\t18446744073709551615 kB\n"), None);
        assert_eq!(parse_resident_bytes("Name:\ttrain\n"), None);
    }
}
