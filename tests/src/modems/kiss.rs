//! KISS framing (M. Chepponis, P. Karn, "The KISS TNC", 1987), as both dialects write it.

/// Between frames.
pub const FEND: u8 = 0xc0;
/// Before an escaped byte.
pub const FESC: u8 = 0xdb;
/// `FEND`, escaped.
pub const TFEND: u8 = 0xdc;
/// `FESC`, escaped.
pub const TFESC: u8 = 0xdd;

/// Appends bytes, escaped.
pub fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        match *byte {
            FEND => out.extend([FESC, TFEND]),
            FESC => out.extend([FESC, TFESC]),
            plain => out.push(plain),
        }
    }
}

/// A whole frame: its type byte, which is escaped too, and what follows it.
pub fn frame(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut out = vec![FEND];
    escape(&[kind], &mut out);
    escape(data, &mut out);
    out.push(FEND);
    out
}

/// Takes whole frames from a stream of bytes, as a host does. What stands outside of frames, and
/// frames that are longer than `most`, are left out.
#[derive(Debug, Clone)]
pub struct Frames {
    most: usize,
    frame: Vec<u8>,
    inside: bool,
    escaped: bool,
}

impl Frames {
    /// A reader of frames of at most so many bytes, their type byte included.
    pub fn new(most: usize) -> Self {
        Self { most, frame: Vec::new(), inside: false, escaped: false }
    }

    /// Takes one byte, and gives a frame that ends with it.
    pub fn take(&mut self, byte: u8) -> Option<Vec<u8>> {
        if byte == FEND {
            self.inside = true;
            self.escaped = false;
            let frame = std::mem::take(&mut self.frame);
            return (!frame.is_empty()).then_some(frame);
        }
        if !self.inside {
            return None;
        }
        if byte == FESC {
            self.escaped = true;
            return None;
        }
        let byte = match (std::mem::take(&mut self.escaped), byte) {
            (false, plain) => plain,
            (true, TFEND) => FEND,
            (true, TFESC) => FESC,
            // What stands after an escape without sense is left out (KISS, section 2).
            (true, _) => return None,
        };
        if self.frame.len() < self.most {
            self.frame.push(byte);
        } else {
            *self = Self::new(self.most);
        }
        None
    }

    /// Takes bytes, and gives all frames that end within them.
    pub fn take_all(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        bytes.iter().filter_map(|byte| self.take(*byte)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_are_those_of_the_specification() {
        assert_eq!(frame(0, b"a\xc0b\xdb"), b"\xc0\x00a\xdb\xdcb\xdb\xdd\xc0");
    }

    #[test]
    fn one_delimiter_between_frames_is_enough() {
        let mut frames = Frames::new(3);
        let read = frames
            .take_all(b"noise\xc0\x08\x73\xc0\x50\x00\xc0\xc0\x01\xdbx\xc0\x01234\xc0\x07\xc0");
        assert_eq!(read, [b"\x08\x73".to_vec(), b"\x50\0".to_vec(), vec![1], vec![7]]);
    }

    proptest! {
        #[test]
        fn round_trip(kind in any::<u8>(), data in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut expected = vec![kind];
            expected.extend(&data);
            prop_assert_eq!(Frames::new(1000).take_all(&frame(kind, &data)), [expected]);
        }

        #[test]
        fn garbage_never_panics_and_stays_small(data in prop::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert!(Frames::new(50).take_all(&data).iter().all(|frame| frame.len() <= 50));
        }
    }
}
