//! Semtech's SX1262 as a processor sees it: its SPI commands, BUSY, DIO1 and RESET (datasheet
//! DS.SX1261-2.W.APP, revision 2.1; sections are named). It knows nothing of this project's driver, and
//! writes down what no chip takes: commands in the wrong mode or order, while it is busy, or without
//! the workarounds of section 15.
//!
//! It is a [`Firmware`] too, whose host is a bus, so that it sends and hears on the channel of an
//! [`Emulation`](super::Emulation).

mod commands;

use super::channel::{Heard, Sense};
use super::firmware::{Firmware, Parameter, Version};
use super::tuning::Tuning;
use blvm_mesh_core::time::Micros;
use commands::Mode;
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{ErrorType, InputPin, OutputPin};
use embedded_hal::spi::{self, ErrorKind, Operation, SpiDevice};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bits of the interrupt register (13.3.1).
pub mod irq {
    /// A frame was sent.
    pub const TX_DONE: u16 = 1 << 0;
    /// A frame was received.
    pub const RX_DONE: u16 = 1 << 1;
    /// A preamble was detected.
    pub const PREAMBLE: u16 = 1 << 2;
    /// A header is whole.
    pub const HEADER_VALID: u16 = 1 << 4;
    /// A header is not.
    pub const HEADER_ERROR: u16 = 1 << 5;
    /// The check of a payload is wrong.
    pub const CRC_ERROR: u16 = 1 << 6;
    /// The time of a command is over.
    pub const TIMEOUT: u16 = 1 << 9;
}

/// What is wrong with a chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// BUSY does not fall any more.
    Busy,
    /// Nothing drives MISO, which reads as this.
    Absent(u8),
    /// The processor's bus reports an error.
    Bus,
    /// GetDeviceErrors has these bits after a calibration.
    Errors(u16),
    /// It does not tell that a frame was sent.
    Silent,
    /// It tells this length and this start of what it received.
    Length(u8, u8),
    /// Each answer is other bytes.
    Garbage,
}

/// A chip, shared by its bus, its pins and whoever looks at it.
#[derive(Debug, Clone, Default)]
pub struct Sx1262(Arc<Mutex<Chip>>);

/// What is in a chip.
#[derive(Debug)]
pub struct Chip {
    mode: Mode,
    in_reset: bool,
    busy_us: u32,
    irq: u16,
    enabled: u16,
    on_dio1: u16,
    registers: BTreeMap<u16, u8>,
    buffer: [u8; 256],
    /// Base addresses of what is sent and received.
    bases: [u8; 2],
    received: (u8, u8),
    errors: u16,
    clock: bool,
    calibrated: bool,
    /// The last arguments of each command since the reset.
    settings: BTreeMap<u8, Vec<u8>>,
    /// Bytes written to the buffer since the last frame.
    written: usize,
    /// A frame that is to go on the air.
    pending: Option<Vec<u8>>,
    carrier: bool,
    noise_dbm: f64,
    snr: i8,
    faults: Vec<String>,
    broken: Option<Broken>,
    sent: Vec<Vec<u8>>,
    draw: u32,
}

impl Default for Chip {
    fn default() -> Self {
        Self {
            mode: Mode::Rc,
            in_reset: false,
            busy_us: 0,
            irq: 0,
            enabled: 0,
            on_dio1: 0,
            registers: BTreeMap::new(),
            buffer: [0; 256],
            bases: [0, 128],
            received: (0, 0),
            // A crystal that has no supply does not start (13.3.6).
            errors: 1 << 5,
            clock: false,
            calibrated: false,
            settings: BTreeMap::new(),
            written: 0,
            pending: None,
            carrier: false,
            noise_dbm: -120.0,
            snr: 0,
            faults: Vec::new(),
            broken: None,
            sent: Vec::new(),
            draw: 1,
        }
    }
}

impl Sx1262 {
    /// A chip that has power.
    pub fn new() -> Self {
        Self::default()
    }

    fn chip(&self) -> MutexGuard<'_, Chip> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pin, the bus, or what waits beside it.
    pub fn part(&self) -> Part {
        Part(self.clone())
    }

    /// DIO1.
    pub fn dio1(&self) -> Dio1 {
        Dio1(self.clone())
    }

    /// What was done that no chip takes.
    pub fn faults(&self) -> Vec<String> {
        self.chip().faults.clone()
    }

    /// Breaks it, or repairs it.
    pub fn set_broken(&self, broken: Option<Broken>) {
        self.chip().broken = broken;
    }

    /// Its supply fails for a moment: it begins anew by itself.
    pub fn lose_power(&self) {
        self.chip().restart();
    }

    /// The last arguments of a command since it began.
    pub fn setting(&self, code: u8) -> Option<Vec<u8>> {
        self.chip().settings.get(&code).cloned()
    }

    /// What a register holds.
    pub fn register(&self, address: u16) -> u8 {
        self.chip().register(address)
    }

    /// Whether it listens.
    pub fn is_listening(&self) -> bool {
        self.chip().mode == Mode::Rx
    }

    /// What it has sent.
    pub fn sent(&self) -> Vec<Vec<u8>> {
        self.chip().sent.clone()
    }

    /// The frame that was begun is on the air no more, or its time is over.
    pub fn end(&self, done: bool) {
        self.chip().end(done);
    }

    /// It receives these bytes, with a right check or a wrong one.
    pub fn hear(&self, bytes: &[u8], is_whole: bool) {
        self.chip().hear(bytes, is_whole);
    }

    /// Bits of the interrupt register are set.
    pub fn interrupt(&self, flags: u16) {
        self.chip().raise(flags);
    }

    /// The power in its band, in dBm.
    pub fn set_noise(&self, dbm: f64) {
        self.chip().noise_dbm = dbm;
    }
}

impl Chip {
    fn restart(&mut self) {
        let Self { faults, broken, sent, noise_dbm, draw, .. } = std::mem::take(self);
        *self = Self { faults, broken, sent, noise_dbm, draw, busy_us: 1_000, ..Self::default() };
    }

    fn raise(&mut self, flags: u16) {
        self.irq |= flags & self.enabled;
    }

    fn end(&mut self, done: bool) {
        self.pending = None;
        if self.mode != Mode::Tx || self.broken == Some(Broken::Silent) {
            return;
        }
        let fallback = self.settings.get(&commands::SET_RX_TX_FALLBACK_MODE).cloned();
        self.mode = if fallback == Some(vec![0x30]) { Mode::Xosc } else { Mode::Rc };
        self.raise(if done { irq::TX_DONE } else { irq::TIMEOUT });
    }

    fn hear(&mut self, bytes: &[u8], is_whole: bool) {
        if self.mode != Mode::Rx {
            return;
        }
        let start = self.received.1.wrapping_add(self.received.0).max(self.bases[1]);
        for (n, byte) in bytes.iter().enumerate() {
            self.buffer[usize::from(start.wrapping_add(n as u8))] = *byte;
        }
        self.received = (bytes.len() as u8, start);
        let check = if is_whole { 0 } else { irq::CRC_ERROR };
        self.raise(irq::PREAMBLE | irq::HEADER_VALID | irq::RX_DONE | check);
    }

    fn random(&mut self) -> u8 {
        // xorshift32 (Marsaglia 2003).
        self.draw ^= self.draw << 13;
        self.draw ^= self.draw >> 17;
        self.draw ^= self.draw << 5;
        self.draw as u8
    }
}

/// The bus, RESET, BUSY, and what counts the time in which a processor waits.
#[derive(Debug)]
pub struct Part(Sx1262);

impl spi::ErrorType for Part {
    type Error = ErrorKind;
}

impl SpiDevice for Part {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), ErrorKind> {
        let mut chip = self.0.chip();
        if chip.broken == Some(Broken::Bus) {
            return Err(ErrorKind::Other);
        }
        let mut given: Vec<u8> = Vec::new();
        let mut wanted = 0;
        for operation in operations.iter() {
            match operation {
                Operation::Write(bytes) if wanted == 0 => given.extend(*bytes),
                Operation::Read(bytes) => wanted += bytes.len(),
                _ => chip.faults.push("a transaction of another form".into()),
            }
        }
        let mut answer = chip.command(&given, wanted).into_iter();
        for operation in operations {
            if let Operation::Read(bytes) = operation {
                bytes.iter_mut().zip(&mut answer).for_each(|(to, from)| *to = from);
            }
        }
        Ok(())
    }
}

impl ErrorType for Part {
    type Error = Infallible;
}

impl InputPin for Part {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        let chip = self.0.chip();
        Ok(chip.busy_us > 0 || chip.in_reset || chip.broken == Some(Broken::Busy))
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        self.is_high().map(|high| !high)
    }
}

impl OutputPin for Part {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.chip().in_reset = true;
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        let mut chip = self.0.chip();
        if std::mem::take(&mut chip.in_reset) {
            chip.restart();
        }
        Ok(())
    }
}

impl DelayNs for Part {
    fn delay_ns(&mut self, ns: u32) {
        let mut chip = self.0.chip();
        chip.busy_us = chip.busy_us.saturating_sub(ns.div_ceil(1_000));
    }
}

/// The pin that is high while an interrupt waits.
#[derive(Debug)]
pub struct Dio1(Sx1262);

impl ErrorType for Dio1 {
    type Error = Infallible;
}

impl InputPin for Dio1 {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        let chip = self.0.chip();
        let told = chip.irq & chip.on_dio1 != 0;
        Ok(told || chip.broken == Some(Broken::Garbage))
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        self.is_high().map(|high| !high)
    }
}

/// On a channel: its host is the bus.
impl Firmware for Sx1262 {
    fn feed(&mut self, _: &[u8], _: Micros, _: &Sense) {}

    fn poll(&mut self, _: Micros, sense: &Sense) -> Option<Vec<u8>> {
        let mut chip = self.chip();
        chip.noise_dbm = sense.rssi_dbm;
        let begins = sense.carrier && !chip.carrier;
        chip.carrier = sense.carrier;
        if begins && chip.mode == Mode::Rx {
            chip.raise(irq::PREAMBLE | irq::HEADER_VALID);
        }
        chip.pending.take()
    }

    fn due(&self) -> Option<Micros> {
        self.chip().pending.is_some().then_some(0)
    }

    fn sent(&mut self, _: Micros) {
        self.end(true);
    }

    fn received(&mut self, heard: Heard, _: Micros) {
        self.chip().snr = (heard.snr_db * 4.0) as i8;
        match heard.frame {
            Some(bytes) => self.hear(&bytes, true),
            None => self.hear(&[0; 9], false),
        }
    }

    fn tuning(&self) -> Option<Tuning> {
        let chip = self.chip();
        matches!(chip.mode, Mode::Rx | Mode::Tx).then(|| chip.tuning()).flatten()
    }

    fn power_dbm(&self) -> i32 {
        let power = self.setting(commands::SET_TX_PARAMS).and_then(|set| set.first().copied());
        power.map_or(0, |power| i32::from(power as i8))
    }

    fn take_output(&mut self, _: usize) -> Vec<u8> {
        Vec::new()
    }

    fn reset(&mut self, _: Micros) {
        self.lose_power();
    }

    fn refuse(&mut self, _: Parameter, _: bool) {}

    fn set_version(&mut self, _: Version) {}
}
