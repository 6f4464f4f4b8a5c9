//! The protobuf wire format (protobuf.dev, "Encoding"): varints, tags, fixed widths, lengths.
//!
//! Knows no schema.

/// A field's wire type, without the deprecated groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Length = 2,
    Fixed32 = 5,
}

/// Bytes that are not a protobuf message of the type they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not a message of this type")]
pub struct WireError;

/// One value as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Length(&'a [u8]),
}

/// Reads through the fields of one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for (index, byte) in self.bytes.iter().take(10).enumerate() {
            let shift = 7 * index;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte holds one bit.
            if index == 9 && *byte > 1 {
                return Err(WireError);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                self.bytes = &self.bytes[index + 1..];
                return Ok(value);
            }
        }
        Err(WireError)
    }

    pub(crate) fn fixed32(&mut self) -> Result<u32, WireError> {
        let (head, tail) = self.bytes.split_first_chunk().ok_or(WireError)?;
        self.bytes = tail;
        Ok(u32::from_le_bytes(*head))
    }

    pub(crate) fn fixed64(&mut self) -> Result<u64, WireError> {
        let (head, tail) = self.bytes.split_first_chunk().ok_or(WireError)?;
        self.bytes = tail;
        Ok(u64::from_le_bytes(*head))
    }

    fn length(&mut self) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(self.varint()?).map_err(|_| WireError)?;
        let (head, tail) = self.bytes.split_at_checked(length).ok_or(WireError)?;
        self.bytes = tail;
        Ok(head)
    }

    /// The next field's number and value; nothing at the end.
    pub(crate) fn field(&mut self) -> Result<Option<(u32, Raw<'a>)>, WireError> {
        if self.is_empty() {
            return Ok(None);
        }
        let tag = u32::try_from(self.varint()?).map_err(|_| WireError)?;
        let raw = match tag & 7 {
            0 => Raw::Varint(self.varint()?),
            1 => Raw::Fixed64(self.fixed64()?),
            2 => Raw::Length(self.length()?),
            5 => Raw::Fixed32(self.fixed32()?),
            _ => return Err(WireError),
        };
        match tag >> 3 {
            0 => Err(WireError),
            number => Ok(Some((number, raw))),
        }
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

pub(crate) fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: WireType) {
    put_varint(out, u64::from(number << 3 | wire_type as u32));
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, WireType::Length);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A place in the output where a length will stand once its content is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    at: usize,
}

/// Begins a length-delimited field. One byte is kept for the length, enough for nearly all.
pub(crate) fn open(out: &mut Vec<u8>, number: u32) -> Open {
    put_tag(out, number, WireType::Length);
    out.push(0);
    Open { at: out.len() - 1 }
}

/// Ends what [`open`] began.
pub(crate) fn close(out: &mut Vec<u8>, open: Open) {
    let length = (out.len() - open.at - 1) as u64;
    if length < 0x80 {
        out[open.at] = length.to_le_bytes()[0];
        return;
    }
    let mut prefix = Vec::with_capacity(5);
    put_varint(&mut prefix, length);
    out.splice(open.at..=open.at, prefix);
}

/// `sint32` and `sint64`.
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_come_back(value: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(cursor.varint(), Ok(value));
            prop_assert!(cursor.is_empty());
            prop_assert_eq!(zigzag(unzigzag(value)), value);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let mut cursor = Cursor::new(&bytes);
            while let Ok(Some(_)) = cursor.field() {}
        }

        #[test]
        fn nested_lengths_of_any_size_are_right(inner in proptest::collection::vec(any::<u8>(), 0..40_000)) {
            let mut out = Vec::new();
            let outer = open(&mut out, 7);
            put_bytes(&mut out, 1, &inner);
            close(&mut out, outer);
            let Ok(Some((7, Raw::Length(content)))) = Cursor::new(&out).field() else { panic!("outer") };
            prop_assert_eq!(Cursor::new(content).field(), Ok(Some((1, Raw::Length(&inner[..])))));
        }
    }

    #[test]
    fn overlong_and_cut_varints_are_refused() {
        assert_eq!(Cursor::new(&[0x80; 11]).varint(), Err(WireError));
        assert_eq!(
            Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).varint(),
            Err(WireError)
        );
        assert_eq!(Cursor::new(&[0x80]).varint(), Err(WireError));
        assert_eq!(Cursor::new(&[0x0a, 0x05, 0x00]).field(), Err(WireError));
    }
}
