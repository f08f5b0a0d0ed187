//! An SPI bus with one device (6.25), and delays.

use super::pins::{self, Output};
use core::convert::Infallible;
use core::sync::atomic::{Ordering, compiler_fence};
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::OutputPin;
use embedded_hal::spi::{ErrorType, Operation, SpiDevice};
use nrf52840_pac::{SPIM2, spim0};

/// Cycles of the processor in a microsecond.
const CYCLES: u32 = 64;
/// Bytes that go out at once.
const OUT: usize = 64;

/// SPIM2 with the one device on its bus: mode 0, most significant bit first, 8 Mbit/s.
#[derive(Debug)]
pub struct Spim {
    select: Output,
}

impl Spim {
    /// The bus on these pins, with the device that `select` selects when it is low. Call it once.
    pub fn open(select: u32, clock: u32, out: u32, into: u32) -> Self {
        let select = Output::new(select, true);
        pins::output(clock, false);
        pins::output(out, false);
        pins::input(into, 0);
        // SAFETY: bits are those of the specification.
        unsafe {
            let spim = Self::registers();
            spim.psel.sck.write(|w| w.bits(clock));
            spim.psel.mosi.write(|w| w.bits(out));
            spim.psel.miso.write(|w| w.bits(into));
            spim.frequency.write(|w| w.bits(0x8000_0000));
            spim.config.write(|w| w.bits(0));
            spim.orc.write(|w| w.bits(0));
            spim.enable.write(|w| w.bits(7));
        }
        Self { select }
    }

    fn registers() -> &'static spim0::RegisterBlock {
        // SAFETY: only this uses it.
        unsafe { &*SPIM2::ptr() }
    }

    /// Sends bytes of memory and receives others, and waits until that is done.
    fn exchange(&mut self, out: &[u8], into: &mut [u8]) {
        let spim = Self::registers();
        spim.events_end.reset();
        compiler_fence(Ordering::SeqCst);
        // SAFETY: both stay where they are until the DMA has ended.
        unsafe {
            spim.txd.ptr.write(|w| w.bits(out.as_ptr() as u32));
            spim.txd.maxcnt.write(|w| w.bits(out.len() as u32));
            spim.rxd.ptr.write(|w| w.bits(into.as_mut_ptr() as u32));
            spim.rxd.maxcnt.write(|w| w.bits(into.len() as u32));
            spim.tasks_start.write(|w| w.bits(1));
        }
        while spim.events_end.read().bits() == 0 {}
        compiler_fence(Ordering::SeqCst);
    }

    fn write(&mut self, bytes: &[u8]) {
        // The DMA reads memory only, and constants are in flash.
        let mut room = [0; OUT];
        for chunk in bytes.chunks(OUT) {
            let room = &mut room[..chunk.len()];
            room.copy_from_slice(chunk);
            self.exchange(room, &mut []);
        }
    }
}

impl ErrorType for Spim {
    type Error = Infallible;
}

impl SpiDevice for Spim {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Infallible> {
        self.select.set_low()?;
        for operation in operations {
            match operation {
                Operation::Write(bytes) => self.write(bytes),
                Operation::Read(bytes) if bytes.is_empty() => {}
                Operation::Read(bytes) => self.exchange(&[], bytes),
                Operation::Transfer(into, out) => {
                    // Not used by the drivers here, and right all the same: byte by byte.
                    for at in 0..into.len().max(out.len()) {
                        let (byte, mut answer) = ([out.get(at).copied().unwrap_or(0)], [0]);
                        self.exchange(&byte, &mut answer);
                        into.iter_mut().skip(at).take(1).for_each(|to| *to = answer[0]);
                    }
                }
                Operation::TransferInPlace(bytes) => {
                    for byte in bytes.iter_mut() {
                        let (out, mut answer) = ([*byte], [0]);
                        self.exchange(&out, &mut answer);
                        *byte = answer[0];
                    }
                }
                Operation::DelayNs(ns) => Cycles.delay_ns(*ns),
            }
        }
        self.select.set_high()
    }
}

/// Waits by counting cycles.
#[derive(Debug, Clone, Copy)]
pub struct Cycles;

impl DelayNs for Cycles {
    fn delay_ns(&mut self, ns: u32) {
        cortex_m::asm::delay(ns / 1_000 * CYCLES + CYCLES);
    }

    fn delay_us(&mut self, us: u32) {
        cortex_m::asm::delay(us.saturating_mul(CYCLES));
    }
}
