//! Pins (6.8): those of P0 are 0 to 31, those of P1 32 to 47.

use core::convert::Infallible;
use embedded_hal::digital::{ErrorType, InputPin, OutputPin};
use nrf52840_pac::{P0, P1, p0};

/// Bits of PIN_CNF: an input, pulled up; one that wakes the processor when it is high.
pub(super) const PULL_UP: u32 = 3 << 2;
const SENSE_HIGH: u32 = 2 << 16;

fn port(pin: u32) -> &'static p0::RegisterBlock {
    // SAFETY: registers at their addresses; each pin has one user.
    unsafe { if pin < 32 { &*P0::ptr() } else { &*P1::ptr() } }
}

fn bit(pin: u32) -> u32 {
    1 << (pin % 32)
}

/// Makes a pin an output.
pub(super) fn output(pin: u32, high: bool) {
    set(pin, high);
    // SAFETY: a pin of the caller's.
    unsafe { port(pin).dirset.write(|w| w.bits(bit(pin))) }
}

/// Makes a pin an input.
pub(super) fn input(pin: u32, configuration: u32) {
    // SAFETY: a pin of the caller's.
    unsafe { port(pin).pin_cnf[(pin % 32) as usize].write(|w| w.bits(configuration)) }
}

/// Sets an output.
pub(super) fn set(pin: u32, high: bool) {
    // SAFETY: a pin of the caller's.
    unsafe {
        match high {
            true => port(pin).outset.write(|w| w.bits(bit(pin))),
            false => port(pin).outclr.write(|w| w.bits(bit(pin))),
        }
    }
}

/// An output.
#[derive(Debug)]
pub struct Output(u32);

impl Output {
    /// A pin that nothing else uses.
    pub fn new(pin: u32, high: bool) -> Self {
        output(pin, high);
        Self(pin)
    }
}

impl ErrorType for Output {
    type Error = Infallible;
}

impl OutputPin for Output {
    fn set_low(&mut self) -> Result<(), Infallible> {
        set(self.0, false);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        set(self.0, true);
        Ok(())
    }
}

/// An input.
#[derive(Debug)]
pub struct Input(u32);

impl Input {
    /// A pin that nothing else uses.
    pub fn new(pin: u32) -> Self {
        input(pin, 0);
        Self(pin)
    }

    /// One that wakes the processor when it goes high.
    pub fn waking(pin: u32) -> Self {
        input(pin, SENSE_HIGH);
        Self(pin)
    }
}

impl ErrorType for Input {
    type Error = Infallible;
}

impl InputPin for Input {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(port(self.0).in_.read().bits() & bit(self.0) != 0)
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        self.is_high().map(|high| !high)
    }
}
