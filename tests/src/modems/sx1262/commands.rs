//! What the chip does with commands, and in which modes and order it takes them.

use super::{Broken, Chip};
use crate::modems::tuning::Tuning;

pub(super) const CLEAR_IRQ_STATUS: u8 = 0x02;
const CLEAR_DEVICE_ERRORS: u8 = 0x07;
const SET_DIO_IRQ_PARAMS: u8 = 0x08;
const WRITE_REGISTER: u8 = 0x0d;
const WRITE_BUFFER: u8 = 0x0e;
const GET_IRQ_STATUS: u8 = 0x12;
const GET_RX_BUFFER_STATUS: u8 = 0x13;
const GET_PACKET_STATUS: u8 = 0x14;
const GET_RSSI_INST: u8 = 0x15;
const GET_DEVICE_ERRORS: u8 = 0x17;
const READ_REGISTER: u8 = 0x1d;
const READ_BUFFER: u8 = 0x1e;
const SET_STANDBY: u8 = 0x80;
const SET_RX: u8 = 0x82;
const SET_TX: u8 = 0x83;
const SET_RF_FREQUENCY: u8 = 0x86;
const CALIBRATE: u8 = 0x89;
const SET_PACKET_TYPE: u8 = 0x8a;
const SET_MODULATION_PARAMS: u8 = 0x8b;
const SET_PACKET_PARAMS: u8 = 0x8c;
pub(super) const SET_TX_PARAMS: u8 = 0x8e;
const SET_BUFFER_BASE_ADDRESS: u8 = 0x8f;
pub(super) const SET_RX_TX_FALLBACK_MODE: u8 = 0x93;
const SET_PA_CONFIG: u8 = 0x95;
const SET_REGULATOR_MODE: u8 = 0x96;
const SET_DIO3_AS_TCXO_CTRL: u8 = 0x97;
const CALIBRATE_IMAGE: u8 = 0x98;
const SET_DIO2_AS_RF_SWITCH: u8 = 0x9d;
const GET_STATUS: u8 = 0xc0;

/// Registers that section 15 is about, and a SPI's bytes between them.
const IQ_POLARITY: u16 = 0x0736;
const SYNC_WORD: u16 = 0x0740;
const TX_MODULATION: u16 = 0x0889;
const TX_CLAMP: u16 = 0x08d8;

/// What a chip does (9, and bits 6 to 4 of the status in 13.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Rc = 2,
    Xosc = 3,
    Rx = 5,
    Tx = 6,
}

/// Arguments of a command, in bytes; `None`: as many as there are.
fn arguments(code: u8) -> Option<Option<usize>> {
    Some(match code {
        CLEAR_IRQ_STATUS | CLEAR_DEVICE_ERRORS | SET_TX_PARAMS | SET_BUFFER_BASE_ADDRESS => Some(2),
        CALIBRATE_IMAGE => Some(2),
        SET_DIO_IRQ_PARAMS => Some(8),
        SET_STANDBY | SET_PACKET_TYPE | SET_RX_TX_FALLBACK_MODE | SET_REGULATOR_MODE => Some(1),
        CALIBRATE | SET_DIO2_AS_RF_SWITCH => Some(1),
        SET_RX | SET_TX => Some(3),
        SET_RF_FREQUENCY | SET_PA_CONFIG | SET_DIO3_AS_TCXO_CTRL | SET_MODULATION_PARAMS => Some(4),
        SET_PACKET_PARAMS => Some(6),
        GET_IRQ_STATUS | GET_RX_BUFFER_STATUS | GET_PACKET_STATUS | GET_RSSI_INST => Some(0),
        GET_DEVICE_ERRORS | GET_STATUS => Some(0),
        READ_REGISTER => Some(3),
        READ_BUFFER => Some(2),
        WRITE_REGISTER | WRITE_BUFFER => None,
        _ => return None,
    })
}

impl Chip {
    pub(super) fn register(&self, address: u16) -> u8 {
        self.registers.get(&address).copied().unwrap_or(match address {
            0x0740 => 0x14,
            0x0741 => 0x24,
            IQ_POLARITY => 0x0d & !0x04,
            TX_MODULATION => 0x01,
            TX_CLAMP => 0xc8,
            _ => 0,
        })
    }

    fn fault(&mut self, what: &str) {
        self.faults.push(what.to_owned());
    }

    /// What a command must find; others say what it does.
    fn expect(&mut self, holds: bool, what: &str) {
        if !holds {
            self.fault(what);
        }
    }

    fn has(&self, code: u8) -> bool {
        self.settings.contains_key(&code)
    }

    /// A transaction: bytes that are written, then so many that are read.
    pub(super) fn command(&mut self, given: &[u8], wanted: usize) -> Vec<u8> {
        match self.broken {
            Some(Broken::Absent(byte)) => return vec![byte; wanted],
            Some(Broken::Garbage) => return (0..wanted).map(|_| self.random()).collect(),
            _ => {}
        }
        if self.in_reset || self.busy_us > 0 || self.broken == Some(Broken::Busy) {
            self.fault("a command while the chip is busy");
            return vec![0; wanted];
        }
        let Some((code, arguments_given)) = given.split_first() else {
            self.fault("no command");
            return vec![0; wanted];
        };
        match arguments(*code) {
            None => self.fault(&format!("there is no command {code:#04x}")),
            Some(Some(count)) if count != arguments_given.len() => {
                self.fault(&format!("{code:#04x} with {} bytes", arguments_given.len()));
            }
            Some(_) => {
                let answer = self.carry_out(*code, arguments_given, wanted);
                self.busy_us = self.busy_us.max(2);
                return answer;
            }
        }
        vec![0; wanted]
    }

    fn status(&self) -> u8 {
        (self.mode as u8) << 4
    }

    fn carry_out(&mut self, code: u8, given: &[u8], wanted: usize) -> Vec<u8> {
        let padded = |mut answer: Vec<u8>| {
            answer.resize(wanted, 0);
            answer
        };
        let standby = matches!(self.mode, Mode::Rc | Mode::Xosc);
        match (code, given) {
            (GET_STATUS, _) => return padded(vec![self.status()]),
            (GET_IRQ_STATUS, _) => {
                let [high, low] = self.irq.to_be_bytes();
                return padded(vec![self.status(), high, low]);
            }
            (GET_DEVICE_ERRORS, _) => {
                let [high, low] = self.errors.to_be_bytes();
                return padded(vec![self.status(), high, low]);
            }
            (GET_RX_BUFFER_STATUS, _) => {
                let (len, start) = match self.broken {
                    Some(Broken::Length(len, start)) => (len, start),
                    _ => self.received,
                };
                return padded(vec![self.status(), len, start]);
            }
            (GET_PACKET_STATUS, _) => {
                return padded(vec![self.status(), 180, self.snr as u8, 180]);
            }
            (GET_RSSI_INST, _) => {
                self.expect(self.mode == Mode::Rx, "GetRssiInst while not receiving");
                return padded(vec![self.status(), (-2.0 * self.noise_dbm) as u8]);
            }
            (READ_REGISTER, [high, low, _]) => {
                let address = u16::from_be_bytes([*high, *low]);
                return (0..wanted).map(|n| self.register(address + n as u16)).collect();
            }
            (READ_BUFFER, [start, _]) => {
                let at = |n: usize| usize::from(start.wrapping_add(n as u8));
                return (0..wanted).map(|n| self.buffer[at(n)]).collect();
            }
            (WRITE_REGISTER, [high, low, value @ ..]) => {
                let address = u16::from_be_bytes([*high, *low]);
                let values = (address..).zip(value.iter().copied());
                self.registers.extend(values);
            }
            (WRITE_BUFFER, [start, bytes @ ..]) => {
                self.expect(standby, "WriteBuffer while receiving or sending");
                for (n, byte) in bytes.iter().enumerate() {
                    self.buffer[usize::from(start.wrapping_add(n as u8))] = *byte;
                }
                self.written = bytes.len();
            }
            (CLEAR_IRQ_STATUS, [high, low]) => self.irq &= !u16::from_be_bytes([*high, *low]),
            (CLEAR_DEVICE_ERRORS, _) => self.errors = 0,
            (SET_STANDBY, [mode]) => {
                self.pending = None;
                self.mode = if *mode == 0 { Mode::Rc } else { Mode::Xosc };
                self.expect(*mode == 0 || self.clock, "standby with a clock that has no supply");
                self.busy_us = 100;
            }
            (SET_DIO3_AS_TCXO_CTRL, [volts, timeout @ ..]) => {
                self.expect(self.mode == Mode::Rc, "SetDio3AsTcxoCtrl outside of STDBY_RC");
                self.expect(*volts == 2, "the oscillator of this board takes 1.8 V");
                self.expect(
                    timeout > &[0, 0, 64][..],
                    "less than a millisecond for the oscillator",
                );
                self.clock = true;
            }
            (CALIBRATE, [blocks]) => {
                self.expect(self.mode == Mode::Rc, "Calibrate outside of STDBY_RC");
                self.calibrated = self.clock && *blocks == 0x7f;
                self.errors |= if self.clock { 0 } else { 1 << 5 };
                if let Some(Broken::Errors(errors)) = self.broken {
                    self.errors |= errors;
                }
                self.busy_us = 15_000;
            }
            (SET_RX, _) => {
                self.ready_for_the_air();
                self.mode = Mode::Rx;
                self.received = (0, 0);
                self.busy_us = 100;
            }
            (SET_TX, _) => {
                self.ready_for_the_air();
                self.expect(self.has(SET_PA_CONFIG), "SetTx before SetPaConfig");
                self.expect(self.has(SET_TX_PARAMS), "SetTx before SetTxParams");
                self.expect(self.irq == 0, "SetTx with interrupts that were not cleared");
                self.expect(self.register(TX_CLAMP) & 0x1e == 0x1e, "section 15.2: TxClampConfig");
                let len = self.settings.get(&SET_PACKET_PARAMS).and_then(|set| set.get(3)).copied();
                self.expect(
                    len.map(usize::from) == Some(self.written),
                    "a frame of another length",
                );
                let at = |n: usize| usize::from(self.bases[0].wrapping_add(n as u8));
                let frame: Vec<u8> = (0..self.written).map(|n| self.buffer[at(n)]).collect();
                (self.mode, self.written, self.busy_us) = (Mode::Tx, 0, 200);
                self.sent.push(frame.clone());
                self.pending = Some(frame);
            }
            _ => {
                self.expect(standby, "a setting while receiving or sending");
                let after_type =
                    [SET_RF_FREQUENCY, SET_MODULATION_PARAMS, SET_PACKET_PARAMS, SET_TX_PARAMS];
                let early = after_type.contains(&code) && !self.has(SET_PACKET_TYPE);
                self.expect(!early, "a setting before SetPacketType");
                match (code, given) {
                    (SET_PACKET_TYPE, _) => self.expect(given == [1], "not the modem of LoRa"),
                    (SET_TX_PARAMS, [power, _]) => {
                        let range = -9..=22;
                        self.expect(range.contains(&(*power as i8)), "power out of range");
                        self.expect(self.has(SET_PA_CONFIG), "SetTxParams before SetPaConfig");
                    }
                    // The command sets the register as section 15.4 describes it.
                    (SET_PACKET_PARAMS, _) => _ = self.registers.remove(&IQ_POLARITY),
                    (SET_BUFFER_BASE_ADDRESS, [tx, rx]) => self.bases = [*tx, *rx],
                    (SET_DIO_IRQ_PARAMS, [a, b, c, d, ..]) => {
                        self.enabled = u16::from_be_bytes([*a, *b]);
                        self.on_dio1 = u16::from_be_bytes([*c, *d]);
                    }
                    (CALIBRATE_IMAGE, _) => self.busy_us = 3_000,
                    _ => {}
                }
            }
        }
        self.settings.insert(code, given.to_vec());
        vec![0; wanted]
    }

    fn ready_for_the_air(&mut self) {
        for (code, what) in [
            (SET_PACKET_TYPE, "SetPacketType"),
            (SET_RF_FREQUENCY, "SetRfFrequency"),
            (SET_MODULATION_PARAMS, "SetModulationParams"),
            (SET_PACKET_PARAMS, "SetPacketParams"),
            (SET_BUFFER_BASE_ADDRESS, "SetBufferBaseAddress"),
            (SET_DIO_IRQ_PARAMS, "SetDioIrqParams"),
            (SET_DIO2_AS_RF_SWITCH, "SetDio2AsRfSwitchCtrl"),
            (CALIBRATE_IMAGE, "CalibrateImage"),
            (SET_REGULATOR_MODE, "SetRegulatorMode"),
        ] {
            self.expect(self.has(code), &format!("on the air before {what}"));
        }
        self.expect(self.calibrated, "on the air without a calibration");
        self.expect(self.register(IQ_POLARITY) & 0x04 != 0, "section 15.4: IQ polarity");
        let wide = self.settings.get(&SET_MODULATION_PARAMS).and_then(|set| set.get(1)) == Some(&6);
        let bit = self.register(TX_MODULATION) & 0x04 != 0;
        self.expect(bit != wide, "section 15.1: TxModulation");
        let word = [SYNC_WORD, SYNC_WORD + 1].map(|address| self.register(address));
        self.expect(word == [0x14, 0x24], "not the sync word of private networks");
    }

    pub(super) fn tuning(&self) -> Option<Tuning> {
        let setting = |code| self.settings.get(&code);
        let steps: [u8; 4] = setting(SET_RF_FREQUENCY)?.as_slice().try_into().ok()?;
        let hz = (u64::from(u32::from_be_bytes(steps)) * 32_000_000).div_ceil(1 << 25);
        let [spreading, bandwidth, coding, _] = setting(SET_MODULATION_PARAMS)?[..] else {
            return None;
        };
        let [high, low, ..] = setting(SET_PACKET_PARAMS)?[..] else { return None };
        let bandwidth_hz = match bandwidth {
            0x00 => 7_800,
            0x08 => 10_400,
            0x01 => 15_600,
            0x09 => 20_800,
            0x02 => 31_250,
            0x0a => 41_700,
            0x03 => 62_500,
            0x04 => 125_000,
            0x05 => 250_000,
            _ => 500_000,
        };
        let tuning = Tuning {
            frequency_hz: hz as u32,
            bandwidth_hz,
            spreading,
            coding: coding + 4,
            preamble: u16::from_be_bytes([high, low]),
        };
        tuning.checked()
    }
}
