//! The debugger of QEMU, for images that measure: it gives a command line, takes lines,
//! and ends with the machine.

use core::fmt;
use cortex_m_semihosting::hio;

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
    ($($arg:tt)*) => { $crate::semihosting::log(format_args!($($arg)*)) };
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

/// Ends the machine.
pub fn exit(success: bool) -> ! {
    use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
    debug::exit(if success { EXIT_SUCCESS } else { EXIT_FAILURE });
    loop {
        cortex_m::asm::bkpt();
    }
}
