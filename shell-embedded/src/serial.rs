//! A port over any serial driver of the `embedded-io` traits.

use crate::Port;
use embedded_io::{Read, ReadReady, Write, WriteReady};

/// A serial driver as a [`Port`]. The driver must say whether it would wait. What it
/// reports as an error is lost bytes to a link, which bears that.
#[derive(Debug)]
pub struct Serial<T>(pub T);

impl<T: Read + ReadReady + Write + WriteReady> Port for Serial<T> {
    fn read(&mut self, buf: &mut [u8]) -> usize {
        match self.0.read_ready() {
            Ok(true) if !buf.is_empty() => self.0.read(buf).unwrap_or(0),
            _ => 0,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        match self.0.write_ready() {
            Ok(true) if !bytes.is_empty() => self.0.write(bytes).unwrap_or(0),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_io::{ErrorKind, ErrorType};

    /// A driver with one byte of room each way, which panics rather than wait.
    #[derive(Default)]
    struct Driver {
        input: Option<u8>,
        output: Option<u8>,
        broken: bool,
    }

    impl ErrorType for Driver {
        type Error = ErrorKind;
    }

    impl ReadReady for Driver {
        fn read_ready(&mut self) -> Result<bool, ErrorKind> {
            Ok(self.broken || self.input.is_some())
        }
    }

    impl Read for Driver {
        fn read(&mut self, buf: &mut [u8]) -> Result<usize, ErrorKind> {
            if core::mem::take(&mut self.broken) {
                return Err(ErrorKind::Other);
            }
            buf[0] = self.input.take().expect("it would wait");
            Ok(1)
        }
    }

    impl WriteReady for Driver {
        fn write_ready(&mut self) -> Result<bool, ErrorKind> {
            Ok(self.output.is_none())
        }
    }

    impl Write for Driver {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
            assert!(self.output.replace(bytes[0]).is_none(), "it would wait");
            Ok(1)
        }

        fn flush(&mut self) -> Result<(), ErrorKind> {
            Ok(())
        }
    }

    #[test]
    fn neither_call_waits() {
        let (mut port, mut buf) = (Serial(Driver::default()), [0; 4]);
        assert_eq!((port.read(&mut buf), port.write(&[7, 8]), port.write(&[8])), (0, 1, 0));
        port.0.input = Some(9);
        assert_eq!((port.read(&mut []), port.read(&mut buf), buf[0]), (0, 1, 9));
        port.0 = Driver { input: Some(1), broken: true, ..Driver::default() };
        assert_eq!((port.read(&mut buf), port.read(&mut buf)), (0, 1));
    }
}
