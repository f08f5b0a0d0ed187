//! Command bytes of RNode (RNode_Firmware `Framing.h`), and how its firmware reads them.

use crate::modems::kiss::{FEND, FESC, TFEND, TFESC};

pub(super) const DATA: u8 = 0x00;
pub(super) const FREQUENCY: u8 = 0x01;
pub(super) const BANDWIDTH: u8 = 0x02;
pub(super) const TXPOWER: u8 = 0x03;
pub(super) const SF: u8 = 0x04;
pub(super) const CR: u8 = 0x05;
pub(super) const RADIO_STATE: u8 = 0x06;
pub(super) const RADIO_LOCK: u8 = 0x07;
pub(super) const DETECT: u8 = 0x08;
pub(super) const LEAVE: u8 = 0x0a;
pub(super) const ST_ALOCK: u8 = 0x0b;
pub(super) const LT_ALOCK: u8 = 0x0c;
pub(super) const PROMISC: u8 = 0x0e;
pub(super) const READY: u8 = 0x0f;
pub(super) const STAT_RX: u8 = 0x21;
pub(super) const STAT_TX: u8 = 0x22;
pub(super) const STAT_RSSI: u8 = 0x23;
pub(super) const STAT_SNR: u8 = 0x24;
pub(super) const STAT_CHTM: u8 = 0x25;
pub(super) const STAT_PHYPRM: u8 = 0x26;
pub(super) const STAT_CSMA: u8 = 0x28;
pub(super) const RANDOM: u8 = 0x40;
pub(super) const BOARD: u8 = 0x47;
pub(super) const PLATFORM: u8 = 0x48;
pub(super) const MCU: u8 = 0x49;
pub(super) const FW_VERSION: u8 = 0x50;
pub(super) const RESET: u8 = 0x55;
pub(super) const ERROR: u8 = 0x90;
const UNKNOWN: u8 = 0xfe;

pub(super) const DETECT_REQUEST: u8 = 0x73;
pub(super) const DETECT_RESPONSE: u8 = 0x46;
pub(super) const RESET_BYTE: u8 = 0xf8;
pub(super) const ERROR_INITRADIO: u8 = 0x01;
pub(super) const ERROR_TXFAILED: u8 = 0x02;
pub(super) const ERROR_QUEUE_FULL: u8 = 0x04;

/// What the firmware does at a byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// A byte of a packet, unescaped.
    Packet(u8),
    /// The end of a packet.
    PacketEnd,
    /// A command has a number of as many bytes as it takes.
    Number(u8, u32),
    /// A byte of a command that takes single ones, as it is.
    Byte(u8, u8),
}

/// The firmware's reader. It acts at bytes, not at ends of frames: a command with one byte acts at every
/// byte that follows it, one with a number as soon as that is whole, and after the end of a packet
/// the next frame needs a delimiter of its own.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    in_frame: bool,
    // An escape at the end of a frame is not forgotten.
    escape: bool,
    command: u8,
    number: Vec<u8>,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { in_frame: false, escape: false, command: UNKNOWN, number: Vec::new() }
    }

    pub(super) fn take(&mut self, byte: u8) -> Step {
        if byte == FEND {
            let packet = self.in_frame && self.command == DATA;
            self.in_frame = !packet;
            self.command = UNKNOWN;
            self.number.clear();
            return if packet { Step::PacketEnd } else { Step::Nothing };
        }
        if !self.in_frame {
            return Step::Nothing;
        }
        let most = match self.command {
            UNKNOWN => {
                self.command = byte;
                return Step::Nothing;
            }
            FREQUENCY | BANDWIDTH => 4,
            ST_ALOCK | LT_ALOCK => 2,
            DATA => 0,
            command => return Step::Byte(command, byte),
        };
        if byte == FESC {
            self.escape = true;
            return Step::Nothing;
        }
        let byte = match (std::mem::take(&mut self.escape), byte) {
            (true, TFEND) => FEND,
            (true, TFESC) => FESC,
            (_, plain) => plain,
        };
        if self.command == DATA {
            return Step::Packet(byte);
        }
        if self.number.len() == most {
            return Step::Nothing;
        }
        self.number.push(byte);
        if self.number.len() < most {
            return Step::Nothing;
        }
        let number = self.number.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        Step::Number(self.command, number)
    }
}
