//! The bytes of a port: frames are found among those that come in, and made fit for the
//! line.

use crate::Port;
use blvm_mesh_core::link::datagram::serial::{self, Deframer};

/// Bytes read at once.
const CHUNK: usize = 32;

/// A port with the frame that comes in and the one that goes out.
pub(crate) struct Wire<P> {
    pub(crate) port: P,
    deframer: Deframer<&'static mut [u8]>,
    /// The frame that goes out, and how much of it is written.
    out: &'static mut [u8],
    len: usize,
    written: usize,
}

impl<P: Port> Wire<P> {
    pub(crate) fn new(port: P, received: &'static mut [u8], out: &'static mut [u8]) -> Self {
        Self { port, deframer: Deframer::new(received), out, len: 0, written: 0 }
    }

    /// Reads about a frame's bytes and gives each frame that is whole; whether there may
    /// be more to read.
    pub(crate) fn read(&mut self, mut each: impl FnMut(&mut [u8])) -> bool {
        let mut chunk = [0; CHUNK];
        for _ in 0..=self.out.len() / CHUNK {
            let n = self.port.read(&mut chunk);
            let Some(mut bytes) = chunk.get(..n).filter(|bytes| !bytes.is_empty()) else {
                return false;
            };
            while let Some(frame) = self.deframer.next(&mut bytes) {
                each(frame);
            }
        }
        true
    }

    /// Frames that were damaged on the line.
    pub(crate) fn damaged(&self) -> u64 {
        self.deframer.damaged()
    }

    /// Takes a frame to send; there must be none on its way.
    pub(crate) fn put(&mut self, frame: &[u8]) {
        (self.len, self.written) = (serial::encode(frame, self.out).unwrap_or(0), 0);
    }

    /// Writes what the port takes; whether nothing is left.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(left) = self.out.get(self.written..self.len).filter(|left| !left.is_empty())
        {
            match self.port.write(left).min(left.len()) {
                0 => return false,
                n => self.written += n,
            }
        }
        (self.len, self.written) = (0, 0);
        true
    }

    /// Whether a frame is on its way.
    pub(crate) fn is_busy(&self) -> bool {
        self.len > 0
    }
}
