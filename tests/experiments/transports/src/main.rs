//! One stream over a simulated route, with three transports: the flow ends of this project, TCP of
//! smoltcp, and QUIC of quinn-proto. Virtual time, and chance from one seed: the same table each time.
//!
//! Every packet of a transport travels as the body of a Data packet of a flow, whose header of 24 bytes
//! counts, and for no less than 64 bytes. A connection is set up before anything is measured.

mod own;
mod quic;
mod route;
mod tcp;

use route::{Conditions, Route, SECOND};

/// Both ends of a connection.
pub trait Ends {
    /// A packet came in at an end.
    fn receive(&mut self, end: usize, now: u64, packet: Vec<u8>);
    /// The next packet that an end sends, if it sends one now.
    fn transmit(&mut self, end: usize, now: u64) -> Option<Vec<u8>>;
    /// When `handle_timeout` is to be called.
    fn next_timeout(&mut self, end: usize, now: u64) -> Option<u64>;
    fn handle_timeout(&mut self, end: usize, now: u64);
    /// Whether the connection is there.
    fn is_ready(&self) -> bool;
    /// Writes content at end 0, as much as is taken, from this byte on; how much that was.
    fn write(&mut self, from: u64, most: usize) -> usize;
    /// Reads what has come at end 1, which must be the content from this byte on.
    fn read(&mut self, from: u64) -> usize;
}

/// A byte of the content.
pub fn content(at: u64) -> u8 {
    ((at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ (at >> 8) as u8
}

pub fn piece(from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64).map(content).collect()
}

pub fn check(from: u64, bytes: &[u8]) {
    assert!(
        bytes.iter().zip(from..).all(|(byte, at)| *byte == content(at)),
        "other bytes at {from}"
    );
}

/// Percent of the line that carried content, and bytes sent both ways in percent of it; none if
/// it takes too long.
fn measure(ends: &mut dyn Ends, conditions: Conditions, size: u64) -> Option<(u64, u64)> {
    let mut route = Route::new(conditions, 1);
    while !ends.is_ready() {
        if !route.step(ends) || route.now > 1_000 * SECOND {
            return None;
        }
    }
    let (start, before) = (route.now, route.sent());
    let (mut written, mut read) = (0, 0);
    while read < size {
        while written < size {
            let most = usize::try_from(size - written).unwrap_or(usize::MAX).min(16_384);
            let taken = ends.write(written, most);
            written += taken as u64;
            if taken < most {
                break;
            }
        }
        if !route.step(ends) || route.now - start > 20_000 * SECOND {
            return None;
        }
        loop {
            let got = ends.read(read);
            read += got as u64;
            if got == 0 {
                break;
            }
        }
    }
    let time = route.now - start;
    let rate = u128::from(size) * 100 * u128::from(SECOND) / u128::from(time);
    Some(((rate / u128::from(conditions.rate)) as u64, (route.sent() - before) * 100 / size))
}

fn main() {
    println!("| route | packets | own | smoltcp | quinn-proto |");
    println!("|---|---|---|---|---|");
    let lossy = |lost, conditions| Conditions { lost, ..conditions };
    let (good, radio) = (Conditions::GOOD, Conditions::RADIO);
    for (name, conditions, packet, size) in [
        ("100 Mbit/s, 20 ms there and back", good, 1_400, 20_000_000),
        ("the same", good, 240, 10_000_000),
        ("the same, 1 % lost", lossy(10, good), 1_400, 20_000_000),
        ("the same, 1 % lost", lossy(10, good), 240, 10_000_000),
        ("four hops of radio: 1 kB/s, 2 s", radio, 240, 50_000),
        ("the same, 1 % lost", lossy(10, radio), 240, 50_000),
    ] {
        let all: [&mut dyn Ends; 3] = [
            &mut own::Own::new(packet),
            &mut tcp::Tcp::new(packet, conditions.window()),
            &mut quic::Quic::new(packet),
        ];
        let cells = all.map(|ends| match measure(ends, conditions, size) {
            Some((rate, paid)) => format!("{rate} %, {paid} %"),
            None => "fails".into(),
        });
        println!("| {name} | {packet} bytes | {} |", cells.join(" | "));
    }
}
