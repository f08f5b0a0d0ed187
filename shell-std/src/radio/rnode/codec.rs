//! What is said to an RNode and what it says (markqvist/RNode_Firmware, `Framing.h`, `RNode_Firmware.ino`
//! and `Utilities.h` of version 1.86).

use super::super::kiss;
use super::super::parameters::Parameters;

const DATA: u8 = 0x00;
const FREQUENCY: u8 = 0x01;
const BANDWIDTH: u8 = 0x02;
const POWER: u8 = 0x03;
const SPREADING: u8 = 0x04;
const CODING: u8 = 0x05;
const STATE: u8 = 0x06;
const DETECT: u8 = 0x08;
const SHORT_LIMIT: u8 = 0x0b;
const LONG_LIMIT: u8 = 0x0c;
const PROMISCUOUS: u8 = 0x0e;
const RSSI: u8 = 0x23;
const SNR: u8 = 0x24;
const CHANNEL: u8 = 0x25;
const BOARD: u8 = 0x47;
const PLATFORM: u8 = 0x48;
const MCU: u8 = 0x49;
const VERSION: u8 = 0x50;
const RESET: u8 = 0x55;
const ERROR: u8 = 0x90;

const DETECT_ASKED: u8 = 0x73;
const DETECT_ANSWER: u8 = 0x46;
const RESET_DONE: u8 = 0xf8;
/// Asks for what a byte sets, where 0 would set it.
const ASK: u8 = 0xff;
/// What an RSSI is more than its dBm.
const RSSI_OFFSET: i16 = 157;

/// What an RNode says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    Detected,
    Version(u8, u8),
    Board(u8),
    Frequency(u32),
    Bandwidth(u32),
    Power(u8),
    Spreading(u8),
    Coding(u8),
    /// Whether the radio is on.
    State(bool),
    Rssi(i16),
    Snr(i8),
    Data(&'a [u8]),
    Channel(Channel),
    /// It has just started.
    Started,
    Error(u8),
}

/// Air time and load, in hundredths of a percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Channel {
    /// Air time of the last 15 s, and of the last hour.
    pub(super) airtime_short: u16,
    pub(super) airtime_long: u16,
    /// How much of the time the channel was taken lately.
    pub(super) load: u16,
}

impl<'a> Answer<'a> {
    /// Reads a frame; `None`: it says nothing that matters here.
    pub(super) fn parse(command: u8, data: &'a [u8]) -> Option<Self> {
        let number = || data.try_into().ok().map(u32::from_be_bytes);
        Some(match (command, data) {
            (DATA, data) => Self::Data(data),
            (DETECT, [DETECT_ANSWER]) => Self::Detected,
            (VERSION, [major, minor]) => Self::Version(*major, *minor),
            (BOARD, [board]) => Self::Board(*board),
            (FREQUENCY, _) => Self::Frequency(number()?),
            (BANDWIDTH, _) => Self::Bandwidth(number()?),
            (POWER, [power]) => Self::Power(*power),
            (SPREADING, [spreading]) => Self::Spreading(*spreading),
            (CODING, [coding]) => Self::Coding(*coding),
            (STATE, [state @ 0..=1]) => Self::State(*state == 1),
            (RSSI, [rssi]) => Self::Rssi(i16::from(*rssi) - RSSI_OFFSET),
            (SNR, [snr]) => Self::Snr(i8::from_ne_bytes([*snr])),
            // Firmware before 1.81 ends after the eight bytes that matter here.
            (CHANNEL, [a, b, c, d, e, f, _, _, ..]) => Self::Channel(Channel {
                airtime_short: u16::from_be_bytes([*a, *b]),
                airtime_long: u16::from_be_bytes([*c, *d]),
                load: u16::from_be_bytes([*e, *f]),
            }),
            (RESET, [RESET_DONE]) => Self::Started,
            (ERROR, [code]) => Self::Error(*code),
            _ => return None,
        })
    }
}

/// Asks who is there; the version comes last.
pub(super) fn detect(out: &mut Vec<u8>) {
    kiss::encode(DETECT, &[DETECT_ASKED], out);
    for question in [PLATFORM, MCU, BOARD, VERSION] {
        kiss::encode(question, &[0], out);
    }
}

/// Sets the parameters and turns the radio on, then asks for each; the coding rate comes last, for the
/// second time. `most` is how much of an hour the firmware itself lets it send, in hundredths of a
/// percent; 0: all of it.
pub(super) fn configure(parameters: &Parameters, most: u16, out: &mut Vec<u8>) {
    let Parameters { frequency_hz, bandwidth_hz, spreading, coding, power_dbm } = parameters;
    kiss::encode(FREQUENCY, &frequency_hz.to_be_bytes(), out);
    kiss::encode(BANDWIDTH, &bandwidth_hz.to_be_bytes(), out);
    kiss::encode(POWER, &[*power_dbm], out);
    kiss::encode(SPREADING, &[*spreading], out);
    kiss::encode(CODING, &[*coding], out);
    kiss::encode(SHORT_LIMIT, &[0, 0], out);
    kiss::encode(LONG_LIMIT, &most.to_be_bytes(), out);
    kiss::encode(PROMISCUOUS, &[0], out);
    kiss::encode(STATE, &[1], out);
    ask_state(out);
    kiss::encode(FREQUENCY, &[0; 4], out);
    kiss::encode(BANDWIDTH, &[0; 4], out);
    for question in [POWER, SPREADING, CODING] {
        kiss::encode(question, &[ASK], out);
    }
}

/// Asks whether the radio is on.
pub(super) fn ask_state(out: &mut Vec<u8>) {
    kiss::encode(STATE, &[ASK], out);
}

/// A frame to be sent.
pub(super) fn data(frame: &[u8], out: &mut Vec<u8>) {
    kiss::encode(DATA, frame, out);
}

/// What an error says; whether the radio goes on.
pub(super) fn error(code: u8) -> (&'static str, bool) {
    match code {
        1 => ("it cannot be initialised", false),
        2 => ("it does not send", false),
        3 => ("the board's memory is locked", true),
        4 => ("the modem's queue is full: a frame was dropped", true),
        5 => ("the modem's memory is low", true),
        6 => ("it does not answer the board", false),
        _ => ("an error that this program does not know", true),
    }
}

/// The board with this number (`Boards.h`).
pub(super) fn board(number: u8) -> String {
    let name = match number {
        0x31 => "RNode 1.0",
        0x32 => "homebrew",
        0x33 => "LilyGO T-Beam",
        0x34 => "Adafruit Feather ESP32",
        0x35 => "generic ESP32",
        0x36 => "LilyGO LoRa32 2.0",
        0x37 => "LilyGO LoRa32 2.1",
        0x38 => "Heltec LoRa32 v2",
        0x39 => "LilyGO LoRa32 1.0",
        0x3a => "Heltec LoRa32 v3",
        0x3b => "LilyGO T-Deck",
        0x3c => "Heltec T114",
        0x3d => "LilyGO T-Beam Supreme",
        0x3e => "Seeed XIAO ESP32S3",
        0x3f => "Heltec LoRa32 v4",
        0x40 => "RNode 2.0",
        0x41 => "RNode 2.1",
        0x42 => "LilyGO T3S3",
        0x44 => "LilyGO T-Echo",
        0x50 => "generic nRF52",
        0x51 => "RAK4631",
        other => return format!("board 0x{other:02x}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn questions_are_those_of_the_firmware() {
        let mut out = Vec::new();
        detect(&mut out);
        assert_eq!(hex::encode(&out), "c00873c0c04800c0c04900c0c04700c0c05000c0");
        out.clear();
        let parameters = Parameters {
            frequency_hz: 0x33c0_db01,
            bandwidth_hz: 125_000,
            spreading: 8,
            coding: 5,
            power_dbm: 17,
        };
        configure(&parameters, 1_000, &mut out);
        let expected = "c00133dbdcdbdd01c0c0020001e848c0c00311c0c00408c0c00505c0c00b0000c0c00c03e8c0\
                        c00e00c0c00601c0c006ffc0c00100000000c0c00200000000c0c003ffc0c004ffc0c005ffc0";
        assert_eq!(hex::encode(&out), expected.replace(' ', ""));
        out.clear();
        data(&[1, 0xc0], &mut out);
        assert_eq!(out, [0xc0, 0, 1, 0xdb, 0xdc, 0xc0]);
    }

    #[test]
    fn answers_are_read() {
        let is = |command, data: &[u8], answer| {
            assert_eq!(Answer::parse(command, data), answer, "{command:02x} {data:02x?}");
        };
        is(0x08, &[0x46], Some(Answer::Detected));
        is(0x08, &[0x73], None);
        is(0x50, &[1, 86], Some(Answer::Version(1, 86)));
        is(0x01, &[0x33, 0xd3, 0xe6, 0x08], Some(Answer::Frequency(869_525_000)));
        is(0x01, &[0x33, 0xd3, 0xe6], None);
        is(0x06, &[1], Some(Answer::State(true)));
        is(0x06, &[0x97], None);
        is(0x23, &[57], Some(Answer::Rssi(-100)));
        is(0x24, &[0xf4], Some(Answer::Snr(-12)));
        let channel = Channel { airtime_short: 0x0102, airtime_long: 3, load: 1_000 };
        is(0x25, &[1, 2, 0, 3, 3, 0xe8, 0, 0, 50, 40, 255], Some(Answer::Channel(channel)));
        is(0x25, &[1, 2, 0, 3, 3, 0xe8, 0, 0], Some(Answer::Channel(channel)));
        is(0x25, &[1, 2, 0, 3, 3, 0xe8, 0], None);
        is(0x55, &[0xf8], Some(Answer::Started));
        is(0x90, &[4], Some(Answer::Error(4)));
        is(0x77, &[1], None);
    }

    proptest! {
        #[test]
        fn any_answer(command: u8, data in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = Answer::parse(command, &data);
            let (_, _) = error(command);
            prop_assert!(!board(command).is_empty());
        }
    }
}
