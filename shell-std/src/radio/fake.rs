//! Modems of both dialects for tests, as far as this program speaks with them: bytes of the line in and
//! out, and frames as they are on the air.

use super::kiss::{self, Decoder};
use super::modem::Dialect;

/// What is wrong with a modem.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wrong {
    /// Its firmware is older than any that serves.
    pub(crate) old: bool,
    /// Its chip has one bandwidth only.
    pub(crate) one_bandwidth: bool,
    /// Its radio does not start.
    pub(crate) no_radio: bool,
    /// It says other things between.
    pub(crate) noise: bool,
}

/// A modem.
#[derive(Debug)]
pub(crate) struct FakeModem {
    dialect: Dialect,
    wrong: Wrong,
    decoder: Decoder,
    /// Bytes for its host.
    pub(crate) out: Vec<u8>,
    /// Frames that it is to send.
    pub(crate) to_air: Vec<Vec<u8>>,
    /// Whether it hears somebody.
    pub(crate) busy: bool,
    /// Frequency, bandwidth, power, spreading factor, coding rate, radio on.
    pub(crate) set: (u32, u32, u8, u8, u8, bool),
    /// Air time that it has used, as it tells.
    used: u16,
}

impl FakeModem {
    pub(crate) fn new(dialect: Dialect, wrong: Wrong) -> Self {
        Self {
            dialect,
            wrong,
            decoder: Decoder::default(),
            out: Vec::new(),
            to_air: Vec::new(),
            busy: false,
            set: (0, 0, 0, 0, 0, false),
            used: 0,
        }
    }

    /// Takes bytes of its host.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) {
        let mut decoder = std::mem::take(&mut self.decoder);
        while let Some((command, data)) = decoder.next(&mut bytes) {
            if self.wrong.noise {
                self.out.extend(b"\xc0\x80log line\xdb!\xc0E (boot)");
            }
            match self.dialect {
                Dialect::Rnode => self.rnode(command, data),
                Dialect::Meshcore => self.meshcore(command, data),
            }
        }
        self.decoder = decoder;
    }

    fn say(&mut self, command: u8, data: &[u8]) {
        kiss::encode(command, data, &mut self.out);
    }

    fn rnode(&mut self, command: u8, data: &[u8]) {
        let number = || data.try_into().ok().map(u32::from_be_bytes).filter(|n| *n != 0);
        let byte = data.first().copied().filter(|byte| *byte != 0xff);
        match command {
            0 => self.to_air.push([&[0xa0], data].concat()),
            1 => {
                self.set.0 = number().unwrap_or(self.set.0);
                self.say(1, &self.set.0.to_be_bytes());
            }
            2 => {
                self.set.1 = number().unwrap_or(self.set.1);
                self.set.1 = if self.wrong.one_bandwidth { 125_000 } else { self.set.1 };
                self.say(2, &self.set.1.to_be_bytes());
            }
            3 => {
                self.set.2 = byte.unwrap_or(self.set.2).min(17);
                self.say(3, &[self.set.2]);
            }
            4 => {
                self.set.3 = byte.unwrap_or(self.set.3);
                self.say(4, &[self.set.3]);
            }
            5 => {
                self.set.4 = byte.unwrap_or(self.set.4);
                self.say(5, &[self.set.4]);
            }
            6 => {
                self.set.5 = byte.map_or(self.set.5, |on| on == 1) && !self.wrong.no_radio;
                self.say(6, &[self.set.5.into()]);
            }
            8 => self.say(8, &[0x46]),
            0x0b | 0x0c | 0x0e => self.say(command, data),
            0x47 => self.say(0x47, &[0x51]),
            0x48 => self.say(0x48, &[0x70]),
            0x49 => self.say(0x49, &[0x71]),
            0x50 => self.say(0x50, if self.wrong.old { &[1, 51] } else { &[1, 86] }),
            _ => {}
        }
    }

    fn meshcore(&mut self, command: u8, data: &[u8]) {
        let (what, data) = match (command, data.split_first()) {
            (0, _) => return self.to_air.push(data.to_vec()),
            (6, Some((what, data))) => (*what, data),
            _ => return,
        };
        let mut answer = |data: &[u8]| kiss::encode(6, data, &mut self.out);
        match (what, data) {
            (0x17, []) => answer(&[0x97]),
            (0x11, []) => answer(&[0x91, 1, 0]),
            (0x16, []) => answer(b"\x96RAK 4631"),
            (0x09, [a, b, c, d, e, f, g, h, spreading, coding]) => {
                self.set.0 = u32::from_le_bytes([*a, *b, *c, *d]);
                self.set.1 = u32::from_le_bytes([*e, *f, *g, *h]);
                (self.set.3, self.set.4) = (*spreading, *coding);
                answer(&[0xf0]);
            }
            (0x0a, [power]) => {
                self.set.2 = *power;
                answer(&[0xf0]);
            }
            (0x0b, []) => {
                let (frequency, bandwidth, _, spreading, coding, _) = self.set;
                let mut out = vec![0x8b];
                out.extend(frequency.to_le_bytes());
                out.extend(bandwidth.to_le_bytes());
                out.extend([spreading, coding]);
                answer(&out);
            }
            (0x0c, []) => answer(&[0x8c, self.set.2]),
            (0x0d, []) => answer(&[0x8d, if self.busy { 0xc4 } else { 0x9c }]),
            (0x0e, []) => answer(&[0x8e, self.busy.into()]),
            (0x0f, [len]) => {
                let (frequency_hz, bandwidth, power_dbm, spreading, coding, _) = self.set;
                let bandwidth_hz = if self.wrong.one_bandwidth { 125_000 } else { bandwidth };
                let p =
                    super::Parameters { frequency_hz, bandwidth_hz, spreading, coding, power_dbm };
                let preamble = Dialect::Meshcore.preamble(&p);
                let ms = p.modem(preamble, 1_000).airtime((*len).into()) / 1_000;
                answer(&[&[0x8f], &(ms as u32).to_le_bytes()[..]].concat());
            }
            (0x19, [on]) => answer(&[0x9a, *on]),
            _ => answer(&[0xf1, 5]),
        }
    }

    /// It starts anew, as after a lapse of its power.
    pub(crate) fn restart(&mut self) {
        self.set = (0, 0, 0, 0, 0, false);
        if self.dialect == Dialect::Rnode {
            self.say(0x55, &[0xf8]);
        }
    }

    /// What it was given is off the air.
    pub(crate) fn sent(&mut self) {
        self.used += 10;
        let used = self.used.to_be_bytes();
        match self.dialect {
            Dialect::Rnode => {
                let [a, b] = used;
                self.say(0x25, &[a, b, a, b, 1, 0, 1, 0, 50, 40, 255]);
            }
            Dialect::Meshcore => self.say(6, &[0xf8, 1]),
        }
    }

    /// It hears a frame.
    pub(crate) fn hear(&mut self, on_air: &[u8]) {
        match (self.dialect, on_air) {
            (Dialect::Rnode, [_, frame @ ..]) => {
                self.say(0x23, &[77]);
                self.say(0x24, &[20]);
                self.say(0, frame);
            }
            (_, frame) => {
                self.say(0, frame);
                self.say(6, &[0xf9, 20, 0xb0]);
            }
        }
    }
}
