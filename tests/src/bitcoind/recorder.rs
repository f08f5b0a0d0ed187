//! Stands between two real nodes, passes on what they say, and writes it down.

use super::peer::Message;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Bytes of a message before its payload.
const HEADER: usize = 24;

/// What was said on all connections, each direction by itself: true if the node that is led to has
/// said it.
type Said = Arc<Mutex<Vec<(bool, Vec<u8>)>>>;

/// Leads connections to a node.
pub struct Recorder {
    /// Where connections are taken.
    pub address: SocketAddr,
    said: Said,
}

impl Recorder {
    /// Leads connections at a free port to this address.
    ///
    /// # Panics
    /// If there is no port.
    pub fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let said = Said::default();
        let shared = said.clone();
        thread::spawn(move || {
            for from in listener.incoming() {
                let (Ok(from), Ok(to)) = (from, TcpStream::connect(to)) else { return };
                record(&shared, false, &from, &to);
                record(&shared, true, &to, &from);
            }
        });
        Self { address, said }
    }

    /// All whole messages so far, cut out of what was said.
    ///
    /// # Panics
    /// If a side does not speak version 1 of the protocol.
    pub fn messages(&self) -> Vec<Message> {
        let said = self.said.lock().expect("no thread has panicked");
        let mut messages = Vec::new();
        for (from_node, bytes) in said.iter() {
            let mut rest = &bytes[..];
            while rest.len() >= HEADER {
                assert_eq!(rest[..4], [0xfa, 0xbf, 0xb5, 0xda], "not the magic of regtest");
                let length = u32::from_le_bytes(rest[16..20].try_into().expect("four bytes"));
                let Some((message, more)) = rest.split_at_checked(HEADER + length as usize) else {
                    break;
                };
                messages.push(Message { from_node: *from_node, bytes: message.to_vec() });
                rest = more;
            }
        }
        messages
    }
}

/// Passes one direction on, in a thread of its own.
fn record(said: &Said, from_node: bool, from: &TcpStream, to: &TcpStream) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    let said = said.clone();
    let place = {
        let mut said = said.lock().expect("no thread has panicked");
        said.push((from_node, Vec::new()));
        said.len() - 1
    };
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(len) = from.read(&mut buffer) {
            if len == 0 || to.write_all(&buffer[..len]).is_err() {
                break;
            }
            let mut said = said.lock().expect("no thread has panicked");
            said[place].1.extend_from_slice(&buffer[..len]);
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
