//! What of a process's memory could reach a disk: a core dump, and swap. Keys and card numbers are in memory; neither
//! is to be found on a disk that outlives the process.
//!
//! Knows nothing of what is in memory. Only Linux is known to do what is asked here.

use rustix::{
    mm::{MlockAllFlags, mlockall},
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What may become of the process's memory.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryConfig {
    /// Whether a crash may leave a core image, and another process of the same user may read this one's memory. Keys
    /// and card numbers are in it. Default false.
    pub core_dumps: bool,
    /// Whether memory is kept out of swap.
    pub lock: LockMemory,
}

/// Whether memory is kept out of swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LockMemory {
    /// Where the system lets the process lock as much as it may come to need (`RLIMIT_MEMLOCK` unlimited, or
    /// `CAP_IPC_LOCK`).
    #[default]
    WhereAllowed,
    /// Else the process does not start.
    Required,
    /// Never: for where there is no swap, or it is encrypted.
    Off,
}

/// The process's memory is not protected as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The system does not let it refuse core dumps.
    #[error("core dumps could not be switched off (memory.core_dumps = true would allow them): {0}")]
    CoreDumps(#[source] std::io::Error),
    /// The system does not let it lock memory.
    #[error(
        "memory could not be locked (memory.lock = \"required\"): {0}; give the process CAP_IPC_LOCK or an unlimited RLIMIT_MEMLOCK"
    )]
    Lock(#[source] std::io::Error),
}

/// Protects the memory of this process, for as long as it runs. To be called before there is anything in it.
///
/// # Errors
/// What was asked for cannot be had. Of [`LockMemory::WhereAllowed`] there is only a word in the log.
pub fn protect(config: &MemoryConfig) -> Result<(), MemoryError> {
    if !config.core_dumps {
        refuse_core_dumps().map_err(|error| MemoryError::CoreDumps(error.into()))?;
    }
    match config.lock {
        LockMemory::Off => {}
        LockMemory::Required => lock().map_err(|error| MemoryError::Lock(error.into()))?,
        LockMemory::WhereAllowed if may_lock_all() => {
            if let Err(error) = lock() {
                tracing::warn!(%error, "memory is not locked: it may be swapped to disk");
            }
        }
        LockMemory::WhereAllowed => {
            tracing::info!("memory is not locked, as the process may not: it may be swapped to disk");
        }
    }
    Ok(())
}

fn refuse_core_dumps() -> rustix::io::Result<()> {
    // A limit of 0 stops a file; a handler that core_pattern pipes to is stopped by the other.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// All that there is and will be, each page when it is first used.
fn lock() -> rustix::io::Result<()> {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
}

/// With a limit, an allocation beyond it would fail some day.
fn may_lock_all() -> bool {
    getrlimit(Resource::Memlock).current.is_none()
        || has_ipc_lock(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// `CAP_IPC_LOCK`, number 14 of capabilities(7), among the effective ones of `/proc/<pid>/status`.
fn has_ipc_lock(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .is_some_and(|bits| bits >> 14 & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_is_read_from_what_the_kernel_says() {
        assert!(has_ipc_lock("Name:\tpaymesh\nCapEff:\t000001ffffffffff\n"));
        assert!(has_ipc_lock("CapEff:\t0000000000004000\n"));
        for without in ["CapEff:\t0000000000003fff\n", "CapPrm:\t0000000000004000\n", "CapEff:\tx\n", ""] {
            assert!(!has_ipc_lock(without), "{without}");
        }
    }
}
