//! Tags and blind indexes: what is asked of a MAC key.

use paymesh_proto::crypto::v1::{self as proto, outcome::Result as Answer};

use super::{AAD_BYTES_MAX, PLAINTEXT_BYTES_MAX, Refused, check_length, invalid, unreadable};
use crate::{
    domain::mac::{IndexLength, TAG_BYTES},
    keyring::{Expanded, LiveKey, MacKeys},
};

fn keys(key: &LiveKey, version: u32) -> Result<&MacKeys, Refused> {
    match key.version(version) {
        Some(Expanded::Mac(keys)) => Ok(keys),
        _ => Err(unreadable()),
    }
}

pub(super) fn compute(key: &LiveKey, request: &proto::ComputeMacRequest) -> Result<Answer, Refused> {
    check_length("data", request.data.len(), PLAINTEXT_BYTES_MAX)?;
    check_length("aad", request.aad.len(), AAD_BYTES_MAX)?;
    let version = key.key.making(request.key_version)?;
    let mac = keys(key, version)?.tag.tag(&request.aad, &request.data);
    Ok(Answer::Mac(proto::ComputeMacResponse { mac: mac.to_vec().into(), key_version: version }))
}

pub(super) fn verify(key: &LiveKey, request: &proto::VerifyMacRequest) -> Result<Answer, Refused> {
    check_length("data", request.data.len(), PLAINTEXT_BYTES_MAX)?;
    check_length("aad", request.aad.len(), AAD_BYTES_MAX)?;
    let version = key.key.making(request.key_version)?;
    let valid = keys(key, version)?.tag.verify(&request.aad, &request.data, &request.mac);
    Ok(Answer::Verified(proto::VerifyResponse { valid, key_version: version }))
}

pub(super) fn index(key: &LiveKey, request: &proto::BlindIndexRequest) -> Result<Answer, Refused> {
    check_length("value", request.value.len(), PLAINTEXT_BYTES_MAX)?;
    check_length("aad", request.aad.len(), AAD_BYTES_MAX)?;
    let length = match request.length {
        0 => TAG_BYTES,
        length => usize::try_from(length).unwrap_or(usize::MAX),
    };
    let length = IndexLength::new(length).map_err(|error| invalid("length", error.to_string()))?;
    let version = key.key.making(request.key_version)?;
    let index = keys(key, version)?.index.index(&request.aad, &request.value, length);
    Ok(Answer::Index(proto::BlindIndexResponse { index: index.into(), key_version: version }))
}
