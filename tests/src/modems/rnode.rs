//! An RNode: the firmware of ESP32 boards (RNode_Firmware 1.86 `RNode_Firmware.ino`, `Utilities.h`,
//! `Config.h`), with what a host of Reticulum uses. Display, Bluetooth, WiFi settings, EEPROM and
//! firmware update are not there; their commands are taken and ignored.

mod commands;
mod csma;
mod load;
mod settings;
#[cfg(test)]
mod tests;

use self::commands::{Reader, Step, *};
use self::csma::{Csma, Pace};
use self::load::Load;
use super::channel::{Heard, Sense};
use super::firmware::{Firmware, Parameter, Refused, Version};
use super::kiss::{self, FEND};
use super::tuning::Tuning;
use crate::rng::Rng;
use blvm_mesh_core::time::{Micros, SECOND};
use std::collections::VecDeque;

/// Most bytes of a packet.
const MTU: usize = 508;
/// Most bytes of a frame on the air.
const SINGLE_MTU: usize = 255;
/// In a frame's first byte: it is one half of a packet.
const FLAG_SPLIT: u8 = 0x01;
/// Packets that may wait, and bytes of them (`CONFIG_QUEUE_MAX_LENGTH`, `CONFIG_QUEUE_SIZE`).
const QUEUE_LENGTH: usize = 200;
const QUEUE_BYTES: usize = 6144;
/// Most bytes that wait for the host; a message for which there is no room is lost.
const OUTPUT_BYTES: usize = 16_384;
/// What is added to dBm so that it fits in a byte.
const RSSI_OFFSET: f64 = 157.0;
/// How long it takes from a reset until it listens again.
const BOOT: Micros = SECOND;
/// What an ESP32 says at a reset before its program runs.
const BOOT_TEXT: &[u8] = b"ets Jul 29 2019 12:21:46\r\n\r\nrst:0xc (SW_CPU_RESET),boot:0x13 \
    (SPI_FAST_FLASH_BOOT)\r\nentry 0x400805e4\r\n";

/// Which transceiver the board has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Chip {
    /// SX1262, as on a Heltec V3: frequencies are kept as they are, at most 22 dBm.
    #[default]
    Sx1262,
    /// SX1276, as on a LoRa32 V2.1: frequencies are in steps of 61 Hz, at most 17 dBm.
    Sx1276,
}

/// What differs between RNodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its version, `50` says it.
    pub version: Version,
    /// Its transceiver.
    pub chip: Chip,
    /// Whether it says by itself that its queue is full (error 4) and that a packet was sent
    /// (`0F 01`), as firmware of 2018 did. Newer ones drop what does not fit without a word and
    /// answer only when they are asked with `0F`.
    pub reports_queue: bool,
}

impl Default for Kind {
    fn default() -> Self {
        Self { version: Version(1, 86), chip: Chip::default(), reports_queue: false }
    }
}

/// The state of one RNode.
#[derive(Debug, Clone)]
pub struct Rnode {
    kind: Kind,
    rng: Rng,
    output: Vec<u8>,
    refused: Refused,
    /// Until when it starts.
    booting: Option<Micros>,
    reader: Reader,
    frequency: u32,
    bandwidth: u32,
    power: u8,
    spreading: u8,
    coding: u8,
    online: bool,
    promiscuous: bool,
    /// Most airtime as a share of the time, 0 for no limit.
    short_limit: f32,
    long_limit: f32,
    /// Packets that wait, and what is counted of them.
    queue: VecDeque<Vec<u8>>,
    height: usize,
    queued: usize,
    partial: Vec<u8>,
    /// Whether the queue is being sent, and bytes of the packet that is.
    flushing: bool,
    packet: Option<usize>,
    /// Frames of that packet that are still to be sent.
    frames: VecDeque<Vec<u8>>,
    sending: bool,
    csma: Csma,
    load: Load,
    stats_at: Micros,
    /// What was received of a packet in two halves, and its sequence number.
    half: Option<(u8, Vec<u8>)>,
    last_rssi: u8,
    last_snr: u8,
}

impl Rnode {
    /// An RNode that has started.
    pub fn new(kind: Kind, rng: Rng) -> Self {
        Self {
            kind,
            rng,
            output: Vec::new(),
            refused: Refused::default(),
            booting: None,
            reader: Reader::new(),
            frequency: 0,
            bandwidth: 0,
            power: 0xff,
            spreading: 0,
            coding: 5,
            online: false,
            promiscuous: false,
            short_limit: 0.0,
            long_limit: 0.0,
            queue: VecDeque::new(),
            height: 0,
            queued: 0,
            partial: Vec::new(),
            flushing: false,
            packet: None,
            frames: VecDeque::new(),
            sending: false,
            csma: Csma::new(),
            load: Load::new(0),
            stats_at: 0,
            half: None,
            last_rssi: 0,
            last_snr: 0x80,
        }
    }

    /// Bytes between two delimiters as they are.
    fn say(&mut self, bytes: &[u8]) {
        self.write(&[&[FEND], bytes, &[FEND]].concat());
    }

    /// A command with its bytes escaped. The firmware never escapes the command.
    fn say_escaped(&mut self, command: u8, bytes: &[u8]) {
        let mut frame = vec![FEND, command];
        kiss::escape(bytes, &mut frame);
        frame.push(FEND);
        self.write(&frame);
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.output.len() + bytes.len() <= OUTPUT_BYTES {
            self.output.extend(bytes);
        }
    }

    fn say_number(&mut self, command: u8, number: u32) {
        self.say_escaped(command, &number.to_be_bytes());
    }

    fn queue_full(&self) -> bool {
        self.height >= QUEUE_LENGTH || self.queued >= QUEUE_BYTES
    }

    fn step(&mut self, step: Step, now: Micros) {
        match step {
            Step::Nothing => {}
            Step::Packet(byte) => {
                // What was left of a packet that did not fit stays before the next one.
                if !self.queue_full() && self.partial.len() < QUEUE_BYTES {
                    self.queued += 1;
                    self.partial.push(byte);
                }
            }
            Step::PacketEnd => {
                if self.queue.len() < QUEUE_LENGTH && self.queued < QUEUE_BYTES {
                    self.height += 1;
                    self.queue.push_back(std::mem::take(&mut self.partial));
                } else if self.kind.reports_queue {
                    self.say(&[ERROR, ERROR_QUEUE_FULL]);
                }
            }
            Step::Number(command, number) => self.number(command, number),
            Step::Byte(command, byte) => self.byte(command, byte, now),
        }
    }

    fn pace(&self) -> Pace {
        Pace::new(self.bandwidth, self.spreading, self.coding)
    }

    fn say_pace(&mut self) {
        if self.online {
            self.say_escaped(STAT_PHYPRM, &self.pace().told());
        }
    }

    /// Says how busy it and the channel are, and chooses the contention window by it.
    fn say_load(&mut self, now: Micros, sense: &Sense) {
        let shares = self.load.shares(now);
        if let Some(window) = self.csma.adapt(shares.airtime_short) {
            self.say_escaped(STAT_CSMA, &window);
        }
        let mut told = Vec::new();
        let parts =
            [shares.airtime_short, shares.airtime_long, shares.load_short, shares.load_long];
        parts.iter().for_each(|part| told.extend(((part * 10_000.0) as u16).to_be_bytes()));
        let power = |dbm: f64| (dbm + RSSI_OFFSET) as u8;
        let interference = match csma::interferes(sense) {
            true => power(sense.rssi_dbm),
            false => 0xff,
        };
        told.extend([power(sense.rssi_dbm), power(sense.floor_dbm), interference]);
        self.say_escaped(STAT_CHTM, &told);
    }

    fn airtime_locked(&mut self, now: Micros) -> bool {
        let shares = self.load.shares(now);
        (self.short_limit != 0.0 && shares.airtime_short >= self.short_limit.into())
            || (self.long_limit != 0.0 && shares.airtime_long >= self.long_limit.into())
    }

    /// Splits the next packet into frames; false if there is none.
    fn next_packet(&mut self) -> bool {
        let Some(packet) = self.queue.pop_front() else { return false };
        self.packet = Some(packet.len());
        if self.promiscuous {
            let frame = packet.into_iter().take(SINGLE_MTU).collect::<Vec<_>>();
            self.frames.extend((!frame.is_empty()).then_some(frame));
        } else if (1..=MTU).contains(&packet.len()) {
            let split = packet.len() > SINGLE_MTU - 1;
            let header = (self.rng.draw() as u8 & 0xf0) | if split { FLAG_SPLIT } else { 0 };
            let frames = packet.chunks(SINGLE_MTU - 1).map(|part| [&[header], part].concat());
            self.frames.extend(frames);
            // The firmware begins a frame after each full one of a split packet, and sends it empty.
            if split && packet.len() % (SINGLE_MTU - 1) == 0 {
                self.frames.push_back(vec![header]);
            }
        }
        true
    }

    /// The next frame of what is being sent. Without one, sending ends.
    fn next_frame(&mut self, now: Micros, sense: &Sense) -> Option<Vec<u8>> {
        while self.flushing {
            if let Some(frame) = self.frames.pop_front() {
                let airtime = self.tuning()?.airtime(frame.len());
                self.load.sends(airtime, now);
                self.load.carrier(false, now);
                self.sending = true;
                return Some(frame);
            }
            let done = self.packet.take();
            if done.is_some() && self.kind.reports_queue {
                self.say(&[READY, 1]);
            }
            match done {
                Some(bytes) if !self.pace().flushes() => {
                    self.height = self.height.saturating_sub(1);
                    self.queued = self.queued.saturating_sub(bytes);
                }
                _ if self.next_packet() => continue,
                _ => (self.height, self.queued) = (0, 0),
            }
            self.flushing = false;
            self.say_load(now, sense);
        }
        None
    }
}

impl Firmware for Rnode {
    fn feed(&mut self, bytes: &[u8], now: Micros, _: &Sense) {
        for byte in bytes {
            if self.booting.is_some() {
                return;
            }
            let step = self.reader.take(*byte);
            self.step(step, now);
        }
    }

    fn poll(&mut self, now: Micros, sense: &Sense) -> Option<Vec<u8>> {
        if self.booting.is_some_and(|until| until <= now) {
            self.booting = None;
            self.say(&[RESET, RESET_BYTE]);
        }
        if !self.online || self.sending {
            return None;
        }
        self.load.carrier(sense.carrier, now);
        if self.stats_at <= now {
            self.stats_at = now + SECOND;
            self.say_load(now, sense);
        }
        if !self.flushing {
            if self.height == 0 || self.airtime_locked(now) {
                self.csma.pause();
                return None;
            }
            if !self.csma.wait(&self.pace(), sense, now, &mut self.rng) {
                return None;
            }
            self.flushing = true;
        }
        self.next_frame(now, sense)
    }

    fn due(&self) -> Option<Micros> {
        if self.booting.is_some() {
            return self.booting;
        }
        let radio = (self.online && !self.sending).then_some(self.stats_at);
        [radio, self.csma.due().filter(|_| radio.is_some())].into_iter().flatten().min()
    }

    fn sent(&mut self, _: Micros) {
        self.sending = false;
    }

    fn received(&mut self, heard: Heard, _: Micros) {
        let Some(frame) = heard.frame.filter(|_| self.online) else { return };
        let packet = if self.promiscuous {
            Some(frame)
        } else {
            let Some((header, data)) = frame.split_first() else { return };
            let sequence = header >> 4;
            match (header & FLAG_SPLIT != 0, self.half.take()) {
                (false, _) => Some(data.to_vec()),
                (true, Some((first, half))) if first == sequence => {
                    Some(half.into_iter().chain(data.iter().copied()).take(MTU).collect())
                }
                (true, _) => {
                    self.half = Some((sequence, data.to_vec()));
                    None
                }
            }
        };
        let Some(packet) = packet else { return };
        self.last_rssi = (heard.rssi_dbm + RSSI_OFFSET) as u8;
        self.last_snr = ((heard.snr_db * 4.0) as i8) as u8;
        self.say_escaped(STAT_RSSI, &[self.last_rssi]);
        self.say_escaped(STAT_SNR, &[self.last_snr]);
        self.say_escaped(DATA, &packet);
    }

    fn tuning(&self) -> Option<Tuning> {
        let tuning = Tuning {
            frequency_hz: self.frequency,
            bandwidth_hz: self.bandwidth,
            spreading: self.spreading,
            coding: self.coding,
            preamble: if self.online { self.pace().preamble } else { 1 },
        };
        tuning.checked().filter(|_| self.online)
    }

    fn power_dbm(&self) -> i32 {
        self.power.into()
    }

    fn take_output(&mut self, most: usize) -> Vec<u8> {
        self.output.drain(..most.min(self.output.len())).collect()
    }

    fn reset(&mut self, now: Micros) {
        let refused = std::mem::take(&mut self.refused);
        *self = Self { refused, ..Self::new(self.kind, Rng::new(self.rng.draw())) };
        self.booting = Some(now + BOOT);
        self.write(BOOT_TEXT);
    }

    fn refuse(&mut self, parameter: Parameter, refused: bool) {
        self.refused.set(parameter, refused);
    }

    fn set_version(&mut self, version: Version) {
        self.kind.version = version;
    }
}
