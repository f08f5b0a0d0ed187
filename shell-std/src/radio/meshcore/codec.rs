//! What is said to a MeshCore KISS modem and what it says (meshcore-dev/MeshCore,
//! `docs/kiss_modem_protocol.md` and `examples/kiss_modem` of version 1.17.1).

use super::super::kiss;
use super::super::parameters::Parameters;

const DATA: u8 = 0x00;
const KEY_UP_DELAY: u8 = 0x01;
const PERSISTENCE: u8 = 0x02;
const SLOT_TIME: u8 = 0x03;
const FULL_DUPLEX: u8 = 0x05;
const HARDWARE: u8 = 0x06;

/// What is added to an order's number in its answer.
const ANSWER: u8 = 0x80;
const OK: u8 = 0xf0;
const ERROR: u8 = 0xf1;
const SENT: u8 = 0xf8;
const SIGNAL: u8 = 0xf9;

/// The modem sends in one of two moments when the channel is free: this node has waited already.
const HALF: u8 = 127;

/// An order, which it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Ping,
    Version,
    Name,
    SetRadio,
    SetPower,
    Radio,
    Power,
    Report,
    Airtime,
    IsBusy,
    Rssi,
}

impl Order {
    fn number(self) -> u8 {
        match self {
            Self::SetRadio => 0x09,
            Self::SetPower => 0x0a,
            Self::Radio => 0x0b,
            Self::Power => 0x0c,
            Self::Rssi => 0x0d,
            Self::IsBusy => 0x0e,
            Self::Airtime => 0x0f,
            Self::Version => 0x11,
            Self::Name => 0x16,
            Self::Ping => 0x17,
            Self::Report => 0x19,
        }
    }

    /// What it is, in words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::SetRadio | Self::Radio => {
                "set frequency, bandwidth, spreading factor and coding rate"
            }
            Self::SetPower | Self::Power => "set its power",
            Self::Rssi | Self::IsBusy => "tell whether the channel is free",
            Self::Airtime => "tell how long a frame takes",
            Self::Version | Self::Name | Self::Ping => "say what it is",
            Self::Report => "tell how well it hears",
        }
    }

    /// Writes it.
    pub(super) fn write(self, parameters: &Parameters, out: &mut Vec<u8>) {
        let mut data = vec![self.number()];
        let Parameters { frequency_hz, bandwidth_hz, spreading, coding, power_dbm } = parameters;
        match self {
            Self::SetRadio => {
                data.extend(frequency_hz.to_le_bytes());
                data.extend(bandwidth_hz.to_le_bytes());
                data.extend([*spreading, *coding]);
            }
            Self::SetPower => data.push(*power_dbm),
            Self::Report => data.push(1),
            Self::Airtime => data.push(u8::MAX),
            _ => {}
        }
        kiss::encode(HARDWARE, &data, out);
    }
}

/// What it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    Pong,
    Version(u8),
    Name(&'a [u8]),
    /// Frequency, bandwidth, spreading factor, coding rate.
    Radio(u32, u32, u8, u8),
    Power(u8),
    Report(bool),
    /// In milliseconds.
    Airtime(u32),
    IsBusy(bool),
    Rssi(i8),
    Ok,
    Error(u8),
    Sent(bool),
    /// Signal to noise in quarters of a dB, and power in dBm, of the frame before.
    Signal(i8, i8),
    Data(&'a [u8]),
}

impl<'a> Answer<'a> {
    /// Reads a frame; `None`: it says nothing that matters here.
    pub(super) fn parse(command: u8, data: &'a [u8]) -> Option<Self> {
        if command == DATA {
            return Some(Self::Data(data));
        }
        let (what, data) = data.split_first().filter(|_| command == HARDWARE)?;
        let is = |order: Order| *what == order.number() | ANSWER;
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_le_bytes);
        Some(match data {
            [] if is(Order::Ping) => Self::Pong,
            [version, ..] if is(Order::Version) => Self::Version(*version),
            name if is(Order::Name) => Self::Name(name),
            data if is(Order::Radio) => {
                let (frequency, rest) = data.split_at_checked(4)?;
                let (bandwidth, rest) = rest.split_at_checked(4)?;
                let [spreading, coding] = rest else { return None };
                Self::Radio(number(frequency)?, number(bandwidth)?, *spreading, *coding)
            }
            [power] if is(Order::Power) => Self::Power(*power),
            // The answer to the order to report is that to the question whether it does.
            [reports] if *what == 0x9a => Self::Report(*reports != 0),
            data if is(Order::Airtime) => Self::Airtime(number(data)?),
            [busy] if is(Order::IsBusy) => Self::IsBusy(*busy != 0),
            [rssi] if is(Order::Rssi) => Self::Rssi(i8::from_ne_bytes([*rssi])),
            [] if *what == OK => Self::Ok,
            [code] if *what == ERROR => Self::Error(*code),
            [done] if *what == SENT => Self::Sent(*done == 1),
            [snr, rssi] if *what == SIGNAL => {
                Self::Signal(i8::from_ne_bytes([*snr]), i8::from_ne_bytes([*rssi]))
            }
            _ => return None,
        })
    }

    /// Whether it answers an order.
    pub(super) fn answers(&self, order: Order) -> bool {
        matches!(
            (order, self),
            (Order::Ping, Self::Pong)
                | (Order::Version, Self::Version(_))
                | (Order::Name, Self::Name(_))
                | (Order::SetRadio | Order::SetPower, Self::Ok)
                | (Order::Radio, Self::Radio(..))
                | (Order::Power, Self::Power(_))
                | (Order::Report, Self::Report(_))
                | (Order::Airtime, Self::Airtime(_))
                | (Order::IsBusy, Self::IsBusy(_))
                | (Order::Rssi, Self::Rssi(_))
        )
    }
}

/// The error that it is sending, or has no room for an answer.
pub(super) const BUSY: u8 = 7;

/// What an error says.
pub(super) fn error(code: u8) -> &'static str {
    match code {
        1 => "the order is too short",
        2 => "a value is invalid",
        3 => "the board has no such thing",
        5 => "it does not know the order: its firmware is older",
        BUSY => "it is busy",
        _ => "an error that this program does not know",
    }
}

/// How it comes to the channel: this node waits by itself, so it waits little. A slot is in milliseconds.
pub(super) fn access(slot_ms: u64, out: &mut Vec<u8>) {
    let slot = u8::try_from(slot_ms.div_ceil(10)).unwrap_or(u8::MAX).max(1);
    kiss::encode(KEY_UP_DELAY, &[0], out);
    kiss::encode(PERSISTENCE, &[HALF], out);
    kiss::encode(SLOT_TIME, &[slot], out);
    kiss::encode(FULL_DUPLEX, &[0], out);
}

/// A frame to be sent, with what stands before it on the air.
pub(super) fn data(header: u8, frame: &[u8], out: &mut Vec<u8>) {
    kiss::encode(DATA, &[&[header], frame].concat(), out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARAMETERS: Parameters = Parameters {
        frequency_hz: 869_618_000,
        bandwidth_hz: 62_500,
        spreading: 8,
        coding: 5,
        power_dbm: 22,
    };

    #[test]
    fn orders_are_those_of_the_protocol() {
        for (order, expected) in [
            (Order::Ping, "c00617c0"),
            (Order::Version, "c00611c0"),
            // 869,618,000 and 62,500, little-endian.
            (Order::SetRadio, "c006095051d53324f400000805c0"),
            (Order::SetPower, "c0060a16c0"),
            (Order::Airtime, "c0060fffc0"),
            (Order::Report, "c0061901c0"),
        ] {
            let mut out = Vec::new();
            order.write(&PARAMETERS, &mut out);
            assert_eq!(hex::encode(out), expected, "{order:?}");
        }
        let mut out = Vec::new();
        access(9, &mut out);
        data(0, &[0xdb], &mut out);
        assert_eq!(hex::encode(out), "c00100c0c0027fc0c00301c0c00500c0c00000dbddc0");
    }

    #[test]
    fn answers_are_read() {
        let is = |data: &[u8], answer| {
            assert_eq!(Answer::parse(6, data), answer, "{data:02x?}");
        };
        is(&[0x97], Some(Answer::Pong));
        is(&[0x91, 1, 0], Some(Answer::Version(1)));
        is(&[0x96, b'R'], Some(Answer::Name(b"R")));
        let radio = [0x8b, 0x50, 0x51, 0xd5, 0x33, 0x24, 0xf4, 0, 0, 8, 5];
        is(&radio, Some(Answer::Radio(869_618_000, 62_500, 8, 5)));
        is(&radio[..10], None);
        is(&[0x8f, 0xe8, 3, 0, 0], Some(Answer::Airtime(1_000)));
        is(&[0x8e, 1], Some(Answer::IsBusy(true)));
        is(&[0x8d, 0xa6], Some(Answer::Rssi(-90)));
        is(&[0x9a, 1], Some(Answer::Report(true)));
        is(&[0xf0], Some(Answer::Ok));
        is(&[0xf1, 7], Some(Answer::Error(7)));
        is(&[0xf8, 1], Some(Answer::Sent(true)));
        is(&[0xf9, 0xf8, 0xb0], Some(Answer::Signal(-8, -80)));
        is(&[], None);
        assert_eq!(Answer::parse(0, &[1, 2]), Some(Answer::Data(&[1, 2])));
        assert_eq!(Answer::parse(8, &[0x46]), None);
    }

    proptest! {
        #[test]
        fn any_answer(command: u8, data in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Some(answer) = Answer::parse(command, &data) {
                let _ = answer.answers(Order::Radio);
            }
        }
    }
}
