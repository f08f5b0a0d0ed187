//! Nordic's nRF52840 (Cortex-M4F at 64 MHz, 1 MiB of flash, 256 KiB of memory). Sections are those
//! of the product specification 1.1. What pins and addresses a board has its image says.

mod flash;
mod pins;
mod spim;
mod uarte;

pub use flash::{Flash, configuration};
pub use pins::{Input, Output};
pub use spim::{Cycles, Spim};
pub use uarte::{Console, Dma, Uarte};

use crate::chip::Chip;
use blvm_mesh_core::time::Micros;
use core::sync::atomic::Ordering;
use cortex_m::peripheral::NVIC;
use nrf52840_pac::{CLOCK, GPIOTE, Interrupt, POWER, RNG, TIMER0, WDT, timer0};
use uarte::{OUT_DONE, uartes};

/// The chip beside its lines and its flash.
#[derive(Debug)]
pub struct Nrf52840 {
    light: Light,
    last: u32,
    wraps: u64,
}

/// A light at a pin.
#[derive(Debug, Clone, Copy)]
pub struct Light {
    /// Its pin.
    pub pin: u32,
    /// Whether it is on when that is high.
    pub is_on_high: bool,
}

/// Bit of COMPARE1 in a timer's INTENSET.
const COMPARE1: u32 = 1 << 17;
/// Bit of the event of sensed pins in GPIOTE's INTENSET.
const PORT: u32 = 1 << 31;
/// What feeds the watchdog (6.36.4.8).
const FEED: u32 = 0x6e52_4635;

impl Nrf52840 {
    fn timer() -> &'static timer0::RegisterBlock {
        // SAFETY: only this uses the timer.
        unsafe { &*TIMER0::ptr() }
    }

    /// Starts the crystal, the clock, and the watchdog. Call it once.
    pub fn start(light: Light) -> Self {
        cortex_m::interrupt::disable();
        // SAFETY: bits are those of the specification; no handler runs, so that none is
        // surprised by an interrupt, which only wakes the processor.
        unsafe {
            let clock = &*CLOCK::ptr();
            clock.tasks_hfclkstart.write(|w| w.bits(1));
            // A bootloader reads why the chip was reset (5.3.7.11), and reasons add up.
            (&*POWER::ptr()).resetreas.write(|w| w.bits(u32::MAX));
            for _ in 0..1_000_000 {
                if clock.events_hfclkstarted.read().bits() != 0 {
                    break;
                }
            }
            let timer = Self::timer();
            timer.bitmode.write(|w| w.bits(3));
            timer.prescaler.write(|w| w.bits(4));
            timer.intenset.write(|w| w.bits(COMPARE1));
            timer.tasks_start.write(|w| w.bits(1));
            let wdt = &*WDT::ptr();
            let ticks = Self::WATCHDOG * 32_768 / 1_000_000;
            wdt.crv.write(|w| w.bits(ticks as u32));
            wdt.rren.write(|w| w.bits(1));
            wdt.tasks_start.write(|w| w.bits(1));
            // A pin that is sensed, such as that of a radio (6.9).
            (&*GPIOTE::ptr()).intenset.write(|w| w.bits(PORT));
            NVIC::unmask(Interrupt::GPIOTE);
            NVIC::unmask(Interrupt::UARTE0_UART0);
            NVIC::unmask(Interrupt::UARTE1);
            NVIC::unmask(Interrupt::TIMER0);
        }
        pins::output(light.pin, !light.is_on_high);
        Self { light, last: 0, wraps: 0 }
    }
}

/// Random bytes of the hardware (6.19), with the correction of their bias.
pub fn random() -> [u8; 32] {
    // SAFETY: only this uses the generator.
    let rng = unsafe { &*RNG::ptr() };
    // SAFETY: bits are those of the specification.
    unsafe {
        rng.config.write(|w| w.bits(1));
        rng.tasks_start.write(|w| w.bits(1));
    }
    let bytes = [(); 32].map(|()| {
        rng.events_valrdy.reset();
        while rng.events_valrdy.read().bits() == 0 {}
        rng.value.read().bits() as u8
    });
    // SAFETY: a task.
    unsafe { rng.tasks_stop.write(|w| w.bits(1)) }
    bytes
}

impl Chip for Nrf52840 {
    const WATCHDOG: Micros = 10_000_000;

    fn now(&mut self) -> Micros {
        // SAFETY: a task.
        unsafe { Self::timer().tasks_capture[0].write(|w| w.bits(1)) }
        let now = Self::timer().cc[0].read().bits();
        // It is looked at more often than once in its 71 minutes.
        self.wraps += u64::from(now < self.last);
        self.last = now;
        (self.wraps << 32) | u64::from(now)
    }

    fn alive(&mut self) {
        // SAFETY: feeds the watchdog.
        unsafe { (&*WDT::ptr()).rr[0].write(|w| w.bits(FEED)) }
        for (uarte, done) in uartes().into_iter().zip(&OUT_DONE) {
            uarte.events_rxdrdy.reset();
            if uarte.events_endtx.read().bits() != 0 {
                uarte.events_endtx.reset();
                done.store(true, Ordering::Relaxed);
            }
        }
        Self::timer().events_compare[1].reset();
        // SAFETY: only this uses it.
        unsafe { (&*GPIOTE::ptr()).events_port.reset() }
        [Interrupt::UARTE0_UART0, Interrupt::UARTE1, Interrupt::TIMER0, Interrupt::GPIOTE]
            .into_iter()
            .for_each(NVIC::unpend);
    }

    fn wait(&mut self, time: Micros) {
        let ticks = u32::try_from(time).unwrap_or(u32::MAX).clamp(10, u32::MAX / 2);
        self.now();
        // SAFETY: a time in the future.
        unsafe { Self::timer().cc[1].write(|w| w.bits(self.last.wrapping_add(ticks))) }
        cortex_m::asm::dsb();
        cortex_m::asm::wfi();
    }

    fn light(&mut self, on: bool) {
        pins::set(self.light.pin, on == self.light.is_on_high);
    }
}
