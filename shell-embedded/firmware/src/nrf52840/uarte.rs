//! Serial lines (6.34).

use super::pins;
use core::convert::Infallible;
use core::sync::atomic::{AtomicBool, Ordering, compiler_fence};
use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};
use nrf52840_pac::{PPI, TIMER1, TIMER2, UARTE0, UARTE1, timer0, uarte0};

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
pub(super) static OUT_DONE: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

/// Bits of events in INTENSET.
const RXDRDY: u32 = 1 << 2;
const ENDTX: u32 = 1 << 8;

pub(super) fn uartes() -> [&'static uarte0::RegisterBlock; 2] {
    // SAFETY: registers at their addresses; only this file and the sleeper use them.
    unsafe { [&*UARTE0::ptr(), &*UARTE1::ptr()] }
}

fn set_up(uarte: &uarte0::RegisterBlock, baud: u32, out: u32, into: u32) {
    let rate = ((u64::from(baud.clamp(1_200, 1_000_000)) << 32) / 16_000_000) as u32;
    // SAFETY: bits are those of the specification.
    unsafe {
        uarte.psel.txd.write(|w| w.bits(out));
        uarte.psel.rxd.write(|w| w.bits(into));
        uarte.baudrate.write(|w| w.bits(rate.wrapping_add(0x800) & 0xffff_f000));
        uarte.enable.write(|w| w.bits(8));
    }
}

impl Uarte {
    /// The line of the UARTE with number `at`, 0 or 1, on pins `out` and `into`. Call it once for
    /// each.
    pub fn open(at: usize, baud: u32, [out, into]: [u32; 2], dma: &'static mut Dma) -> Self {
        // Idle lines are high; inputs are pulled up, so that an open one is idle.
        pins::output(out, true);
        pins::input(into, pins::PULL_UP);
        // SAFETY: registers at their addresses, which only this line uses; bits are those of the
        // specification.
        let (ppi, timers) = unsafe { (&*PPI::ptr(), [&*TIMER1::ptr(), &*TIMER2::ptr()]) };
        let (uarte, counter) = (uartes()[at], timers[at]);
        set_up(uarte, baud, out, into);
        // SAFETY: as above.
        unsafe {
            // ENDRX starts the next half by itself.
            uarte.shorts.write(|w| w.bits(1 << 5));
            uarte.intenset.write(|w| w.bits(RXDRDY | ENDTX));
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

impl ErrorType for Uarte {
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

/// The second UARTE as a console that only writes, on boards whose debugger is not at hand. It waits
/// until each byte is out: 87 us at 115,200 bits per second.
#[derive(Debug)]
pub struct Console(());

impl Console {
    const AT: usize = 1;
    const BAUD: u32 = 115_200;

    /// On this pin. Call it once, and open no line on it.
    pub fn open(out: u32) -> Self {
        const NOT_CONNECTED: u32 = u32::MAX;
        pins::output(out, true);
        set_up(uartes()[Self::AT], Self::BAUD, out, NOT_CONNECTED);
        Self(())
    }

    /// The console that was opened, when whoever had it runs no more.
    pub fn conjure() -> Self {
        Self(())
    }
}

impl core::fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let uarte = uartes()[Self::AT];
        // The DMA reads memory only, and text may be in flash.
        let mut room = [0u8; 32];
        for chunk in text.as_bytes().chunks(room.len()) {
            room[..chunk.len()].copy_from_slice(chunk);
            uarte.events_endtx.reset();
            compiler_fence(Ordering::SeqCst);
            // SAFETY: the bytes stay where they are until they are out.
            unsafe {
                uarte.txd.ptr.write(|w| w.bits(room.as_ptr() as u32));
                uarte.txd.maxcnt.write(|w| w.bits(chunk.len() as u32));
                uarte.tasks_starttx.write(|w| w.bits(1));
            }
            while uarte.events_endtx.read().bits() == 0 {}
            compiler_fence(Ordering::SeqCst);
        }
        Ok(())
    }
}
