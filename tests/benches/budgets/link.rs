//! Both ends of a link, without a socket, against their AEAD alone.

use crate::measure::{Effort, job, line, nanoseconds};
use blvm_mesh::aead::Ring;
use blvm_mesh_core::link::{
    aead::{Aead, TAG_LEN},
    fragment::{FrameBuilder, Put, Splitter},
    handshake::Secrets,
    joiner::Joiner,
    lane::Lane,
    packet_buffer::Growable,
    suite::Suite,
    transport::{FRAME_OVERHEAD, MAX_BODY, Receiver, Sender},
};

pub(crate) fn measure(effort: Effort) {
    let suites = [Suite::ChaCha20Poly1305, Suite::Aes256Gcm];
    for (suite, packet) in suites.into_iter().flat_map(|suite| [(suite, 65_531), (suite, 100)]) {
        let mut bytes = vec![0x5a; MAX_BODY];
        let (aead, mut tag) = (Ring::of_suite(suite, &[1; 32]), [0; TAG_LEN]);
        let alone = job(move || {
            aead.seal(0, &[], &mut bytes, &mut tag);
            aead.open(0, &[], &mut bytes, &tag).expect("authentic");
        });
        let mut ends = Ends::new(suite, packet);
        let link = job(move || ends.carry_one_frame());
        let [alone, link] = nanoseconds(effort, [alone, link]);
        let cipher = if suite == Suite::Aes256Gcm { "AES" } else { "ChaCha20" };
        let name =
            format!("link: one frame of 64 KiB of packets of {packet} bytes, {cipher}, both ends");
        line(&name, link, "`ring`: seal and open", alone, None);
    }
}

struct Ends {
    sender: Sender<Ring>,
    receiver: Receiver<Ring>,
    splitter: Splitter,
    joiner: Joiner<Growable>,
    packet: Vec<u8>,
    wire: Vec<u8>,
}

impl Ends {
    fn new(suite: Suite, packet: usize) -> Self {
        let secrets = Secrets { sending: [1; 32], receiving: [1; 32], chaining: [2; 32] };
        let memory = Growable::new(MAX_BODY);
        Self {
            sender: Sender::new(suite, &secrets),
            receiver: Receiver::new(suite, &secrets, u16::MAX),
            splitter: Splitter::default(),
            joiner: Joiner::new(MAX_BODY, u64::MAX, memory.clone(), memory),
            packet: vec![0x5a; packet],
            wire: vec![0; MAX_BODY + FRAME_OVERHEAD],
        }
    }

    fn carry_one_frame(&mut self) {
        let mut frame = FrameBuilder::new(&mut self.wire, u16::MAX).expect("room");
        while self.splitter.put(&mut frame, Lane::Free, &self.packet) == Ok(Put::Done) {}
        let len = frame.finish();
        self.sender.seal_frame(&mut self.wire[..len]).expect("a frame");
        let opened = self.receiver.open_frame(&mut self.wire[..len]).expect("authentic");
        let body = &mut self.wire[opened.expect("a whole frame").body];
        let mut records = self.joiner.records(0, body).expect("a record");
        while let Some(packet) = records.next().expect("well-formed") {
            assert_eq!(packet.bytes.len(), self.packet.len());
        }
    }
}
