//! svc-fraud as a process of its own.

fn main() -> std::process::ExitCode {
    mesh::service_main::<svc_fraud::Fraud>()
}
