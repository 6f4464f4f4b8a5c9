//! Bytes taken apart: numbers and parts from the front, where they are there.

/// What is left of an input. What is not there any more is zero or empty, so that every input is one.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Two bytes as a number.
    pub(crate) fn number(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    /// Bytes after their length, which is one byte.
    pub(crate) fn part(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (part, rest) = self.0.split_at(length);
        self.0 = rest;
        part
    }

    /// All that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// A part as [`Input::part`] reads it. Longer ones are cut.
pub(crate) fn part(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    [&[length], &bytes[..usize::from(length)]].concat()
}

/// A change of one byte that is no change of nothing: the place is taken within the length, and the difference is
/// never 0. `None` where there is nothing to change.
pub(crate) fn changed(bytes: &[u8], at: usize, difference: u8) -> Option<Vec<u8>> {
    let mut changed = bytes.to_vec();
    let byte = changed.get_mut(at.checked_rem(bytes.len())?)?;
    *byte ^= difference.max(1);
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_read_from_the_front_and_never_ends_too_early() {
        let bytes = [&[7, 1, 2][..], &part(b"ab"), b"rest"].concat();
        let mut input = Input::new(&bytes);
        assert_eq!(
            (input.byte(), input.number(), input.part(), input.rest()),
            (7, 258, &b"ab"[..], &b"rest"[..])
        );
        let mut short = Input::new(&[9, b'a']);
        assert_eq!((short.part(), short.byte(), short.part()), (&b"a"[..], 0, &b""[..]));
        assert_eq!(part(&[1; 300]).len(), 256);
    }

    #[test]
    fn a_change_always_changes() {
        assert_eq!(changed(b"ab", 3, 0), Some(b"ac".to_vec()));
        assert_eq!(changed(b"", 0, 1), None);
    }
}
