//! Compiles the contract with a pure Rust compiler, so that no `protoc` needs to be installed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: &[&str] = &[
    "paymesh/options/v1/options.proto",
    "paymesh/crypto/v1/vault.proto",
    "paymesh/crypto/v1/crypto.proto",
    "paymesh/crypto/v1/keys.proto",
    "paymesh/crypto/v1/audit.proto",
    "paymesh/crypto/v1/root.proto",
    "paymesh/ledger/v1/ledger.proto",
    "paymesh/payments/v1/payments.proto",
    "paymesh/payments/v1/webhooks.proto",
    "paymesh/fraud/v1/fraud.proto",
    "paymesh/tax/v1/tax.proto",
    "paymesh/echo/v1/echo.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=paymesh");
    println!("cargo:rerun-if-changed=google");
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(FILES)?;
    // The compiler's own encoding keeps extension options (google.api.http), which prost's typed
    // FileDescriptorSet would drop.
    let encoded = compiler.encode_file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("paymesh.bin"), &encoded)?;
    let descriptors = prost_types_set(&encoded)?;
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".")
        // Maps keep one order, so that equal messages have equal bytes (idempotency fingerprints).
        .btree_map(".")
        .skip_debug([
            ".paymesh.crypto.v1.CardInput",
            ".paymesh.crypto.v1.DetokenizeResponse",
            ".paymesh.crypto.v1.EncryptRequest",
            ".paymesh.crypto.v1.DecryptResponse",
            ".paymesh.crypto.v1.DataKey",
            ".paymesh.crypto.v1.ComputeMacRequest",
            ".paymesh.crypto.v1.VerifyMacRequest",
            ".paymesh.crypto.v1.BlindIndexRequest",
            ".paymesh.crypto.v1.FormatRequest",
            ".paymesh.crypto.v1.FormatResponse",
            ".paymesh.crypto.v1.SignRequest",
            ".paymesh.crypto.v1.VerifyRequest",
            ".paymesh.crypto.v1.LargeRequest",
            ".paymesh.crypto.v1.LargeRequest.part",
            ".paymesh.crypto.v1.LargeResponse",
            ".paymesh.crypto.v1.UnsealRequest",
            ".paymesh.payments.v1.ReceiveWebhookRequest",
        ])
        .extern_path(".google.api", "crate::google_api")
        .compile_fds(descriptors)?;
    Ok(())
}

fn prost_types_set(encoded: &[u8]) -> Result<tonic_prost_build::FileDescriptorSet, Box<dyn Error>> {
    Ok(tonic_prost_build::FileDescriptorSet::decode(encoded)?)
}
