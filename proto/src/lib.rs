//! The contract between the services: messages, clients and servers generated from `paymesh/**.proto`,
//! and the descriptors that the edge, the policy tests and the documentation are driven by.
//!
//! Knows nothing of any service's inside.

// Generated code documents itself from the proto comments; its style is not ours to lint.
#![allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]

/// What a method or a field promises beyond its type.
pub mod options {
    pub mod v1 {
        tonic::include_proto!("paymesh.options.v1");
    }
}

/// Card vault and encryption.
pub mod crypto {
    pub mod v1 {
        tonic::include_proto!("paymesh.crypto.v1");
    }
}

/// Double-entry ledger.
pub mod ledger {
    pub mod v1 {
        tonic::include_proto!("paymesh.ledger.v1");
    }
}

/// Payments and refunds.
pub mod payments {
    pub mod v1 {
        tonic::include_proto!("paymesh.payments.v1");
    }
}

/// Fraud assessment.
pub mod fraud {
    pub mod v1 {
        tonic::include_proto!("paymesh.fraud.v1");
    }
}

/// Tax calculation.
pub mod tax {
    pub mod v1 {
        tonic::include_proto!("paymesh.tax.v1");
    }
}

/// The parts of `google.api` that messages of ours have as fields.
pub mod google_api;

/// The benchmarks' echo.
pub mod echo {
    pub mod v1 {
        tonic::include_proto!("paymesh.echo.v1");
    }
}

mod redacted;

/// The encoded `FileDescriptorSet` of the whole contract, with comments and extension options.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/paymesh.bin"));

/// The contract as a pool that can be reflected over.
///
/// # Panics
/// Never: the set is compiled into this crate and decoded by its tests.
pub fn descriptor_pool() -> prost_reflect::DescriptorPool {
    static POOL: std::sync::OnceLock<prost_reflect::DescriptorPool> = std::sync::OnceLock::new();
    POOL.get_or_init(|| {
        prost_reflect::DescriptorPool::decode(DESCRIPTOR_SET).expect("the set was compiled with this crate")
    })
    .clone()
}
