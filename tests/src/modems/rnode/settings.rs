//! What a host sets and asks of an RNode (`serial_callback`), packets apart.

use super::commands::*;
use super::load::Load;
use super::{Chip, Rnode};
use crate::modems::firmware::{Firmware, Parameter};
use blvm_mesh_core::time::{Micros, SECOND};

const PLATFORM_ESP32: u8 = 0x80;
const MCU_ESP32: u8 = 0x81;
/// Bandwidths of an SX1262 in hertz; one between them becomes the next.
const BANDWIDTHS: [u32; 10] =
    [7_800, 10_400, 15_600, 20_800, 31_250, 41_700, 62_500, 125_000, 250_000, 500_000];

impl Rnode {
    pub(super) fn number(&mut self, command: u8, number: u32) {
        match command {
            FREQUENCY => {
                if number != 0 && !self.refused.has(Parameter::Frequency) {
                    self.frequency = number;
                    self.settle();
                }
                self.say_number(FREQUENCY, self.frequency);
            }
            BANDWIDTH => {
                if number != 0 && !self.refused.has(Parameter::Bandwidth) {
                    self.bandwidth = number;
                    self.settle();
                    self.say_pace();
                }
                self.say_number(BANDWIDTH, self.bandwidth);
            }
            _ => {
                let limit = (f64::from(number) / 10_000.0) as f32;
                let limit = if limit >= 1.0 { 0.0 } else { limit };
                let place = match command {
                    ST_ALOCK => &mut self.short_limit,
                    _ => &mut self.long_limit,
                };
                *place = limit;
                // In single precision, and cut off, as in the firmware.
                let said = (limit * 100.0 * 100.0) as u16;
                self.say_escaped(command, &said.to_be_bytes());
            }
        }
    }

    /// What a transceiver makes of its settings while it is on.
    fn settle(&mut self) {
        if !self.online {
            return;
        }
        if self.kind.chip == Chip::Sx1276 {
            let steps = (u64::from(self.frequency) << 19) / 32_000_000;
            self.frequency = ((steps * 32_000_000) >> 19) as u32;
        }
        let next = BANDWIDTHS.iter().find(|most| self.bandwidth <= **most);
        self.bandwidth = *next.unwrap_or(&500_000);
    }

    pub(super) fn byte(&mut self, command: u8, byte: u8, now: Micros) {
        match command {
            TXPOWER => {
                if byte != 0xff && !self.refused.has(Parameter::Power) {
                    let most = if self.kind.chip == Chip::Sx1262 { 22 } else { 17 };
                    self.power = byte.min(most);
                }
                self.say(&[TXPOWER, self.power]);
            }
            SF => {
                if byte != 0xff && !self.refused.has(Parameter::Spreading) {
                    self.spreading = byte.clamp(5, 12);
                    self.say_pace();
                }
                self.say(&[SF, self.spreading]);
            }
            CR => {
                if byte != 0xff && !self.refused.has(Parameter::Coding) {
                    self.coding = byte.clamp(5, 8);
                    self.say_pace();
                }
                self.say(&[CR, self.coding]);
            }
            RADIO_STATE => self.radio_state(byte, now),
            RADIO_LOCK => self.say(&[RADIO_LOCK, self.locked().into()]),
            DETECT if byte == DETECT_REQUEST => self.say(&[DETECT, DETECT_RESPONSE]),
            LEAVE if byte == 0xff => (self.last_rssi, self.last_snr) = (0, 0x80),
            PROMISC => {
                self.promiscuous = if byte < 2 { byte == 1 } else { self.promiscuous };
                self.say(&[PROMISC, self.promiscuous.into()]);
            }
            READY => self.say(&[READY, (!self.queue_full()).into()]),
            // The firmware has both, and counts in neither.
            STAT_RX | STAT_TX => self.say_number(command, 0),
            STAT_RSSI => self.say_escaped(STAT_RSSI, &[self.last_rssi]),
            RANDOM => {
                let random = self.rng.below(255) as u8;
                self.say(&[RANDOM, random]);
            }
            FW_VERSION => self.say(&[FW_VERSION, self.kind.version.0, self.kind.version.1]),
            PLATFORM => self.say(&[PLATFORM, PLATFORM_ESP32]),
            MCU => self.say(&[MCU, MCU_ESP32]),
            BOARD => {
                let board = if self.kind.chip == Chip::Sx1262 { 0x3a } else { 0x37 };
                self.say(&[BOARD, board]);
            }
            RESET if byte == RESET_BYTE => self.reset(now),
            _ => {}
        }
    }

    fn locked(&self) -> bool {
        self.frequency == 0 || self.bandwidth == 0 || self.power == 0xff || self.spreading == 0
    }

    fn radio_state(&mut self, byte: u8, now: Micros) {
        match byte {
            0xff => {}
            0 => {
                self.online = false;
                if std::mem::take(&mut self.flushing) {
                    self.say(&[ERROR, ERROR_TXFAILED]);
                    self.frames.clear();
                    self.queue.clear();
                    (self.packet, self.height, self.queued) = (None, 0, 0);
                }
            }
            1 => {
                if !self.online && self.refused.has(Parameter::Radio) {
                    self.say(&[ERROR, ERROR_INITRADIO]);
                } else if !self.online {
                    self.online = !self.locked();
                    if self.online {
                        self.load = Load::new(now);
                        self.stats_at = now + SECOND;
                        self.settle();
                        // Once for each of bandwidth, spreading factor and coding rate.
                        (0..3).for_each(|_| self.say_pace());
                    }
                    self.say(&[RADIO_STATE, self.online.into()]);
                } else {
                    self.say(&[RADIO_STATE, 1]);
                }
            }
            _ => return,
        }
        self.say(&[RADIO_STATE, self.online.into()]);
    }
}
