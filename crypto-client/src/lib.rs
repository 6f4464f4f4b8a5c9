//! The client of svc-crypto for the other services: what many ask for at once travels as one call, and what is
//! large or frequent is sealed on the spot, with data keys that the service gave.
//!
//! - [`CryptoClient`] has the verbs of CryptoService. Calls that are made while others are under way are gathered
//!   into batches, each answered by itself; an idle client waits for nothing.
//! - [`LocalEncryption`] seals and opens here, with cached data keys, within the limits that the service sets.
//!
//! Knows nothing of keys' names, tenants or grants: those are the caller's and the service's.
//!
//! ```no_run
//! # async fn example(upstream: mesh::Upstream, call: mesh::Call) -> Result<(), mesh::Fault> {
//! use crypto_client::{CryptoClient, LocalEncryption};
//! use paymesh_proto::crypto::v1::EncryptRequest;
//!
//! let crypto = CryptoClient::new(upstream);
//! let tenant = call.tenant()?.clone();
//! let request = EncryptRequest {
//!     key_name: "payments.notes".into(),
//!     plaintext: "a note".into(),
//!     aad: "payments/notes/17".into(),
//!     key_version: 0,
//! };
//! let sealed = crypto.encrypt(&call, &tenant, request).await?;
//!
//! let documents = LocalEncryption::new(crypto, "payments.documents");
//! let envelope = documents.seal(&call, &tenant, b"documents/17", b"a large document").await?;
//! let document = documents.open(&call, &tenant, b"documents/17", &envelope).await?;
//! # Ok(())
//! # }
//! ```

mod batches;
mod client;
mod data_key;
mod local;

pub use client::CryptoClient;
pub use crypto_envelope::secret::SecretBytes;
pub use local::LocalEncryption;
