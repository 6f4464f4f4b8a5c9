//! Configuration: one typed tree from built-in defaults, a file, the environment and flags.
//!
//! A [`Tree`] knows every setting of the services that it was made with. [`Tree::load`] reads the layers
//! ([`Sources`]), each over the one before, and refuses what it does not know, all of it at once. A service
//! then takes its part, typed ([`Loaded::service`]). `[mesh]` holds what is common to all services;
//! a service's own table says what differs, and what only that service has.
//!
//! Knows no setting by name but the handful that [`MeshConfig`] has.

mod args;
mod check;
mod example;
mod explain;
mod file;
mod given;
mod load;
mod node;
mod problem;
mod text;
mod tree;
mod verify;

pub use args::{Assignment, ConfigArgs, HELP};
pub use check::Checked;
pub use explain::Entry;
pub use given::Origin;
pub use load::{Loaded, Sources};
pub use problem::{Problem, Problems, nearest};
pub use tree::{MeshConfig, Tree};
