//! KISS frames: a command and bytes between delimiters (Chepponis and Karn, "The KISS TNC", 1987).
//!
//! A frame ends with a delimiter and begins with one, which may be the same. Inside it two bytes stand
//! for a delimiter and for the escape itself.

/// Delimiter of frames.
pub const FEND: u8 = 0xc0;
/// Escape.
pub const FESC: u8 = 0xdb;
/// Behind the escape: a delimiter.
pub const TFEND: u8 = 0xdc;
/// Behind the escape: an escape.
pub const TFESC: u8 = 0xdd;

/// Most bytes of a frame, with its command: both dialects have 512 at most behind it.
pub const MAX_LEN: usize = 513;

/// Appends a frame. The command must be neither delimiter nor escape: modems do not undo that there.
pub fn encode(command: u8, data: &[u8], out: &mut Vec<u8>) {
    out.extend([FEND, command]);
    for byte in data {
        match *byte {
            FEND => out.extend([FESC, TFEND]),
            FESC => out.extend([FESC, TFESC]),
            byte => out.push(byte),
        }
    }
    out.push(FEND);
}

/// Takes frames out of the bytes of a line. It holds [`MAX_LEN`] bytes at most.
#[derive(Debug, Default)]
pub struct Decoder {
    frame: Vec<u8>,
    /// The last byte was the escape.
    escaped: bool,
    /// What comes up to the next delimiter is no frame.
    skips: bool,
    /// The frame was lent.
    lent: bool,
    damaged: u64,
}

impl Decoder {
    /// Frames that were longer than [`MAX_LEN`], or had an escape before what needs none.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// The next whole frame, its command and its data, and takes what it needs of the bytes; `None`: all
    /// are taken.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<(u8, &[u8])> {
        if std::mem::take(&mut self.lent) {
            self.frame.clear();
        }
        while let Some((byte, rest)) = bytes.split_first() {
            *bytes = rest;
            if *byte == FEND {
                self.damaged = self.damaged.saturating_add(u64::from(self.escaped || self.skips));
                let is_whole = !self.escaped && !self.skips && !self.frame.is_empty();
                (self.escaped, self.skips) = (false, false);
                if is_whole {
                    self.lent = true;
                    break;
                }
                self.frame.clear();
                continue;
            }
            self.put(*byte);
        }
        if !self.lent {
            return None;
        }
        self.frame.split_first().map(|(command, data)| (*command, data))
    }

    fn put(&mut self, byte: u8) {
        if self.skips {
            return;
        }
        let byte = match (self.escaped, byte) {
            (false, FESC) => {
                self.escaped = true;
                return;
            }
            (false, byte) => byte,
            (true, TFEND) => FEND,
            (true, TFESC) => FESC,
            (true, _) => {
                self.skips = true;
                return;
            }
        };
        self.escaped = false;
        match self.frame.len() < MAX_LEN {
            true => self.frame.push(byte),
            false => self.skips = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(decoder: &mut Decoder, mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut out = Vec::new();
        while let Some((command, data)) = decoder.next(&mut bytes) {
            out.push((command, data.to_vec()));
        }
        out
    }

    #[test]
    fn as_the_description_has_it() {
        let mut out = Vec::new();
        encode(0, b"TEST", &mut out);
        assert_eq!(out, [0xc0, 0, 0x54, 0x45, 0x53, 0x54, 0xc0]);
        out.clear();
        encode(5, &[0xc0, 0xdb], &mut out);
        assert_eq!(out, [0xc0, 5, 0xdb, 0xdc, 0xdb, 0xdd, 0xc0]);
        assert_eq!(frames(&mut Decoder::default(), &out), [(5, vec![0xc0, 0xdb])]);
    }

    #[test]
    fn frames_may_share_a_delimiter_and_what_is_wrong_costs_one_frame() {
        let mut decoder = Decoder::default();
        assert_eq!(frames(&mut decoder, b"\xc0\x01a\xc0\x02b\xc0\xc0\xc0\x03\xc0"), {
            [(1, b"a".to_vec()), (2, b"b".to_vec()), (3, vec![])]
        });
        assert_eq!(decoder.damaged(), 0);
        assert_eq!(frames(&mut decoder, b"\x04\xdba\xc0\x05\xdb\xc0\x06\xc0"), [(6, vec![])]);
        assert_eq!(decoder.damaged(), 2);
        let mut long = vec![7; MAX_LEN + 1];
        long.extend(b"\xc0\x08x\xc0");
        assert_eq!(frames(&mut decoder, &long), [(8, b"x".to_vec())]);
        assert_eq!(decoder.damaged(), 3);
        let mut longest = vec![7; MAX_LEN];
        longest.push(FEND);
        assert_eq!(frames(&mut decoder, &longest), [(7, vec![7; MAX_LEN - 1])]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            written in proptest::collection::vec((0u8..0x90, proptest::collection::vec(any::<u8>(), 0..400)), 0..5),
            cut in 1usize..50,
        ) {
            let mut bytes = Vec::new();
            written.iter().for_each(|(command, data)| encode(*command, data, &mut bytes));
            let mut decoder = Decoder::default();
            let read: Vec<_> =
                bytes.chunks(cut).flat_map(|chunk| frames(&mut decoder, chunk)).collect();
            prop_assert_eq!(read, written);
            prop_assert_eq!(decoder.damaged(), 0);
        }

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(prop_oneof![Just(FEND), Just(FESC), any::<u8>()], 0..3000)) {
            let mut decoder = Decoder::default();
            for (_, data) in frames(&mut decoder, &bytes) {
                prop_assert!(data.len() < MAX_LEN);
            }
            // Whatever came before it, a frame behind a delimiter is read.
            let mut next = vec![FEND];
            encode(1, b"after", &mut next);
            prop_assert_eq!(frames(&mut decoder, &next).pop(), Some((1, b"after".to_vec())));
        }
    }
}
