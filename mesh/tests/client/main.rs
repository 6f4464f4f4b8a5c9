//! The client against real servers in this process, over real mutual TLS: they fail, hang, are killed,
//! move and are drained, and calls still come to the right end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod answers;
mod changing;
mod failing;
mod limits;
mod raw;
mod world;
