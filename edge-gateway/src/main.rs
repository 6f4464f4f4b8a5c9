//! The edge as a process of its own.

fn main() -> std::process::ExitCode {
    mesh::service_main::<edge_gateway::Edge>()
}
