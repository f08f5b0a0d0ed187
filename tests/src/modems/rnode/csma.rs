//! How RNode's firmware waits for the channel: a fixed pause in which it must be free, then a window
//! that is drawn, counted only while it is free (`tx_queue_handler`, `updateBitrate`).

use crate::modems::channel::Sense;
use crate::rng::Rng;
use blvm_mesh_core::time::Micros;

/// By how much a signal that is no frame must be above noise to be taken for one that disturbs.
const INTERFERENCE_DB: f64 = 11.0;
/// Widths of the contention window, and slots that each adds.
const BANDS: u32 = 4;
const BAND_SLOTS: u32 = 15;
/// Up to which share of airtime, in percent, the first band is used, and from which the last one.
const FIRST_BAND: u32 = 7;
const LAST_BAND: u32 = 85;
const MS: Micros = 1000;

/// Whether something is in the band that is no frame.
pub(super) fn interferes(sense: &Sense) -> bool {
    !sense.carrier && sense.rssi_dbm > sense.floor_dbm + INTERFERENCE_DB
}

/// What follows from the settings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    symbol_ms: f64,
    /// Symbols of the preamble.
    pub(super) preamble: u16,
    bits_per_second: f64,
    slot_ms: u16,
}

impl Pace {
    pub(super) fn new(bandwidth: u32, spreading: u8, coding: u8) -> Self {
        let symbol_ms = f64::from(1u32 << spreading) / f64::from(bandwidth.max(1)) * 1000.0;
        let bits_per_second = f64::from(spreading) * 4.0 / f64::from(coding) / symbol_ms * 1000.0;
        let fast = bits_per_second > 30_000.0;
        let (target_ms, least_slot_ms) = if fast { (6.0, 6) } else { (24.0, 24) };
        let slot_ms = (symbol_ms * 12.0).min(100.0) as u16;
        Self {
            symbol_ms,
            preamble: (target_ms / symbol_ms).max(18.0).ceil() as u16,
            bits_per_second,
            slot_ms: if slot_ms < 24 { least_slot_ms } else { slot_ms },
        }
    }

    /// Whether the whole queue is sent at once. At higher rates it is one packet.
    pub(super) fn flushes(&self) -> bool {
        self.bits_per_second <= 14_000.0
    }

    fn pause(&self) -> Micros {
        2 * Micros::from(self.slot_ms) * MS
    }

    /// As the message that tells it: symbol time in microseconds, symbols in a second, symbols of the
    /// preamble, its time, slot and pause in milliseconds.
    pub(super) fn told(&self) -> Vec<u8> {
        let preamble_ms = (f64::from(self.preamble) * self.symbol_ms).ceil() as u16;
        let symbol_us = (self.symbol_ms * 1000.0) as u16;
        let rate = (1000.0 / self.symbol_ms) as u16;
        [symbol_us, rate, self.preamble, preamble_ms, self.slot_ms, 2 * self.slot_ms]
            .into_iter()
            .flat_map(u16::to_be_bytes)
            .collect()
    }
}

#[derive(Debug, Clone)]
pub(super) struct Csma {
    band: u32,
    first_slot: u32,
    end_slot: u32,
    /// How long to wait in the window, and how much of it is over.
    window: Option<Micros>,
    passed: Micros,
    /// Since when the channel is free.
    free: Option<Micros>,
    due: Option<Micros>,
}

impl Csma {
    pub(super) fn new() -> Self {
        let (window, free, due) = (None, None, None);
        Self { band: 1, first_slot: 0, end_slot: BAND_SLOTS, window, passed: 0, free, due }
    }

    pub(super) fn due(&self) -> Option<Micros> {
        self.due
    }

    /// There is nothing to send, or it may not be sent.
    pub(super) fn pause(&mut self) {
        self.due = None;
    }

    /// Whether to send now.
    pub(super) fn wait(&mut self, pace: &Pace, sense: &Sense, now: Micros, rng: &mut Rng) -> bool {
        let (first, last) = (self.first_slot.into(), u64::from(self.end_slot) - 1);
        let slot = Micros::from(pace.slot_ms) * MS;
        let window = *self.window.get_or_insert_with(|| rng.within(first, last) * slot);
        if sense.carrier || interferes(sense) {
            let since = self.free.take().map(|free| free + pace.pause());
            self.passed += since.map_or(0, |since| now.saturating_sub(since));
            self.due = None;
            return false;
        }
        let counted_from = *self.free.get_or_insert(now) + pace.pause();
        let end = counted_from + window.saturating_sub(self.passed);
        if now < end {
            self.due = Some(end);
            return false;
        }
        *self = Self { window: None, passed: 0, free: None, due: None, ..*self };
        true
    }

    /// Chooses the window by the share of airtime; band, first and last slot if they changed.
    pub(super) fn adapt(&mut self, airtime: f64) -> Option<[u8; 3]> {
        let percent = (airtime * 100.0) as u32;
        let band = match percent {
            0..=FIRST_BAND => 1,
            _ => (2 + percent * (BANDS - 2) / (LAST_BAND - FIRST_BAND)).min(BANDS),
        };
        if band == self.band {
            return None;
        }
        self.band = band;
        self.first_slot = (band - 1) * BAND_SLOTS;
        self.end_slot = band * BAND_SLOTS - 1;
        Some([band as u8, self.first_slot as u8, self.end_slot as u8])
    }
}
