//! The envelope next to the bare cipher, and the checks of a card.

// The macros of criterion make functions without documentation.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::SystemRandom;
use svc_crypto::domain::{
    card::{self, Draft, Month},
    deterministic::DeterministicKey,
    envelope::{KeyRef, Salt, SealingKey},
    format_preserving::{Alphabet, FormatPreservingKey},
    key_import::{EcdhImport, ImportSeed, RsaImport},
    key_wrap,
    keys::MacKey,
    large::LargeKey,
    mac::{IndexKey, IndexLength, TagKey},
    secret::KeyBytes,
    signing::{Encoding, Scheme, SigningKey},
    token,
};

const CONTEXT: &[u8] = b"tenant acme, token 01933c5e8f7a7c3e9d5b2a4f6e8c0d1b";
const SIZES: [usize; 3] = [64, 1024, 16 * 1024];

fn envelope(criterion: &mut Criterion) {
    let reference = KeyRef { id: uuid::Uuid::from_u128(1), version: 1 };
    let key = SealingKey::new(reference, &KeyBytes::take(&mut [1; 32]));
    let Ok(bare) = UnboundKey::new(&AES_256_GCM, &[1; 32]).map(LessSafeKey::new) else { return };

    let mut seal = criterion.benchmark_group("seal");
    for size in SIZES {
        let plaintext = vec![7; size];
        seal.throughput(Throughput::Bytes(size as u64));
        seal.bench_function(BenchmarkId::new("envelope", size), |b| {
            b.iter(|| key.seal(Salt::new(black_box([3; 32])), CONTEXT, &plaintext));
        });
        // Into a fresh vector, as the envelope does.
        seal.bench_function(BenchmarkId::new("ring", size), |b| {
            b.iter(|| {
                let mut body = Vec::with_capacity(size + 16);
                body.extend_from_slice(&plaintext);
                let nonce = Nonce::assume_unique_for_key(black_box([3; 12]));
                bare.seal_in_place_append_tag(nonce, Aad::from(CONTEXT), &mut body).map(|()| body)
            });
        });
    }
    seal.finish();

    let mut open = criterion.benchmark_group("open");
    for size in SIZES {
        let plaintext = vec![7; size];
        open.throughput(Throughput::Bytes(size as u64));
        let Ok(sealed) = key.seal(Salt::new([3; 32]), CONTEXT, &plaintext) else { return };
        open.bench_function(BenchmarkId::new("envelope", size), |b| {
            b.iter(|| key.open(black_box(&sealed), CONTEXT));
        });
        let mut body = plaintext;
        let nonce = || Nonce::assume_unique_for_key([3; 12]);
        if bare.seal_in_place_append_tag(nonce(), Aad::from(CONTEXT), &mut body).is_err() {
            return;
        }
        open.bench_function(BenchmarkId::new("ring", size), |b| {
            b.iter(|| {
                let mut body = black_box(&body).clone();
                let length =
                    bare.open_in_place(nonce(), Aad::from(CONTEXT), &mut body).map(|opened| opened.len());
                length.map(|length| body.truncate(length)).map(|()| body)
            });
        });
    }
    open.finish();
}

fn tokenize(criterion: &mut Criterion) {
    let draft = Draft {
        number: "4242 4242 4242 4242",
        exp_month: 12,
        exp_year: 2030,
        cvc: "123",
        holder_name: "Ada Payer",
    };
    let now = Month { year: 2026, month: 11 };
    criterion.bench_function("card/validate", |b| b.iter(|| card::validate(black_box(draft), now)));
    let Ok(valid) = card::validate(draft, now) else { return };
    let key = MacKey::new(&KeyBytes::take(&mut [1; 32]));
    criterion.bench_function("card/index tag", |b| b.iter(|| token::index_tag(black_box(&valid.pan), &key)));
    criterion.bench_function("card/shown", |b| b.iter(|| token::Shown::of(black_box(&valid), &key)));
}

fn bytes() -> KeyBytes {
    KeyBytes::take(&mut [1; 32])
}

const REFERENCE: KeyRef = KeyRef { id: uuid::Uuid::from_u128(1), version: 1 };

/// The other ways to encrypt.
fn modes(criterion: &mut Criterion) {
    let key = DeterministicKey::new(REFERENCE, &bytes());
    let mut deterministic = criterion.benchmark_group("deterministic");
    for size in SIZES {
        let plaintext = vec![7; size];
        deterministic.throughput(Throughput::Bytes(size as u64));
        deterministic.bench_function(BenchmarkId::new("seal", size), |b| {
            b.iter(|| key.seal(CONTEXT, black_box(&plaintext)));
        });
        let Ok(sealed) = key.seal(CONTEXT, &plaintext) else { return };
        deterministic.bench_function(BenchmarkId::new("open", size), |b| {
            b.iter(|| key.open(black_box(&sealed), CONTEXT));
        });
    }
    deterministic.finish();

    let key = LargeKey::new(REFERENCE, &bytes());
    let mut large = criterion.benchmark_group("large");
    let plaintext = vec![7; 1024 * 1024];
    large.throughput(Throughput::Bytes(plaintext.len() as u64));
    let seal = |piece: usize| {
        let mut encryptor = key.encryptor(Salt::new([3; 32]), CONTEXT)?;
        let mut sealed = Vec::with_capacity(plaintext.len() + 1024);
        for piece in plaintext.chunks(piece) {
            sealed.append(&mut encryptor.push(piece)?);
        }
        sealed.append(&mut encryptor.finish()?);
        Ok::<_, svc_crypto::domain::envelope::EnvelopeError>(sealed)
    };
    large.bench_function("seal 1 MiB in pieces of 16 KiB", |b| b.iter(|| seal(black_box(16 * 1024))));
    let Ok(sealed) = seal(plaintext.len()) else { return };
    large.bench_function("open 1 MiB in pieces of 16 KiB", |b| {
        b.iter(|| {
            let mut decryptor = key.decryptor(CONTEXT);
            let opened: usize = sealed
                .chunks(black_box(16 * 1024))
                .map(|piece| decryptor.push(piece).map_or(0, |opened| opened.expose().len()))
                .sum();
            decryptor.finish().map(|rest| opened + rest.expose().len())
        });
    });
    large.finish();

    let key = FormatPreservingKey::new(REFERENCE, &bytes());
    criterion.bench_function("format preserving/16 digits", |b| {
        b.iter(|| key.encrypt(Alphabet::Decimal, CONTEXT, black_box("4242424242424242")));
    });
}

fn authenticate(criterion: &mut Criterion) {
    let (tag, index) = (TagKey::new(&bytes()), IndexKey::new(&bytes()));
    let Ok(length) = IndexLength::new(16) else { return };
    for size in [64, 1024] {
        let data = vec![7; size];
        criterion.bench_function(&format!("mac/{size}"), |b| b.iter(|| tag.tag(b"", black_box(&data))));
        criterion.bench_function(&format!("mac in a context/{size}"), |b| {
            b.iter(|| tag.tag(CONTEXT, black_box(&data)));
        });
    }
    criterion
        .bench_function("blind index/64", |b| b.iter(|| index.index(CONTEXT, black_box(&[7; 64]), length)));

    let random = SystemRandom::new();
    let message = [7; 64];
    for (name, scheme, encoding) in
        [("Ed25519", Scheme::Ed25519, Encoding::Der), ("ECDSA P-256", Scheme::EcdsaP256Sha256, Encoding::Der)]
    {
        let key = SigningKey::make(scheme, &random)
            .and_then(|pkcs8| SigningKey::from_pkcs8(scheme, &pkcs8, &random));
        let Ok(key) = key else { return };
        criterion.bench_function(&format!("sign/{name}"), |b| {
            b.iter(|| key.sign(encoding, CONTEXT, black_box(&message), &random));
        });
        let Ok(signature) = key.sign(encoding, CONTEXT, &message, &random) else { return };
        let public = key.public_key();
        criterion.bench_function(&format!("verify/{name}"), |b| {
            b.iter(|| public.verify(encoding, CONTEXT, black_box(&message), &signature));
        });
    }
}

fn imports(criterion: &mut Criterion) {
    let key = bytes();
    criterion.bench_function("key wrap/32 bytes", |b| b.iter(|| key_wrap::wrap(&key, black_box(&[7; 32]))));
    let random = SystemRandom::new();
    criterion.bench_function("import/ECDH key pair", |b| {
        b.iter(|| EcdhImport::new(&random).map(|import| import.public_key()));
    });
    let mut group = criterion.benchmark_group("import");
    group.sample_size(10);
    let mut seed = 0;
    group.bench_function("RSA key pair", |b| {
        b.iter(|| {
            seed += 1;
            RsaImport::new(ImportSeed::take(&mut [seed; 32])).is_ok()
        });
    });
    group.finish();
}

criterion_group!(benches, envelope, modes, authenticate, imports, tokenize);
criterion_main!(benches);
