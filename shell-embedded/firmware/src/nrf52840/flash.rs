//! The flash beside the image.

use blvm_mesh_core::board::MAX_LEN;
use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};
use nrf52840_pac::NVMC;

/// The configuration at an address of the flash.
///
/// # Safety
/// The image ends before it, and nothing writes there.
pub unsafe fn configuration(address: u32) -> &'static [u8] {
    // SAFETY: the caller says so.
    unsafe { core::slice::from_raw_parts(address as *const u8, MAX_LEN) }
}

/// Eight pages for payments and accounts (4.3, NVMC).
#[derive(Debug)]
pub struct Flash {
    base: u32,
}

impl Flash {
    /// Bytes for a store.
    pub const SIZE: u32 = 8 * 4096;

    /// The pages from an address on. Call it once.
    ///
    /// # Safety
    /// The image ends before them, and nothing else writes there.
    pub unsafe fn take(base: u32) -> Self {
        Self { base }
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
        let from = (self.base + offset) as *const u8;
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
                nvmc.erasepage().write(|w| w.bits(self.base + page));
            });
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        let (words, _) = bytes.as_chunks::<4>();
        for (at, word) in (self.base + offset..).step_by(4).zip(words) {
            // SAFETY: a word of ours.
            Self::with(1, |_| unsafe {
                (at as *mut u32).write_volatile(u32::from_le_bytes(*word))
            });
        }
        Ok(())
    }
}
