//! One value that is not an object or a list: from JSON, a query string or a path to the wire.

use std::borrow::Cow;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost::Message as _;

use super::{
    super::{
        schema::{Kind, Schema, Special},
        wire::{self, WireType},
    },
    time,
};

/// A value as it was given.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    Bool(bool),
    Integer(i128),
    Float(f64),
    /// A JSON string.
    Text(&'a str),
    /// A piece of the URL, which has no types of its own.
    Plain(&'a str),
}

/// What would have been right.
pub(crate) type Expected = Cow<'static, str>;

/// The first integer that a double may also hold for another one: 2^53 is what 2^53 + 1 becomes.
const INEXACT_MIN: f64 = 9_007_199_254_740_992.0;
/// 2^64: no kind of integer reaches it.
const INTEGER_END: f64 = 18_446_744_073_709_551_616.0;

/// Base64 in both alphabets, padded or not, as ProtoJSON wants it accepted.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Appends the field to `out`, or says what would be right and appends nothing of use.
pub(crate) fn put(
    schema: &Schema,
    out: &mut Vec<u8>,
    number: u32,
    kind: Kind,
    input: Input<'_>,
) -> Result<(), Expected> {
    let wrong = || expected(schema, kind);
    match kind {
        Kind::Bool => {
            let value = match input {
                Input::Bool(value) => value,
                Input::Plain("true") => true,
                Input::Plain("false") => false,
                _ => return Err(wrong()),
            };
            wire::put_tag(out, number, WireType::Varint);
            out.push(u8::from(value));
        }
        Kind::String => {
            let (Input::Text(text) | Input::Plain(text)) = input else { return Err(wrong()) };
            wire::put_bytes(out, number, text.as_bytes());
        }
        Kind::Bytes => {
            let (Input::Text(text) | Input::Plain(text)) = input else { return Err(wrong()) };
            let decoded = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).map_err(|_| wrong())?;
            wire::put_bytes(out, number, &decoded);
        }
        Kind::Enum(id) => {
            let enumeration = schema.enumeration(id);
            let value = match input {
                Input::Text(name) => enumeration.number(name),
                Input::Plain(name) => enumeration.number(name).or_else(|| name.parse().ok()),
                Input::Integer(_) | Input::Float(_) => {
                    integer(input).and_then(|value| i32::try_from(value).ok())
                }
                Input::Bool(_) => None,
            };
            let value = value.filter(|value| enumeration.name(*value).is_some()).ok_or_else(wrong)?;
            wire::put_tag(out, number, WireType::Varint);
            wire::put_varint(out, i64::from(value).cast_unsigned());
        }
        Kind::Double | Kind::Float => put_float(out, number, kind, input).ok_or_else(wrong)?,
        Kind::Message(id) => match &schema.message(id).special {
            Special::Wrapper(inner) => {
                let open = wire::open(out, number);
                put(schema, out, 1, *inner, input)?;
                wire::close(out, open);
            }
            Special::Timestamp | Special::Duration | Special::FieldMask => {
                let (Input::Text(text) | Input::Plain(text)) = input else { return Err(wrong()) };
                let bytes = well_known(&schema.message(id).special, text).ok_or_else(wrong)?;
                wire::put_bytes(out, number, &bytes);
            }
            Special::None | Special::Free(..) | Special::Raw => return Err(wrong()),
        },
        _ => put_integer(out, number, kind, input)
            .ok_or_else(|| out_of_range(kind, input).unwrap_or_else(wrong))?,
    }
    Ok(())
}

fn put_integer(out: &mut Vec<u8>, number: u32, kind: Kind, input: Input<'_>) -> Option<()> {
    let value = integer(input)?;
    let (min, max) = kind.range()?;
    if !(min..=max).contains(&value) {
        return None;
    }
    wire::put_tag(out, number, kind.wire_type());
    match kind {
        Kind::Sint32 | Kind::Sint64 => wire::put_varint(out, wire::zigzag(i64::try_from(value).ok()?)),
        Kind::Uint32 | Kind::Uint64 => wire::put_varint(out, u64::try_from(value).ok()?),
        Kind::Fixed32 => out.extend_from_slice(&u32::try_from(value).ok()?.to_le_bytes()),
        Kind::Fixed64 => out.extend_from_slice(&u64::try_from(value).ok()?.to_le_bytes()),
        Kind::Sfixed32 => out.extend_from_slice(&i32::try_from(value).ok()?.to_le_bytes()),
        Kind::Sfixed64 => out.extend_from_slice(&i64::try_from(value).ok()?.to_le_bytes()),
        _ => wire::put_varint(out, i64::try_from(value).ok()?.cast_unsigned()),
    }
    Some(())
}

/// The key of a map, so that the same key in two spellings is one.
pub(crate) fn map_key(kind: Kind, key: String) -> String {
    match kind.range().and_then(|_| integer(Input::Plain(&key))) {
        Some(value) => value.to_string(),
        None => key,
    }
}

/// The integer that was meant; `10.0` and `1e1` are 10, also in quotes; `10.5` is none, nor is a double that
/// may stand for another integer than was written.
fn integer(input: Input<'_>) -> Option<i128> {
    match input {
        Input::Integer(value) => Some(value),
        Input::Float(value) if value.fract() == 0.0 && value.abs() < INEXACT_MIN => Some(exact(value)),
        Input::Text(text) | Input::Plain(text) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
                // More digits than 20 are out of every range; what is left fits.
                return Some(text.parse().unwrap_or(i128::MAX));
            }
            json_number(text)?;
            integer_of_decimal(text)
        }
        _ => None,
    }
}

/// The value of a number of JSON's grammar, digit by digit, if it is an integer; beyond 20 digits it is out of
/// every range.
fn integer_of_decimal(text: &str) -> Option<i128> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let (sign, whole) = whole.strip_prefix('-').map_or((1, whole), |whole| (-1, whole));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let zeros = i64::try_from(digits.len() - significant.len()).ok()? - i64::try_from(fraction.len()).ok()?;
    let significant = significant.trim_start_matches('0');
    // An exponent that is no i64 has been found to be out of a double's range, or makes no integer.
    let zeros = u32::try_from(zeros.checked_add(exponent.parse().ok()?)?).ok()?;
    let value = (significant.len() <= 20)
        .then(|| significant.parse::<i128>().ok()?.checked_mul(10_i128.checked_pow(zeros)?))
        .flatten();
    Some(value.map_or(i128::MAX, |value| sign * value))
}

/// A text that is a number of JSON's grammar (RFC 8259, section 6), as a double; none beyond its range.
fn json_number(text: &str) -> Option<f64> {
    fn digits(text: &str) -> (usize, &str) {
        let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        (end, &text[end..])
    }
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, mut rest) = digits(unsigned);
    if whole == 0 || (whole > 1 && unsigned.starts_with('0')) {
        return None;
    }
    if let Some(fraction) = rest.strip_prefix('.') {
        let (length, after) = digits(fraction);
        (length > 0).then_some(())?;
        rest = after;
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let (length, after) = digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
        (length > 0).then_some(())?;
        rest = after;
    }
    rest.is_empty().then(|| text.parse().ok())?.filter(|value: &f64| value.is_finite())
}

#[expect(clippy::cast_possible_truncation, reason = "integral and at most 2^53 in magnitude")]
fn exact(value: f64) -> i128 {
    value as i128
}

/// The bounds, where it was an integer but not one of this kind's.
fn out_of_range(kind: Kind, input: Input<'_>) -> Option<Expected> {
    let integral = match input {
        Input::Float(value) => value.fract() == 0.0,
        _ => integer(input).is_some(),
    };
    let (min, max) = kind.range().filter(|_| integral)?;
    let within = |value: f64| (INEXACT_MIN..INTEGER_END).contains(&value.abs());
    let spelling = match input {
        Input::Float(value) if within(value) && max > i128::from(u32::MAX) => {
            "; one this large without fraction and exponent"
        }
        _ => "",
    };
    Some(format!("must be an integer between {min} and {max}{spelling}").into())
}

fn put_float(out: &mut Vec<u8>, number: u32, kind: Kind, input: Input<'_>) -> Option<()> {
    let value = match input {
        Input::Float(value) => value,
        // JSON numbers have no types; precision beyond a double's is lost, as in every JSON reader.
        Input::Integer(value) => value.to_string().parse().ok()?,
        Input::Text("NaN") | Input::Plain("NaN") => f64::NAN,
        Input::Text("Infinity") | Input::Plain("Infinity") => f64::INFINITY,
        Input::Text("-Infinity") | Input::Plain("-Infinity") => f64::NEG_INFINITY,
        Input::Text(text) | Input::Plain(text) => json_number(text)?,
        Input::Bool(_) => return None,
    };
    if kind == Kind::Double {
        wire::put_tag(out, number, WireType::Fixed64);
        out.extend_from_slice(&value.to_le_bytes());
        return Some(());
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float field has a float's precision; range is checked"
    )]
    let single = value as f32;
    if single.is_infinite() && value.is_finite() {
        return None;
    }
    wire::put_tag(out, number, WireType::Fixed32);
    out.extend_from_slice(&single.to_le_bytes());
    Some(())
}

fn well_known(special: &Special, text: &str) -> Option<Vec<u8>> {
    match special {
        Special::Timestamp => time::parse(text).map(|time| time.encode_to_vec()),
        Special::Duration => time::parse_duration(text).map(|duration| duration.encode_to_vec()),
        Special::FieldMask => {
            let paths: Option<Vec<String>> =
                text.split(',').filter(|path| !path.is_empty()).map(snake_case).collect();
            Some(prost_types::FieldMask { paths: paths? }.encode_to_vec())
        }
        _ => None,
    }
}

/// A path of a field mask in either spelling, as the proto spells it.
fn snake_case(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    for byte in path.trim().bytes() {
        match byte {
            b'A'..=b'Z' => {
                out.push('_');
                out.push(char::from(byte.to_ascii_lowercase()));
            }
            b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'*' => out.push(char::from(byte)),
            _ => return None,
        }
    }
    (!out.is_empty()).then_some(out)
}

/// What a value of this kind looks like, as the end of a sentence about the field.
pub(crate) fn expected(schema: &Schema, kind: Kind) -> Expected {
    match kind {
        Kind::Double | Kind::Float => "must be a number".into(),
        Kind::Bool => "must be true or false".into(),
        Kind::String => "must be a string".into(),
        Kind::Bytes => "must be a string in base64".into(),
        Kind::Enum(id) => {
            let names: Vec<&str> = schema.enumeration(id).choices().collect();
            format!("must be one of {}", names.join(", ")).into()
        }
        Kind::Message(id) => match &schema.message(id).special {
            Special::None => "must be an object".into(),
            Special::Timestamp => "must be an RFC 3339 time such as 2026-01-31T12:00:00Z".into(),
            Special::Duration => "must be seconds with an s, such as 1.5s".into(),
            Special::FieldMask => "must be field names separated by commas".into(),
            Special::Wrapper(inner) => expected(schema, *inner),
            Special::Raw => "must be the body".into(),
            Special::Free(_, descriptor) => format!("must be a {} in JSON", descriptor.full_name()).into(),
        },
        _ => "must be an integer".into(),
    }
}
