//! Against a real RabbitMQ: the one that `PAYMESH_TEST_RABBITMQ_URL` names, and brokers of these tests' own where
//! they are killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod broker;
mod consumer;
mod delivery;
mod faults;
mod refusals;
mod tls;
mod world;
