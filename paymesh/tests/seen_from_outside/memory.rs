//! What of the mesh's memory could reach a disk: no core image, and no swap where the system lets it.

use std::os::unix::process::ExitStatusExt as _;

use crate::support::process::Process;

fn spawn(dir: &std::path::Path, set: &[&str]) -> Process {
    let mut arguments = vec!["--edge-addr", "127.0.0.1:0"];
    for setting in set {
        arguments.extend(["--set", setting]);
    }
    Process::spawn(&dir.join("data"), &dir.join("log"), &arguments)
}

fn proc(process: &Process, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{}/{file}", process.id())).unwrap()
}

fn line(text: &str, begins: &str) -> Vec<String> {
    let line = text.lines().find(|line| line.starts_with(begins)).unwrap();
    line.trim_start_matches(begins).split_whitespace().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_crash_leaves_no_core_image_and_memory_is_locked_where_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let mut mesh = spawn(dir.path(), &[]);
    mesh.ready().await;
    assert_eq!(line(&proc(&mesh, "limits"), "Max core file size")[..2], ["0", "0"]);
    let locked: u64 = line(&proc(&mesh, "status"), "VmLck:")[0].parse().unwrap();
    let said_why_not = mesh.said().contains("memory is not locked, as the process may not");
    assert_eq!(locked == 0, said_why_not, "{locked} kB are locked");
    mesh.signal("ABRT");
    let ended = mesh.ended().await;
    assert!(ended.signal().is_some() && !ended.core_dumped(), "{ended}");
}

#[tokio::test]
async fn whoever_wants_core_images_may_have_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut mesh = spawn(dir.path(), &["mesh.memory.core_dumps=true", "mesh.memory.lock=off"]);
    mesh.ready().await;
    let own = std::fs::read_to_string("/proc/self/limits").unwrap();
    let begins = "Max core file size";
    assert_eq!(line(&proc(&mesh, "limits"), begins), line(&own, begins));
    assert_eq!(line(&proc(&mesh, "status"), "VmLck:")[0], "0");
}
