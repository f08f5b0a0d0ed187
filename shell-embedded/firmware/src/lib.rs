//! What the images share: the memory that secp256k1 takes once, the stack's measure, and
//! a file for each board.
#![no_std]

pub mod chip;
pub mod mps2;
pub mod nrf52840;
pub mod semihosting;

use embedded_alloc::LlffHeap;

unsafe extern "C" {
    fn DefaultHandler();
}

/// Interrupts of the boards' chips; none is served, as they only wake the processor.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
static __INTERRUPTS: [unsafe extern "C" fn(); 48] = [DefaultHandler; 48];

#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();

/// Bytes of heap: the context of secp256k1, made at the start and never freed.
pub const HEAP_SIZE: usize = 512;

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

/// Has exceptions come to this image's handlers, where a bootloader started it.
pub fn own_vectors() {
    unsafe extern "C" {
        static __vector_table: u32;
    }
    // SAFETY: the table is where the linker put it, and nothing else uses the register.
    unsafe { (*cortex_m::peripheral::SCB::PTR).vtor.write((&raw const __vector_table) as u32) }
}

/// One block of SHA-256, for libsecp256k1 (`c/one_sha256.h`).
#[unsafe(no_mangle)]
extern "C" fn blvm_mesh_sha256_compress(state: &mut [u32; 8], block: &[u8; 64]) {
    sha2::block_api::compress256(state, core::slice::from_ref(block));
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

/// What a panic leaves to be looked up: code addresses among the words on top of the
/// stack, innermost first, for `addr2line` with the image. Places and messages in the image
/// itself would take 8 KiB of it.
pub fn panicked(out: &mut impl core::fmt::Write) {
    const WORDS: u32 = 64;
    const MOST: usize = 12;
    unsafe extern "C" {
        static _stack_start: u32;
        static __stext: u32;
        static __etext: u32;
    }
    let [top, text, end] = [&raw const _stack_start, &raw const __stext, &raw const __etext];
    let _ = out.write_str("panicked at");
    let from = cortex_m::register::msp::read();
    let words = (0..WORDS).map(|n| from + 4 * n).take_while(|at| *at < top as u32);
    // SAFETY: reads words of the stack.
    let words = words.map(|at| unsafe { (at as *const u32).read_volatile() });
    let code = words.filter(|word| word & 1 == 1 && (text as u32..end as u32).contains(word));
    for word in code.take(MOST) {
        let _ = write!(out, " {word:x}");
    }
    let _ = out.write_str("\r\n");
}
