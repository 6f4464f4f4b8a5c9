//! CPU time of a process, as Linux counts it; elsewhere it is not known.

use std::time::Duration;

/// `USER_HZ`: proc(5) counts in hundredths of a second on every architecture that we run on.
const TICK: Duration = Duration::from_millis(10);

/// The CPU time that a process and its threads have used, in user and kernel mode.
pub(crate) fn used_by(pid: u32) -> Option<Duration> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The same of this process.
pub(crate) fn used_here() -> Option<Duration> {
    used_by(std::process::id())
}

/// Fields 14 and 15 of `/proc/<pid>/stat`; the name, field 2, may hold spaces and parentheses.
fn parse(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let kernel: u32 = fields.next()?.parse().ok()?;
    TICK.checked_mul(user.checked_add(kernel)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_kernel_time_are_added() {
        let stat = "42 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 7 8 20 0";
        assert_eq!(parse(stat), Some(Duration::from_secs(3)));
        assert_eq!(parse("42 (x) S"), None);
    }
}
