//! MeshCore's KISS modem (MeshCore `docs/kiss_modem_protocol.md`, `examples/kiss_modem`), version 1.
//! Signatures, encryption and key exchange are not there: it answers that the feature is not
//! available.

#[cfg(test)]
mod tests;

use super::channel::{Heard, Sense};
use super::firmware::{Firmware, Parameter, Refused, Version};
use super::kiss::{self, Frames};
use super::tuning::Tuning;
use crate::rng::Rng;
use bitcoin::hashes::{Hash, sha256};
use blvm_mesh_core::time::{Micros, SECOND};
use std::collections::VecDeque;

/// Most bytes of a frame from the host, and of a packet in it.
const MAX_FRAME: usize = 512;
const MAX_PACKET: usize = 255;
/// Frames to the host that may wait, and bytes in the buffer of its port.
const QUEUE: usize = 2;
const PORT_BYTES: usize = 1024;
/// Symbols of the preamble up to spreading factor 8, and above.
const PREAMBLES: (u16, u16) = (32, 16);
/// How long it takes from a reset until it listens again.
const BOOT: Micros = SECOND;
const TEN_MS: Micros = 10_000;

const DATA: u8 = 0x00;
const TXDELAY: u8 = 0x01;
const PERSISTENCE: u8 = 0x02;
const SLOTTIME: u8 = 0x03;
const FULLDUPLEX: u8 = 0x05;
const SETHARDWARE: u8 = 0x06;
const RETURN: u8 = 0xff;

const OK: u8 = 0xf0;
const ERROR: u8 = 0xf1;
const TX_DONE: u8 = 0xf8;
const RX_META: u8 = 0xf9;
const INVALID_LENGTH: u8 = 0x01;
const INVALID_PARAM: u8 = 0x02;
const NO_CALLBACK: u8 = 0x03;
const UNKNOWN_CMD: u8 = 0x05;
const TX_BUSY: u8 = 0x07;

/// Where it stands with the packet that it is to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tx {
    Idle,
    /// The channel must be clear; since when it waits.
    WaitClear(Micros),
    /// The dice said no.
    SlotWait(Micros),
    /// The transmitter keys up.
    Delay(Micros),
    Sending,
    /// Sent, or not: the host is still to be told.
    Done(u8),
}

/// The state of one modem.
#[derive(Debug, Clone)]
pub struct Meshcore {
    version: Version,
    rng: Rng,
    identity: [u8; 32],
    refused: Refused,
    booting: Option<Micros>,
    frames: Frames,
    /// As the host set them, and as it is asked for them.
    settings: [u8; 10],
    set_power: u8,
    tuning: Tuning,
    power: i8,
    tx_delay: u8,
    persistence: u8,
    slot_time: u8,
    full_duplex: bool,
    report_signal: bool,
    pending: Option<Vec<u8>>,
    tx: Tx,
    /// A received frame that it has not read yet. A further one takes its place.
    held: Option<Heard>,
    rx: u32,
    sent: u32,
    errors: u32,
    /// Whole frames that wait, and what is in the port's buffer.
    queue: VecDeque<Vec<u8>>,
    port: VecDeque<u8>,
    busy_pending: bool,
}

impl Meshcore {
    /// A modem that has started, on 869.618 MHz with 62.5 kHz and spreading factor 8, at 22 dBm.
    pub fn new(version: Version, mut rng: Rng) -> Self {
        let identity = rng.bytes32();
        Self {
            version,
            rng,
            identity,
            refused: Refused::default(),
            booting: None,
            frames: Frames::new(MAX_FRAME),
            settings: [0; 10],
            set_power: 0,
            tuning: Tuning {
                frequency_hz: 869_618_000,
                bandwidth_hz: 62_500,
                spreading: 8,
                coding: 5,
                preamble: PREAMBLES.0,
            },
            power: 22,
            tx_delay: 50,
            persistence: 63,
            slot_time: 10,
            full_duplex: false,
            report_signal: true,
            pending: None,
            tx: Tx::Idle,
            held: None,
            rx: 0,
            sent: 0,
            errors: 0,
            queue: VecDeque::new(),
            port: VecDeque::new(),
            busy_pending: false,
        }
    }

    /// Moves what fits into the port's buffer.
    fn flush(&mut self) {
        while let Some(frame) = self.queue.front_mut() {
            let part = frame.len().min(PORT_BYTES - self.port.len());
            self.port.extend(frame.drain(..part));
            if !frame.is_empty() {
                return;
            }
            self.queue.pop_front();
        }
    }

    fn say(&mut self, kind: u8, data: &[u8]) -> bool {
        self.flush();
        if self.queue.len() >= QUEUE {
            return false;
        }
        self.queue.push_back(kiss::frame(kind, data));
        self.flush();
        true
    }

    fn hardware(&mut self, command: u8, data: &[u8]) -> bool {
        self.say(SETHARDWARE, &[&[command], data].concat())
    }

    /// An answer; if there is no room for it, an error comes later in its stead.
    fn answer(&mut self, command: u8, data: &[u8]) {
        self.busy_pending |= !self.hardware(command, data);
    }

    fn error(&mut self, code: u8) {
        self.answer(ERROR, &[code]);
    }

    fn backed_up(&self) -> bool {
        !self.queue.is_empty() || self.busy_pending || matches!(self.tx, Tx::Done(_))
    }

    fn frame(&mut self, frame: &[u8], now: Micros, sense: &Sense) {
        let Some((&kind, data)) = frame.split_first() else { return };
        // The high half is a port, of which it has one.
        if kind == RETURN || kind >> 4 != 0 {
            return;
        }
        match (kind, data) {
            (DATA, _) if self.pending.is_some() => self.error(TX_BUSY),
            (DATA, data) if (1..=MAX_PACKET).contains(&data.len()) => {
                self.pending = Some(data.to_vec());
            }
            (TXDELAY, [value, ..]) => self.tx_delay = *value,
            (PERSISTENCE, [value, ..]) => self.persistence = *value,
            (SLOTTIME, [value, ..]) => self.slot_time = *value,
            (FULLDUPLEX, [value, ..]) => self.full_duplex = *value != 0,
            (SETHARDWARE, [command, data @ ..]) => self.command(*command, data, now, sense),
            _ => {}
        }
    }

    fn command(&mut self, command: u8, data: &[u8], now: Micros, sense: &Sense) {
        let response = command | 0x80;
        let answer = match (command, data) {
            (0x01, _) => self.identity.to_vec(),
            (0x02, [n @ 1..=64, ..]) => self.rng.vec((*n).into()),
            (0x02, [_, ..]) => return self.error(INVALID_PARAM),
            (0x03..=0x07, _) => return self.error(NO_CALLBACK),
            (0x08, [_, ..]) => sha256::Hash::hash(data).to_byte_array().to_vec(),
            (0x09, _) => return self.set_radio(data),
            (0x0a, [power, ..]) => return self.set_tx_power(*power),
            (0x0b, _) => self.settings.to_vec(),
            (0x0c, _) => vec![self.set_power],
            (0x0d, _) => vec![(sense.rssi_dbm as i8) as u8],
            (0x0e, _) => vec![sense.carrier.into()],
            (0x0f, [bytes, ..]) => {
                let airtime_ms = self.tuning.airtime((*bytes).into()) / 1000;
                (airtime_ms as u32).to_le_bytes().to_vec()
            }
            (0x10, _) => (sense.floor_dbm.max(-120.0) as i16).to_le_bytes().to_vec(),
            (0x11, _) => vec![self.version.0, 0],
            (0x12, _) => [self.rx, self.sent, self.errors].map(u32::to_le_bytes).concat(),
            (0x13, _) => 4100u16.to_le_bytes().to_vec(),
            (0x14, _) => 253i16.to_le_bytes().to_vec(),
            // CayenneLPP: channel 1, voltage, in hundredths of a volt, big-endian.
            (0x15, [wanted, ..]) if wanted & 1 != 0 => vec![1, 116, 0x01, 0x9a],
            (0x15, [_, ..]) => vec![],
            (0x16, _) => b"Emulated LoRa modem".to_vec(),
            (0x17, _) => vec![],
            (0x18, _) => {
                self.answer(OK, &[]);
                return self.reset(now);
            }
            (0x19, [enable, ..]) => {
                self.report_signal = *enable != 0;
                return self.answer(0x9a, &[self.report_signal.into()]);
            }
            (0x1a, _) => vec![self.report_signal.into()],
            (0x02 | 0x08 | 0x0a | 0x0f | 0x15 | 0x19, []) => return self.error(INVALID_LENGTH),
            _ => return self.error(UNKNOWN_CMD),
        };
        self.answer(response, &answer);
    }

    fn set_radio(&mut self, data: &[u8]) {
        let Some(settings) = data.first_chunk::<10>() else { return self.error(INVALID_LENGTH) };
        let refused =
            [Parameter::Frequency, Parameter::Bandwidth, Parameter::Spreading, Parameter::Coding];
        if self.refused.has(Parameter::Radio) {
            return self.error(NO_CALLBACK);
        }
        if refused.iter().any(|parameter| self.refused.has(*parameter)) {
            return self.error(INVALID_PARAM);
        }
        self.settings = *settings;
        let [f0, f1, f2, f3, b0, b1, b2, b3, spreading, coding] = *settings;
        let frequency_hz = u32::from_le_bytes([f0, f1, f2, f3]);
        let bandwidth_hz = u32::from_le_bytes([b0, b1, b2, b3]);
        // It says OK to all; the transceiver's driver leaves out what it cannot do.
        if (150_000_000..=960_000_000).contains(&frequency_hz) {
            self.tuning.frequency_hz = frequency_hz;
        }
        if (7_800..=500_000).contains(&bandwidth_hz) {
            self.tuning.bandwidth_hz = bandwidth_hz;
        }
        if (5..=12).contains(&spreading) {
            self.tuning.spreading = spreading;
        }
        if (5..=8).contains(&coding) {
            self.tuning.coding = coding;
        }
        self.tuning.preamble = if self.tuning.spreading <= 8 { PREAMBLES.0 } else { PREAMBLES.1 };
        self.answer(OK, &[]);
    }

    fn set_tx_power(&mut self, power: u8) {
        if self.refused.has(Parameter::Power) {
            return self.error(INVALID_PARAM);
        }
        self.set_power = power;
        let dbm = power as i8;
        if (-9..=22).contains(&dbm) {
            self.power = dbm;
        }
        self.answer(OK, &[]);
    }

    /// One step of sending. True if there may be another one at once.
    fn transmit(&mut self, now: Micros, sense: &Sense, frame: &mut Option<Vec<u8>>) -> bool {
        let before = self.tx;
        self.tx = match before {
            Tx::Idle if self.pending.is_none() => Tx::Idle,
            Tx::Idle if self.full_duplex => Tx::Delay(now),
            Tx::Idle => Tx::WaitClear(now),
            Tx::WaitClear(since) if sense.carrier => {
                if now < since + self.longest_wait() {
                    before
                } else {
                    Tx::Delay(now)
                }
            }
            Tx::WaitClear(_) => {
                let dice = self.rng.below(256) as u8;
                if dice <= self.persistence { Tx::Delay(now) } else { Tx::SlotWait(now) }
            }
            Tx::SlotWait(since) if now >= since + self.slot() => Tx::WaitClear(now),
            Tx::Delay(since) if now >= since + Micros::from(self.tx_delay) * TEN_MS => {
                *frame = self.pending.clone();
                // What was received and not read is gone.
                self.held = None;
                Tx::Sending
            }
            Tx::Done(result) if self.hardware(TX_DONE, &[result]) => {
                self.pending = None;
                Tx::Idle
            }
            waits => waits,
        };
        self.tx != before && self.tx != Tx::Sending
    }

    fn slot(&self) -> Micros {
        // A slot of no time at all passes with the next turn of its loop.
        (Micros::from(self.slot_time) * TEN_MS).max(1000)
    }

    fn longest_wait(&self) -> Micros {
        self.tuning.airtime(MAX_PACKET) * 3 / 2
    }
}

impl Firmware for Meshcore {
    fn feed(&mut self, bytes: &[u8], now: Micros, sense: &Sense) {
        for byte in bytes {
            if self.booting.is_some() {
                return;
            }
            if let Some(frame) = self.frames.take(*byte) {
                self.frame(&frame, now, sense);
            }
        }
    }

    fn poll(&mut self, now: Micros, sense: &Sense) -> Option<Vec<u8>> {
        if self.booting.is_some_and(|until| now < until) {
            return None;
        }
        self.booting = None;
        self.flush();
        let mut frame = None;
        while self.transmit(now, sense, &mut frame) {}
        if self.busy_pending && self.hardware(ERROR, &[TX_BUSY]) {
            self.busy_pending = false;
        }
        if self.tx == Tx::Sending || self.backed_up() {
            return frame;
        }
        if let Some(heard) = self.held.take() {
            let meta = [((heard.snr_db * 4.0) as i8) as u8, (heard.rssi_dbm as i8) as u8];
            let data = heard.frame.unwrap_or_default();
            self.rx += 1;
            if !self.say(DATA, &data) {
                self.busy_pending = true;
            } else if self.report_signal {
                self.answer(RX_META, &meta);
            }
        }
        frame
    }

    fn due(&self) -> Option<Micros> {
        match self.tx {
            _ if self.booting.is_some() => self.booting,
            Tx::WaitClear(since) => Some(since + self.longest_wait()),
            Tx::SlotWait(since) => Some(since + self.slot()),
            Tx::Delay(since) => Some(since + Micros::from(self.tx_delay) * TEN_MS),
            Tx::Idle | Tx::Sending | Tx::Done(_) => None,
        }
    }

    fn sent(&mut self, _: Micros) {
        if self.tx == Tx::Sending {
            self.sent += 1;
            self.tx = Tx::Done(1);
        }
    }

    fn received(&mut self, heard: Heard, _: Micros) {
        if self.booting.is_some() {
            return;
        }
        match heard.frame {
            None => self.errors += 1,
            Some(_) => self.held = Some(heard),
        }
    }

    fn tuning(&self) -> Option<Tuning> {
        self.booting.is_none().then_some(self.tuning)
    }

    fn power_dbm(&self) -> i32 {
        self.power.into()
    }

    fn take_output(&mut self, most: usize) -> Vec<u8> {
        let taken = self.port.drain(..most.min(self.port.len())).collect();
        self.flush();
        taken
    }

    fn reset(&mut self, now: Micros) {
        let new = Self::new(self.version, Rng::new(self.rng.draw()));
        *self = Self {
            identity: self.identity,
            refused: std::mem::take(&mut self.refused),
            // What the port has already goes out.
            port: std::mem::take(&mut self.port),
            booting: Some(now + BOOT),
            ..new
        };
    }

    fn refuse(&mut self, parameter: Parameter, refused: bool) {
        self.refused.set(parameter, refused);
    }

    fn set_version(&mut self, version: Version) {
        self.version = version;
    }
}
