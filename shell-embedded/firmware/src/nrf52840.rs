//! Nordic's nRF52840 (Cortex-M4F at 64 MHz, 1 MiB of flash, 256 KiB of memory), with the
//! pins of its development kit: line 0 on P0.06 (out) and P0.08 (in), line 1 on P1.02 and
//! P1.01, a light on P0.13. Sections are those of the product specification 1.1.

use crate::chip::Chip;
use blvm_mesh_core::board::MAX_LEN;
use blvm_mesh_core::time::Micros;
use core::convert::Infallible;
use core::sync::atomic::{AtomicBool, Ordering, compiler_fence};
use cortex_m::peripheral::NVIC;
use embedded_io::{ErrorType as SerialErrorType, Read, ReadReady, Write, WriteReady};
use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};
use nrf52840_pac::{
    CLOCK, Interrupt, NVMC, P0, P1, PPI, RNG, TIMER0, TIMER1, TIMER2, UARTE0, UARTE1, WDT, timer0,
    uarte0,
};

/// Bytes that come in before the processor must look: 178 ms at 115,200 bits per second,
/// more than a verification or the erasure of a page takes.
const HALF: usize = 2048;
const RING: usize = 2 * HALF;
/// Bytes that go out at once.
const OUT: usize = 256;

/// What a line's DMA reads and writes.
pub struct Dma {
    ring: [u8; RING],
    out: [u8; OUT],
}

impl Dma {
    /// Nothing yet.
    pub const EMPTY: Self = Self { ring: [0; RING], out: [0; OUT] };
}

/// A UARTE (6.34) whose DMA writes what comes in to a ring, half by half. A timer (6.30)
/// counts the bytes, as the UARTE tells them only when a half is full.
pub struct Uarte {
    uarte: &'static uarte0::RegisterBlock,
    counter: &'static timer0::RegisterBlock,
    at: usize,
    dma: *mut Dma,
    /// The half that comes after the one that is being filled.
    next_half: usize,
    /// The counter when it was last looked at, and the bytes that were read.
    seen: u32,
    read: u32,
    sending: bool,
}

/// Whether a line's last bytes are out; the sleeper clears the event that tells.
static OUT_DONE: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

/// Bits of events in INTENSET.
const RXDRDY: u32 = 1 << 2;
const ENDTX: u32 = 1 << 8;

fn uartes() -> [&'static uarte0::RegisterBlock; 2] {
    // SAFETY: registers at their addresses; only this file uses them.
    unsafe { [&*UARTE0::ptr(), &*UARTE1::ptr()] }
}

impl Uarte {
    /// Both lines, at `baud`. Call it once.
    pub fn lines(baud: u32, dma: &'static mut [Dma; 2]) -> [Self; 2] {
        // SAFETY: as above; bits are those of the specification.
        let (p0, p1, ppi, timers) = unsafe {
            let timers = [&*TIMER1::ptr(), &*TIMER2::ptr()];
            (&*P0::ptr(), &*P1::ptr(), &*PPI::ptr(), timers)
        };
        // Idle lines are high; inputs are pulled up, so that an open one is idle.
        const PULL_UP: u32 = 3 << 2;
        unsafe {
            p0.outset.write(|w| w.bits(1 << 6));
            p0.dirset.write(|w| w.bits(1 << 6));
            p0.pin_cnf[8].write(|w| w.bits(PULL_UP));
            p1.outset.write(|w| w.bits(1 << 2));
            p1.dirset.write(|w| w.bits(1 << 2));
            p1.pin_cnf[1].write(|w| w.bits(PULL_UP));
        }
        /// Pin, and port in bit 5.
        const PINS: [(u32, u32); 2] = [(6, 8), (32 + 2, 32 + 1)];
        let rate = ((u64::from(baud.clamp(1_200, 1_000_000)) << 32) / 16_000_000) as u32;
        let [dma0, dma1] = dma;
        let of = |at: usize, dma: &'static mut Dma| {
            let (uarte, counter, (out, into)) = (uartes()[at], timers[at], PINS[at]);
            // SAFETY: as above.
            unsafe {
                uarte.psel.txd.write(|w| w.bits(out));
                uarte.psel.rxd.write(|w| w.bits(into));
                uarte.baudrate.write(|w| w.bits(rate.wrapping_add(0x800) & 0xffff_f000));
                // ENDRX starts the next half by itself.
                uarte.shorts.write(|w| w.bits(1 << 5));
                uarte.intenset.write(|w| w.bits(RXDRDY | ENDTX));
                uarte.enable.write(|w| w.bits(8));
                // A counter of 32 bits.
                counter.mode.write(|w| w.bits(1));
                counter.bitmode.write(|w| w.bits(3));
                ppi.ch[at].eep.write(|w| w.bits((&raw const uarte.events_rxdrdy) as u32));
                ppi.ch[at].tep.write(|w| w.bits((&raw const counter.tasks_count) as u32));
                ppi.chenset.write(|w| w.bits(1 << at));
            }
            let mut line =
                Self { uarte, counter, at, dma, next_half: 0, seen: 0, read: 0, sending: false };
            line.listen();
            line
        };
        [of(0, dma0), of(1, dma1)]
    }

    fn point_to(&mut self, half: usize) {
        // SAFETY: the ring is the DMA's for ever.
        unsafe {
            let at = (&raw mut (*self.dma).ring).cast::<u8>().add(half * HALF);
            self.uarte.rxd.ptr.write(|w| w.bits(at as u32));
            self.uarte.rxd.maxcnt.write(|w| w.bits(HALF as u32));
        }
    }

    /// Begins to listen, at the beginning of the ring.
    fn listen(&mut self) {
        self.uarte.events_rxto.reset();
        // SAFETY: tasks.
        unsafe {
            self.uarte.tasks_stoprx.write(|w| w.bits(1));
            // It tells when it has stopped; one that was not started does not.
            for _ in 0..100_000 {
                if self.uarte.events_rxto.read().bits() != 0 {
                    break;
                }
            }
            self.counter.tasks_clear.write(|w| w.bits(1));
            self.counter.tasks_start.write(|w| w.bits(1));
            (self.seen, self.read) = (0, 0);
            self.point_to(0);
            self.next_half = 1;
            self.uarte.events_rxstarted.reset();
            self.uarte.tasks_startrx.write(|w| w.bits(1));
        }
    }

    /// Bytes that can be read. Gives the DMA its next half in time; if that was missed, or
    /// bytes were written over, everything is dropped: a link bears that.
    fn available(&mut self) -> u32 {
        if self.uarte.events_rxstarted.read().bits() != 0 {
            self.uarte.events_rxstarted.reset();
            self.point_to(self.next_half);
            self.next_half = 1 - self.next_half;
        }
        // SAFETY: a task.
        unsafe { self.counter.tasks_capture[0].write(|w| w.bits(1)) }
        let count = self.counter.cc[0].read().bits();
        // A byte is counted some cycles before it is in memory.
        cortex_m::asm::delay(64);
        let new = count.wrapping_sub(self.seen);
        self.seen = count;
        let unread = count.wrapping_sub(self.read);
        if new as usize >= HALF || unread as usize > RING - 64 {
            self.listen();
            return 0;
        }
        unread
    }
}

impl SerialErrorType for Uarte {
    type Error = Infallible;
}

impl ReadReady for Uarte {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(self.available() > 0)
    }
}

impl Read for Uarte {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
        let mut unread = self.available();
        while unread == 0 && !buf.is_empty() {
            unread = self.available();
        }
        let mut n = 0;
        for byte in buf.iter_mut().take(unread as usize) {
            let at = self.read as usize % RING;
            // SAFETY: within the ring, and the DMA writes elsewhere in it.
            *byte = unsafe { (&raw const (*self.dma).ring).cast::<u8>().add(at).read_volatile() };
            self.read = self.read.wrapping_add(1);
            n += 1;
        }
        Ok(n)
    }
}

impl WriteReady for Uarte {
    fn write_ready(&mut self) -> Result<bool, Infallible> {
        let done = OUT_DONE[self.at].swap(false, Ordering::Relaxed);
        if done || self.uarte.events_endtx.read().bits() != 0 {
            self.uarte.events_endtx.reset();
            self.sending = false;
        }
        Ok(!self.sending)
    }
}

impl Write for Uarte {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.flush()?;
        let n = bytes.len().min(OUT);
        if n == 0 {
            return Ok(0);
        }
        // SAFETY: nothing is being sent, so the buffer is ours; then it is the DMA's.
        unsafe {
            let out = (&raw mut (*self.dma).out).cast::<u8>();
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), out, n);
            compiler_fence(Ordering::SeqCst);
            self.uarte.txd.ptr.write(|w| w.bits(out as u32));
            self.uarte.txd.maxcnt.write(|w| w.bits(n as u32));
            self.uarte.tasks_starttx.write(|w| w.bits(1));
        }
        self.sending = true;
        Ok(n)
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        while !self.write_ready()? {}
        Ok(())
    }
}

/// The configuration: the last page of the flash.
pub fn configuration() -> &'static [u8] {
    const CONFIGURATION: usize = 0x000f_f000;
    // SAFETY: the image ends before it, and nothing writes there.
    unsafe { core::slice::from_raw_parts(CONFIGURATION as *const u8, MAX_LEN) }
}

/// The eight pages before it, for payments and accounts (4.3, NVMC).
#[derive(Debug)]
pub struct Flash(());

impl Flash {
    const BASE: u32 = 0x000f_7000;
    /// Bytes for a store.
    pub const SIZE: u32 = 8 * 4096;

    /// The pages. Call it once.
    pub fn take() -> Self {
        Self(())
    }

    /// Does something with the flash made ready for it, and waits until it is done.
    fn with(mode: u32, work: impl FnOnce(&nrf52840_pac::nvmc::RegisterBlock)) {
        // SAFETY: only this uses the controller.
        unsafe {
            let nvmc = &*NVMC::ptr();
            let wait = || while nvmc.ready.read().bits() & 1 == 0 {};
            nvmc.config.write(|w| w.bits(mode));
            wait();
            work(nvmc);
            wait();
            nvmc.config.write(|w| w.bits(0));
            wait();
        }
    }
}

impl ErrorType for Flash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        let from = (Self::BASE + offset) as *const u8;
        // SAFETY: the range was checked.
        bytes.copy_from_slice(unsafe { core::slice::from_raw_parts(from, bytes.len()) });
        Ok(())
    }

    fn capacity(&self) -> usize {
        Self::SIZE as usize
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        for page in (from..to).step_by(Self::ERASE_SIZE) {
            // SAFETY: a page of ours.
            Self::with(2, |nvmc| unsafe {
                nvmc.erasepage().write(|w| w.bits(Self::BASE + page));
            });
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        let (words, _) = bytes.as_chunks::<4>();
        for (at, word) in (Self::BASE + offset..).step_by(4).zip(words) {
            // SAFETY: a word of ours.
            Self::with(1, |_| unsafe {
                (at as *mut u32).write_volatile(u32::from_le_bytes(*word))
            });
        }
        Ok(())
    }
}

/// The chip beside its lines and its flash.
#[derive(Debug)]
pub struct Nrf52840 {
    last: u32,
    wraps: u64,
}

/// Bit of COMPARE1 in a timer's INTENSET.
const COMPARE1: u32 = 1 << 17;
/// What feeds the watchdog (6.36.4.8).
const FEED: u32 = 0x6e52_4635;
/// The light, which is on when low.
const LIGHT: u32 = 1 << 13;

impl Nrf52840 {
    fn timer() -> &'static timer0::RegisterBlock {
        // SAFETY: only this uses the timer.
        unsafe { &*TIMER0::ptr() }
    }

    /// Starts the crystal, the clock, and the watchdog. Call it once.
    pub fn start() -> Self {
        cortex_m::interrupt::disable();
        // SAFETY: bits are those of the specification; no handler runs, so that none is
        // surprised by an interrupt, which only wakes the processor.
        unsafe {
            let clock = &*CLOCK::ptr();
            clock.tasks_hfclkstart.write(|w| w.bits(1));
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
            (&*P0::ptr()).outset.write(|w| w.bits(LIGHT));
            (&*P0::ptr()).dirset.write(|w| w.bits(LIGHT));
            NVIC::unmask(Interrupt::UARTE0_UART0);
            NVIC::unmask(Interrupt::UARTE1);
            NVIC::unmask(Interrupt::TIMER0);
        }
        Self { last: 0, wraps: 0 }
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
        [Interrupt::UARTE0_UART0, Interrupt::UARTE1, Interrupt::TIMER0]
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
        // SAFETY: a pin of ours.
        unsafe {
            match on {
                true => (&*P0::ptr()).outclr.write(|w| w.bits(LIGHT)),
                false => (&*P0::ptr()).outset.write(|w| w.bits(LIGHT)),
            }
        }
    }
}
