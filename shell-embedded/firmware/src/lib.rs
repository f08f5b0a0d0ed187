//! What the images share: QEMU's `mps2-an386` (Arm MPS2, Cortex-M4F at 25 MHz), and
//! the memory that secp256k1 takes once.
#![no_std]

use blvm_mesh_core::time::Micros;
use blvm_mesh_embedded::Port;
use core::fmt;
use cortex_m_semihosting::hio;
use embedded_alloc::LlffHeap;
use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();

/// Bytes of heap: the context of secp256k1, made at the start and never freed.
pub const HEAP_SIZE: usize = 1024;

/// Prepares the heap. Call it once, first.
pub fn init_heap() {
    // SAFETY: called once, before anything allocates.
    unsafe {
        embedded_alloc::init!(HEAP, HEAP_SIZE);
    }
}

/// Bytes of heap in use.
pub fn heap_used() -> usize {
    HEAP.used()
}

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

impl Uart {
    /// The first three of the board's UARTs.
    const BASES: [usize; 3] = [0x4000_4000, 0x4000_5000, 0x4000_6000];

    /// All of them, enabled, at `baud`. Call it once.
    pub fn all(baud: u32) -> [Self; 3] {
        let divider = (CLOCK_HZ / baud.max(1)).max(16);
        Self::BASES.map(|base| {
            let mut uart = Self { base: base as *mut u32 };
            uart.write_register(BAUDDIV, divider);
            uart.write_register(CTRL, ALL_ON);
            uart
        })
    }

    /// Forgets that any of them had a byte or room.
    fn clear_interrupts() {
        for base in Self::BASES {
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

/// Memory that the image does not use and a reset leaves alone, in the place of a flash:
/// what the machine has at address 0 is written anew at each reset.
#[derive(Debug)]
pub struct ResetProof;

impl ResetProof {
    const BASE: u32 = 0x2030_0000;
    /// Bytes for a store.
    pub const SIZE: u32 = 7 * 4096;
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
pub struct Sleeper {
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
    /// Receivers and transmitters of the first three UARTs, and the second timer.
    const LINES: [Irq; 7] = [Irq(0), Irq(1), Irq(2), Irq(3), Irq(4), Irq(5), Irq(9)];

    /// Takes the second timer and the interrupts. Call it once.
    pub fn new() -> Self {
        cortex_m::interrupt::disable();
        for irq in Self::LINES {
            // SAFETY: no handler runs, so none is surprised.
            unsafe { cortex_m::peripheral::NVIC::unmask(irq) }
        }
        Self { timer: Self::TIMER as *mut u32 }
    }

    /// Forgets what woke it. What comes in from now on wakes it again.
    pub fn clear(&mut self) {
        Uart::clear_interrupts();
        // SAFETY: register INTCLEAR of a timer that only this uses.
        unsafe { self.timer.add(3).write_volatile(1) }
        Self::LINES.into_iter().for_each(cortex_m::peripheral::NVIC::unpend);
    }

    /// Waits until something happened since [`clear`](Self::clear), at most so long.
    pub fn wait(&mut self, time: Micros) {
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

impl Default for Sleeper {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes a line to the debugger's output.
pub fn log(args: fmt::Arguments<'_>) {
    use fmt::Write;
    if let Ok(mut out) = hio::hstdout() {
        let _ = out.write_fmt(args);
        let _ = out.write_str("\n");
    }
}

/// Writes a line to the debugger's output.
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => { $crate::log(format_args!($($arg)*)) };
}

/// The command line that the debugger gives, into `buf`; empty if there is none
/// (semihosting, `SYS_GET_CMDLINE`).
pub fn command_line(buf: &mut [u8]) -> &str {
    const SYS_GET_CMDLINE: usize = 0x15;
    let mut block = [buf.as_mut_ptr() as usize, buf.len()];
    // SAFETY: the block names a buffer that lives through the call.
    let failed =
        unsafe { cortex_m_semihosting::syscall1(SYS_GET_CMDLINE, block.as_mut_ptr() as usize) };
    let [_, len] = block;
    match failed {
        0 => buf.get(..len).and_then(|b| core::str::from_utf8(b).ok()).unwrap_or_default(),
        _ => "",
    }
}

/// The debugger's clock: seconds since 1970 (semihosting, `SYS_TIME`).
pub fn unix_time() -> u64 {
    const SYS_TIME: usize = 0x11;
    // SAFETY: takes no argument.
    let seconds = unsafe { cortex_m_semihosting::syscall1(SYS_TIME, 0) };
    seconds as u64
}

/// What unused stack is filled with.
const PAINT: u32 = 0xa5a5_a5a5;
/// Bytes below the stack pointer that painting leaves alone: its own frame.
const MARGIN: u32 = 256;

/// The lowest address of the stack.
fn stack_end() -> u32 {
    unsafe extern "C" {
        static __sheap: u32;
    }
    // Only its address is taken: the first word behind all static memory.
    (&raw const __sheap) as u32
}

/// Marks the stack that is not in use.
pub fn paint_stack() {
    let top = cortex_m::register::msp::read().saturating_sub(MARGIN);
    for at in (stack_end()..top).step_by(4) {
        // SAFETY: between static memory and the stack pointer nothing is kept.
        unsafe { (at as *mut u32).write_volatile(PAINT) }
    }
}

/// Most bytes of stack in use at any time since [`paint_stack`].
pub fn stack_used() -> u32 {
    unsafe extern "C" {
        static _stack_start: u32;
    }
    let top = (&raw const _stack_start) as u32;
    // SAFETY: reads words of the stack's memory.
    let untouched = |at: &u32| unsafe { (*at as *const u32).read_volatile() } == PAINT;
    let painted = (stack_end()..top).step_by(4).take_while(untouched).count();
    top.saturating_sub(stack_end()).saturating_sub(4 * painted as u32)
}

/// Ends the machine.
pub fn exit(success: bool) -> ! {
    use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
    debug::exit(if success { EXIT_SUCCESS } else { EXIT_FAILURE });
    loop {
        cortex_m::asm::bkpt();
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // Without the message, whose formatting takes 3 KiB.
    match info.location() {
        Some(place) => log!("panicked at {}:{}", place.file(), place.line()),
        None => log!("panicked"),
    }
    exit(false)
}
