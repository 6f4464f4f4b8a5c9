//! svc-payments as a process of its own.

/// What is freed is wiped: buffers of HTTP/2, TLS and messages hold card numbers too.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> std::process::ExitCode {
    mesh::service_main::<svc_payments::Payments>()
}
