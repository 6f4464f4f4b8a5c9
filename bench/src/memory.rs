//! Memory of a process, as Linux counts it; elsewhere it is not known.

/// What a process has in memory now, and the most that it ever had, for people.
pub(crate) fn of(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mebibytes =
        |name| parse(&status, name).map_or_else(|| "?".to_owned(), |bytes| (bytes >> 20).to_string());
    format!("{} MiB in memory, at most {} so far", mebibytes("VmRSS:"), mebibytes("VmHWM:"))
}

/// Bytes that this process has in memory now; 0 where it is not known.
pub(crate) fn here() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse(&status, "VmRSS:").unwrap_or(0)
}

/// A line of proc_pid_status(5), such as `VmRSS:    1234 kB`, where a kB is 1,024 bytes.
fn parse(status: &str, name: &str) -> Option<u64> {
    let kilobytes: u64 =
        status.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix(" kB")?.parse().ok()?;
    kilobytes.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_is_asked_for_is_read() {
        let status = "Name:\tbench\nVmHWM:\t    2048 kB\nVmRSS:\t     100 kB\n";
        assert_eq!(
            (parse(status, "VmRSS:"), parse(status, "VmHWM:"), parse(status, "VmSwap:")),
            (Some(102_400), Some(2_097_152), None)
        );
    }
}
