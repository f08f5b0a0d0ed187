//! The ends of sealed flows, as they are shipped.

use crate::{Ends, check, piece};
use blvm_mesh_core::flow::end::{Direction, End, EndConfig, MAX_PACKET, Read};
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_core::link::handshake::Secrets;

pub struct Own {
    ends: [End<RustCrypto>; 2],
    stream: u32,
}

impl Own {
    pub fn new(max_packet: usize) -> Self {
        let config = EndConfig { max_packet, ..EndConfig::default() };
        let keys = |sending, receiving| Secrets {
            sending: [sending; 32],
            receiving: [receiving; 32],
            chaining: [0; 32],
        };
        let mut ends = [
            End::new(0, config, Direction::FromSource, 7, &keys(1, 2)),
            End::new(0, config, Direction::FromDestination, 7, &keys(2, 1)),
        ];
        ends[0].set_allowance(0, 1 << 50);
        let stream = ends[0].open_stream().expect("the first stream");
        Self { ends, stream }
    }
}

impl Ends for Own {
    fn receive(&mut self, end: usize, now: u64, mut packet: Vec<u8>) {
        let _ = self.ends[end].receive(now, &mut packet);
    }

    fn transmit(&mut self, end: usize, now: u64) -> Option<Vec<u8>> {
        let mut out = vec![0; MAX_PACKET];
        let len = self.ends[end].poll_transmit(now, &mut out)?;
        out.truncate(len);
        Some(out)
    }

    fn next_timeout(&mut self, end: usize, _: u64) -> Option<u64> {
        self.ends[end].next_timeout()
    }

    fn handle_timeout(&mut self, end: usize, now: u64) {
        self.ends[end].handle_timeout(now);
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn write(&mut self, from: u64, most: usize) -> usize {
        self.ends[0].write(self.stream, &piece(from, most)).expect("open")
    }

    fn read(&mut self, from: u64) -> usize {
        let mut out = [0; 16_384];
        match self.ends[1].read(self.stream, &mut out) {
            Ok(Read::Bytes(len)) => {
                check(from, &out[..len]);
                len
            }
            _ => 0,
        }
    }
}
