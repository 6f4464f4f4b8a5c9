//! The envelope next to the bare cipher, and the checks of a card.

// The macros of criterion make functions without documentation.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use svc_crypto::domain::{
    card::{self, Draft, Month},
    envelope::{KeyRef, Salt, SealingKey},
    keys::MacKey,
    secret::KeyBytes,
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

criterion_group!(benches, envelope, tokenize);
criterion_main!(benches);
