//! QEMU's `mps2-an386`: Arm MPS2 with a Cortex-M4F at 25 MHz.

use crate::chip::Chip;
use blvm_mesh_core::board::MAX_LEN;
use blvm_mesh_core::time::Micros;
use blvm_mesh_embedded::Port;
use core::fmt;
use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

/// A CMSDK APB UART (Arm DDI 0479, section 4.3), polled.
#[derive(Debug)]
pub struct Uart {
    base: *mut u32,
}

/// Offsets of registers, in words.
const DATA: usize = 0;
const STATE: usize = 1;
const CTRL: usize = 2;
const INTCLEAR: usize = 3;
const BAUDDIV: usize = 4;

const TX_FULL: u32 = 1;
const RX_FULL: u32 = 1 << 1;
/// Both directions are on, and either interrupts when it can go on.
const ALL_ON: u32 = 0b1111;
const TX_AND_RX: u32 = 0b11;
/// Only the transmitter is on.
const TX_ON: u32 = 1;

impl Uart {
    /// The first two of the board's UARTs, which are lines, and the console.
    const LINES: [usize; 2] = [0x4000_4000, 0x4000_5000];
    const CONSOLE: usize = 0x4000_6000;

    /// The lines, enabled, at `baud`. Call it once.
    pub fn lines(baud: u32) -> [Self; 2] {
        Self::LINES.map(|base| Self::start(base, baud, ALL_ON))
    }

    fn start(base: usize, baud: u32, control: u32) -> Self {
        let mut uart = Self { base: base as *mut u32 };
        uart.write_register(BAUDDIV, (CLOCK_HZ / baud.max(1)).max(16));
        uart.write_register(CTRL, control);
        uart
    }

    /// Forgets that any of them had a byte or room.
    fn clear_interrupts() {
        for base in Self::LINES {
            Self { base: base as *mut u32 }.write_register(INTCLEAR, TX_AND_RX);
        }
    }

    fn register(&self, at: usize) -> u32 {
        // SAFETY: `base` is a UART's and `at` one of its registers.
        unsafe { self.base.add(at).read_volatile() }
    }

    fn write_register(&mut self, at: usize, value: u32) {
        // SAFETY: as above; `&mut` keeps others out.
        unsafe { self.base.add(at).write_volatile(value) }
    }
}

impl Port for Uart {
    fn read(&mut self, buf: &mut [u8]) -> usize {
        let mut n = 0;
        for byte in buf {
            if self.register(STATE) & RX_FULL == 0 {
                break;
            }
            *byte = self.register(DATA) as u8;
            n += 1;
        }
        n
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut n = 0;
        for byte in bytes {
            if self.register(STATE) & TX_FULL != 0 {
                break;
            }
            self.write_register(DATA, (*byte).into());
            n += 1;
        }
        n
    }
}

/// The third UART: text goes out. It waits for room, but not for ever.
#[derive(Debug)]
pub struct Console(Uart);

/// Bits per second of the console.
const CONSOLE_BAUD: u32 = 115_200;
/// Looks at a full transmitter before a byte is given up: some tenths of a second.
const PATIENCE: u32 = 1_000_000;

impl Console {
    /// The console, enabled. There may be several of it.
    pub fn open() -> Self {
        Self(Uart::start(Uart::CONSOLE, CONSOLE_BAUD, TX_ON))
    }
}

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if !(0..PATIENCE).any(|_| self.0.write(&[byte]) == 1) {
                return Err(fmt::Error);
            }
        }
        Ok(())
    }
}

/// Frequency of the board's clock.
pub const CLOCK_HZ: u32 = 25_000_000;

/// Monotonic time from a CMSDK timer (Arm DDI 0479, section 4.4). It counts 32 bits
/// down, which take 171 s: read it more often.
#[derive(Debug)]
pub struct Clock {
    base: *mut u32,
    last: u32,
    ticks: u64,
}

impl Clock {
    const BASE: usize = 0x4000_0000;

    /// The board's first timer, started. Call it once.
    pub fn start() -> Self {
        let base = Self::BASE as *mut u32;
        // SAFETY: registers CTRL, VALUE and RELOAD of a timer that only this uses.
        unsafe {
            base.add(2).write_volatile(u32::MAX);
            base.add(1).write_volatile(u32::MAX);
            base.write_volatile(1);
        }
        Self { base, last: u32::MAX, ticks: 0 }
    }

    /// Ticks of the clock since the start.
    pub fn ticks(&mut self) -> u64 {
        // SAFETY: register VALUE.
        let value = unsafe { self.base.add(1).read_volatile() };
        self.ticks += u64::from(self.last.wrapping_sub(value));
        self.last = value;
        self.ticks
    }

    /// Microseconds since the start.
    pub fn now(&mut self) -> Micros {
        self.ticks() / u64::from(CLOCK_HZ / 1_000_000)
    }
}

/// The last 4 KiB of the code memory, in the place of a board's flash: the configuration.
/// QEMU's loader puts it there, at each reset anew.
pub fn configuration() -> &'static [u8] {
    const CONFIGURATION: usize = 0x003f_f000;
    // SAFETY: the image ends before it, and nothing writes there.
    unsafe { core::slice::from_raw_parts(CONFIGURATION as *const u8, MAX_LEN) }
}

/// The board's PSRAM, in the place of a flash for payments: the image does not use it
/// otherwise, a reset leaves it alone, and QEMU can keep it in a file.
#[derive(Debug)]
pub struct ResetProof;

impl ResetProof {
    const BASE: u32 = 0x2100_1000;
    /// Bytes for a store.
    pub const SIZE: u32 = 8 * 4096;
    /// In front of them: a mark, and how often the machine was started.
    const MARK: u32 = Self::BASE - 8;
    const STARTS: u32 = Self::BASE - 4;

    /// The memory, erased at the first start, and the number of this start. Call it once.
    pub fn take() -> (Self, u32) {
        const MARKED: u32 = 0x424c_564d;
        let (mark, starts) = (Self::MARK as *mut u32, Self::STARTS as *mut u32);
        // SAFETY: nothing else is at these addresses.
        unsafe {
            if mark.read_volatile() != MARKED {
                Self::bytes(0, Self::SIZE as usize).fill(0xff);
                starts.write_volatile(0);
                mark.write_volatile(MARKED);
            }
            let start = starts.read_volatile().wrapping_add(1);
            starts.write_volatile(start);
            (Self, start)
        }
    }

    fn bytes(offset: u32, len: usize) -> &'static mut [u8] {
        // SAFETY: as above; one slice lives at a time, within the call that asked for it.
        unsafe { core::slice::from_raw_parts_mut((Self::BASE + offset) as *mut u8, len) }
    }
}

impl ErrorType for ResetProof {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for ResetProof {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        bytes.copy_from_slice(Self::bytes(offset, bytes.len()));
        Ok(())
    }

    fn capacity(&self) -> usize {
        Self::SIZE as usize
    }
}

impl NorFlash for ResetProof {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        Self::bytes(from, to.saturating_sub(from) as usize).fill(0xff);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        Self::bytes(offset, bytes.len()).iter_mut().zip(bytes).for_each(|(to, from)| *to &= from);
        Ok(())
    }
}

/// Waits for the UARTs and for a second timer. Interrupts only wake the processor: none
/// is served, so that there is nothing to share with a handler.
#[derive(Debug)]
struct Sleeper {
    timer: *mut u32,
}

/// An interrupt's number.
#[derive(Clone, Copy)]
struct Irq(u16);

// SAFETY: the number is that of the interrupt controller's line.
unsafe impl cortex_m::interrupt::InterruptNumber for Irq {
    fn number(self) -> u16 {
        self.0
    }
}

impl Sleeper {
    const TIMER: usize = 0x4000_1000;
    /// Receivers and transmitters of the lines, and the second timer.
    const LINES: [Irq; 5] = [Irq(0), Irq(1), Irq(2), Irq(3), Irq(9)];

    /// Takes the second timer and the interrupts. Call it once.
    fn new() -> Self {
        cortex_m::interrupt::disable();
        for irq in Self::LINES {
            // SAFETY: no handler runs, so none is surprised.
            unsafe { cortex_m::peripheral::NVIC::unmask(irq) }
        }
        Self { timer: Self::TIMER as *mut u32 }
    }

    /// Forgets what woke it. What comes in from now on wakes it again.
    fn clear(&mut self) {
        Uart::clear_interrupts();
        // SAFETY: register INTCLEAR of a timer that only this uses.
        unsafe { self.timer.add(3).write_volatile(1) }
        Self::LINES.into_iter().for_each(cortex_m::peripheral::NVIC::unpend);
    }

    /// Waits until something happened since [`clear`](Self::clear), at most so long.
    fn wait(&mut self, time: Micros) {
        let ticks = time.saturating_mul(u64::from(CLOCK_HZ / 1_000_000));
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX).max(1);
        // SAFETY: registers CTRL and VALUE of a timer that only this uses.
        unsafe {
            self.timer.add(1).write_volatile(ticks);
            self.timer.write_volatile(0b1001);
            cortex_m::asm::wfi();
            self.timer.write_volatile(0);
        }
    }
}

/// The CMSDK watchdog (Arm DDI 0479, section 4.6): if it is not fed for two of its periods
/// it resets the machine.
#[derive(Debug)]
struct Watchdog {
    base: *mut u32,
}

impl Watchdog {
    const BASE: usize = 0x4000_8000;
    const PERIOD: Micros = 10_000_000;

    fn start() -> Self {
        let base = Self::BASE as *mut u32;
        let ticks = Self::PERIOD as u32 * (CLOCK_HZ / 1_000_000);
        // SAFETY: registers LOAD and CONTROL of a watchdog that only this uses.
        unsafe {
            base.write_volatile(ticks);
            base.add(2).write_volatile(0b11);
        }
        Self { base }
    }

    fn feed(&mut self) {
        // SAFETY: register INTCLR, which loads the counter anew.
        unsafe { self.base.add(3).write_volatile(1) }
    }
}

/// The chip beside its lines and its flash.
#[derive(Debug)]
pub struct Mps2 {
    clock: Clock,
    sleeper: Sleeper,
    watchdog: Watchdog,
}

impl Mps2 {
    /// Starts the clock and the watchdog. Call it once.
    pub fn start() -> Self {
        Self { clock: Clock::start(), sleeper: Sleeper::new(), watchdog: Watchdog::start() }
    }
}

impl Chip for Mps2 {
    const WATCHDOG: Micros = Watchdog::PERIOD;

    fn now(&mut self) -> Micros {
        self.clock.now()
    }

    fn alive(&mut self) {
        self.sleeper.clear();
        self.watchdog.feed();
    }

    fn wait(&mut self, time: Micros) {
        self.sleeper.wait(time);
    }

    fn light(&mut self, _: bool) {}
}
