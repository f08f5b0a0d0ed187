//! A way to the server that is cut where it hurts.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// When each connection is cut.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut {
    /// After so many bytes of the server's.
    After(usize),
    /// Once the COMMIT of a transaction with lines is on its way, and before its answer.
    AtCommit,
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
}

impl Proxy {
    /// Leads to this port, each connection until it is cut.
    pub(crate) fn start(to: u16, cut: Cut) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", to)))
                else {
                    return;
                };
                join(client, server, cut);
            }
        });
        Self { port }
    }
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn join(client: TcpStream, server: TcpStream, cut: Cut) {
    let left = Arc::new(AtomicUsize::new(match cut {
        Cut::After(bytes) => bytes,
        Cut::AtCommit => usize::MAX,
    }));
    let (mut from_client, mut to_server) =
        (client.try_clone().unwrap(), server.try_clone().unwrap());
    let at_commit = left.clone();
    thread::spawn(move || {
        let (mut buf, mut has_lines) = ([0; 65_536], false);
        while let Ok(n @ 1..) = from_client.read(&mut buf) {
            has_lines |= has(&buf[..n], b"INTO blvm_mesh.payments");
            if matches!(cut, Cut::AtCommit) && has_lines && has(&buf[..n], b"COMMIT\0") {
                at_commit.store(0, Ordering::SeqCst);
            }
            if to_server.write_all(&buf[..n]).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut from_server, mut to_client) = (server, client);
    thread::spawn(move || {
        let mut buf = [0; 65_536];
        while let Ok(n @ 1..) = from_server.read(&mut buf) {
            let room = left.load(Ordering::SeqCst);
            let n = n.min(room);
            let _ = to_client.write_all(&buf[..n]);
            if room != usize::MAX && left.fetch_sub(n, Ordering::SeqCst) == n {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
        let _ = from_server.shutdown(Shutdown::Both);
    });
}
