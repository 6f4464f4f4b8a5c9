//! Public keys of elliptic curves as others exchange them: `SubjectPublicKeyInfo` in DER (RFC 5280; RFC
//! 8410 for Ed25519, RFC 5480 for P-256). Each kind of key has one encoding of one length, so what
//! precedes the key is a constant.

/// The kinds of public keys that are exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    /// Ed25519; the key is 32 bytes (RFC 8032).
    Ed25519,
    /// NIST P-256; the key is an uncompressed point of 65 bytes (SEC 1, section 2.3.3).
    P256,
}

/// SEQUENCE { SEQUENCE { OID 1.3.101.112 }, BIT STRING … }
const ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// SEQUENCE { SEQUENCE { OID 1.2.840.10045.2.1, OID 1.2.840.10045.3.1.7 }, BIT STRING … }
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The first byte of an uncompressed point.
const UNCOMPRESSED: u8 = 4;

impl Curve {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Ed25519 => ED25519,
            Self::P256 => P256,
        }
    }
}

/// The DER of a key.
pub fn encode(curve: Curve, key: &[u8]) -> Vec<u8> {
    [curve.prefix(), key].concat()
}

/// The key in a DER, and its kind; `None` for any other DER, compressed points included. Whether the
/// point is on its curve is found when it is used.
pub fn decode(der: &[u8]) -> Option<(Curve, &[u8])> {
    let of = |curve: Curve| der.strip_prefix(curve.prefix()).map(|key| (curve, key));
    match of(Curve::Ed25519).or_else(|| of(Curve::P256))? {
        (Curve::Ed25519, key) if key.len() == 32 => Some((Curve::Ed25519, key)),
        (Curve::P256, key) if key.len() == 65 && key.first() == Some(&UNCOMPRESSED) => {
            Some((Curve::P256, key))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_and_nothing_else_does() {
        let point = [&[UNCOMPRESSED][..], &[7; 64]].concat();
        for (curve, key) in [(Curve::Ed25519, &[7; 32][..]), (Curve::P256, &point)] {
            let der = encode(curve, key);
            // The lengths that the DER states are right.
            assert_eq!(usize::from(der[1]), der.len() - 2);
            assert_eq!(decode(&der), Some((curve, key)));
            assert_eq!(decode(&der[..der.len() - 1]), None);
            assert_eq!(decode(&[&der[..], b"\0"].concat()), None);
        }
        assert_eq!(decode(&encode(Curve::P256, &[3; 65])), None);
        assert_eq!(decode(b""), None);
    }
}
