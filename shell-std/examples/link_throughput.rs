//! How fast a link seals and opens on one core, without a socket:
//! `cargo run --release -p blvm-mesh --example link_throughput`
//!
//! Each pass fills 256 KiB with frames, seals them, and then receives them: opens
//! every frame in place and takes its packets out. That is the work of both ends.

use blvm_mesh::aead::Ring;
use blvm_mesh_core::link::{
    aead::{Aead, RustCrypto},
    fragment::{FrameBuilder, Lane, Put, Splitter},
    handshake::Secrets,
    joiner::Joiner,
    packet_buffer::Growable,
    transport::{Receiver, Sender},
};
use std::time::{Duration, Instant};

/// What a host would read from or write to a socket at once.
const BUFFER: usize = 256 * 1024;
const MAX_PACKET: usize = 4 * 1024 * 1024 + 1024;

fn main() {
    println!("{:10} {:>8} {:>7}  seal            open", "AEAD", "packet", "frame");
    for (packet, max_body) in
        [(65_531, 65_535), (100, 65_535), (100, 1_456), (100, 104), (4_194_328, 65_535)]
    {
        measure::<Ring>("ring", packet, max_body);
        measure::<RustCrypto>("RustCrypto", packet, max_body);
    }
}

fn measure<A: Aead>(name: &str, packet: usize, max_body: u16) {
    let secrets = Secrets { sending: [1; 32], receiving: [1; 32], chaining: [2; 32] };
    let mut sender = Sender::<A>::new(&secrets);
    let mut receiver = Receiver::<A>::new(&secrets, max_body);
    let memory = Growable::new(MAX_PACKET);
    let mut joiner = Joiner::new(MAX_PACKET, u64::MAX, memory.clone(), memory);
    let mut splitter = Splitter::default();
    let (bytes, mut buf) = (vec![0x5a; packet], vec![0; BUFFER]);
    let (mut sealing, mut opening) = (Duration::ZERO, Duration::ZERO);
    let (mut received, mut whole) = (0_u64, 0_u64);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        let begin = Instant::now();
        let mut end = 0;
        while let Some(mut frame) = FrameBuilder::new(&mut buf[end..], max_body) {
            while splitter.put(&mut frame, Lane::Free, &bytes) == Ok(Put::Done) {}
            let len = frame.finish();
            sender.seal_frame(&mut buf[end..end + len]).expect("a frame");
            end += len;
        }
        let between = Instant::now();
        let mut at = 0;
        while let Some(frame) = receiver.open_frame(&mut buf[at..end]).expect("authentic") {
            received += frame.body.len() as u64;
            let body = &mut buf[at..end][frame.body];
            let mut records = joiner.records(0, body).expect("a record");
            while let Some(packet) = records.next().expect("well-formed") {
                assert_eq!(packet.bytes.len(), bytes.len());
                whole += 1;
            }
            at += frame.consumed;
        }
        assert_eq!(at, end);
        sealing += between - begin;
        opening += between.elapsed();
    }
    let rates = |time: Duration| {
        let seconds = time.as_secs_f64();
        let (gigabits, packets) = (received as f64 * 8e-9 / seconds, whole as f64 / seconds);
        format!("{gigabits:5.2} Gbit/s {packets:9.0}/s")
    };
    let all = sealing + opening;
    println!(
        "{name:10} {packet:8} {max_body:7}  {}  {}  both {}",
        rates(sealing),
        rates(opening),
        rates(all)
    );
}
