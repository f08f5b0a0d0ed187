//! UTF-8, checked as its bytes come.

/// Checks UTF-8 byte by byte (Unicode, table 3-7 "Well-Formed UTF-8").
#[derive(Default)]
pub(super) struct Utf8 {
    /// Continuation bytes still to come.
    left: u8,
    /// Range of the next one.
    low: u8,
    high: u8,
}

impl Utf8 {
    /// Takes the next byte; false if it cannot stand here.
    pub(super) fn push(&mut self, byte: u8) -> bool {
        if self.left > 0 {
            let fits = (self.low..=self.high).contains(&byte);
            *self = Self { left: self.left - 1, low: 0x80, high: 0xbf };
            return fits;
        }
        let (left, low, high) = match byte {
            0x00..=0x7f => (0, 0, 0),
            0xc2..=0xdf => (1, 0x80, 0xbf),
            0xe0 => (2, 0xa0, 0xbf),
            0xed => (2, 0x80, 0x9f),
            0xe1..=0xef => (2, 0x80, 0xbf),
            0xf0 => (3, 0x90, 0xbf),
            0xf1..=0xf3 => (3, 0x80, 0xbf),
            0xf4 => (3, 0x80, 0x8f),
            _ => return false,
        };
        *self = Self { left, low, high };
        true
    }

    /// Whether a character ends here.
    pub(super) fn is_complete(&self) -> bool {
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_utf8(bytes: &[u8]) -> bool {
        let mut check = Utf8::default();
        bytes.iter().all(|b| check.push(*b)) && check.is_complete()
    }

    #[test]
    fn utf8_agrees_with_std_on_every_short_string() {
        for n in 0..=0xffff_u32 {
            let [_, _, a, b] = n.to_be_bytes();
            // Two free bytes, alone and continued once and twice.
            for tail in [&[][..], &[0x80], &[0x80, 0xbf]] {
                let bytes = [&[a, b], tail].concat();
                assert_eq!(is_utf8(&bytes), core::str::from_utf8(&bytes).is_ok(), "{bytes:02x?}");
            }
        }
    }

    proptest! {
        #[test]
        fn utf8_accepts_every_string(s in any::<std::string::String>()) {
            prop_assert!(is_utf8(s.as_bytes()));
        }
    }
}
