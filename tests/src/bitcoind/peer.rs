//! One end of the P2P protocol, version 1 of the transport, that writes down all it hears and
//! says.

use super::{Bitcoind, PATIENCE};
use crate::packets::payloads::bitcoin_message;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::p2p::address::Address;
use bitcoin::p2p::message::{NetworkMessage, RawNetworkMessage};
use bitcoin::p2p::message_network::VersionMessage;
use bitcoin::p2p::{Magic, ServiceFlags};
use blvm_mesh_core::id::Network;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Bytes of a message before its payload.
const HEADER: usize = 24;

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// True if the node sent it, false if it was sent to the node.
    pub from_node: bool,
    /// Its bytes, header included.
    pub bytes: Vec<u8>,
}

impl Message {
    /// Its command, without padding.
    pub fn command(&self) -> &str {
        let name = self.bytes.get(4..16).unwrap_or_default();
        let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        std::str::from_utf8(&name[..end]).unwrap_or("?")
    }

    /// What the `bitcoin` crate reads in it.
    ///
    /// # Panics
    /// If it does not read all of it.
    pub fn read(&self) -> NetworkMessage {
        let message: RawNetworkMessage =
            deserialize(&self.bytes).unwrap_or_else(|e| panic!("{}: {e}", self.command()));
        message.into_payload()
    }
}

/// Every message of every connection, in order.
pub type Log = Rc<RefCell<Vec<Message>>>;

/// What a connection says of itself.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Protocol version.
    pub version: u32,
    /// True if transactions are wanted.
    pub relay: bool,
    /// Messages between the two `version`s and `verack`.
    pub before_verack: Vec<NetworkMessage>,
    /// Messages after it.
    pub after_verack: Vec<NetworkMessage>,
}

impl Manner {
    /// This version, and nothing besides what it takes.
    pub fn of_version(version: u32) -> Self {
        Self { version, relay: true, before_verack: Vec::new(), after_verack: Vec::new() }
    }
}

/// A connection with a node.
pub struct Peer {
    stream: TcpStream,
    log: Log,
    unread: Vec<u8>,
    /// Messages that nobody has asked for yet.
    kept: VecDeque<Message>,
    nonce: u64,
    version: u32,
}

impl Peer {
    /// Connects, and waits until both have greeted.
    ///
    /// # Panics
    /// If the node does not greet.
    pub fn connect(node: &Bitcoind, log: &Log, manner: &Manner) -> Self {
        let stream = TcpStream::connect(node.p2p()).expect("the node listens");
        let mut peer = Self::new(stream, log, manner);
        peer.say_version(manner);
        peer.greet(manner);
        peer
    }

    /// Lets the node connect, by a request of the given kind (`manual`, or what the RPC
    /// `addconnection` knows).
    ///
    /// # Panics
    /// If the node does not connect or greet.
    pub fn be_connected(node: &Bitcoind, log: &Log, manner: &Manner, kind: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        match kind {
            "manual" => node.call("addnode", serde_json::json!([address, "onetry"])),
            _ => node.call("addconnection", serde_json::json!([address, kind, false])),
        };
        listener.set_nonblocking(true).expect("a socket");
        let end = Instant::now() + PATIENCE;
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(e) => panic!("the node does not connect: {e}"),
            }
        };
        stream.set_nonblocking(false).expect("a socket");
        let mut peer = Self::new(stream, log, manner);
        peer.hear("version");
        peer.say_version(manner);
        peer.finish_greeting(manner);
        peer
    }

    fn new(stream: TcpStream, log: &Log, manner: &Manner) -> Self {
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        let (log, unread, kept) = (Rc::clone(log), Vec::new(), VecDeque::new());
        Self { stream, log, unread, kept, nonce: 1, version: manner.version }
    }

    fn say_version(&mut self, manner: &Manner) {
        let services = ServiceFlags::NETWORK | ServiceFlags::WITNESS;
        let nowhere: SocketAddr = ([0, 0, 0, 0], 0).into();
        let nowhere = Address::new(&nowhere, ServiceFlags::NONE);
        let nonce = u64::from(self.stream.local_addr().expect("a socket").port());
        self.say(NetworkMessage::Version(VersionMessage {
            version: manner.version,
            services,
            timestamp: 1_700_000_000,
            receiver: nowhere.clone(),
            sender: nowhere,
            nonce,
            user_agent: "/blvm-mesh-tests/".into(),
            start_height: 0,
            relay: manner.relay,
        }));
    }

    fn greet(&mut self, manner: &Manner) {
        self.hear("version");
        self.finish_greeting(manner);
    }

    fn finish_greeting(&mut self, manner: &Manner) {
        for message in &manner.before_verack {
            self.say(message.clone());
        }
        self.say(NetworkMessage::Verack);
        self.hear("verack");
        for message in &manner.after_verack {
            self.say(message.clone());
        }
        self.settle();
    }

    /// Sends a message.
    ///
    /// # Panics
    /// If the connection is gone.
    pub fn say(&mut self, message: NetworkMessage) {
        self.say_bytes(serialize(&RawNetworkMessage::new(Magic::REGTEST, message)));
    }

    /// Sends a message that the `bitcoin` crate does not know.
    ///
    /// # Panics
    /// If the connection is gone.
    pub fn say_raw(&mut self, command: &str, payload: &[u8]) {
        self.say_bytes(bitcoin_message(Network::Regtest, command, payload));
    }

    fn say_bytes(&mut self, bytes: Vec<u8>) {
        let message = Message { from_node: false, bytes };
        let sent = self.stream.write_all(&message.bytes);
        sent.unwrap_or_else(|e| panic!("the node takes no {}: {e}", message.command()));
        self.log.borrow_mut().push(message);
    }

    /// The next message with this command; others wait until they are asked for.
    ///
    /// # Panics
    /// If none comes.
    pub fn hear(&mut self, command: &str) -> Message {
        self.hear_where(command, |_| true)
    }

    /// As [`hear`](Self::hear), the next for which this holds.
    ///
    /// # Panics
    /// If none comes.
    pub fn hear_where(&mut self, command: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        let wanted = |message: &Message| message.command() == command && wanted(message);
        if let Some(at) = self.kept.iter().position(wanted) {
            return self.kept.remove(at).expect("it is there");
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let message = self.next(end).unwrap_or_else(|| panic!("no {command} came"));
            if wanted(&message) {
                return message;
            }
            self.kept.push_back(message);
        }
    }

    /// Waits until the node has answered all that was sent so far.
    ///
    /// # Panics
    /// If it does not.
    pub fn settle(&mut self) {
        self.nonce += 1;
        if self.version <= 60_000 {
            // The node has no way of telling it; it is quick.
            let end = Instant::now() + Duration::from_millis(500);
            while let Some(message) = self.next(end) {
                self.kept.push_back(message);
            }
            return;
        }
        let nonce = self.nonce;
        self.say(NetworkMessage::Ping(nonce));
        self.hear_where("pong", |pong| pong.bytes.ends_with(&nonce.to_le_bytes()));
    }

    /// The next message, if one comes in time. Pings are answered.
    fn next(&mut self, end: Instant) -> Option<Message> {
        loop {
            if let Some(message) = self.take() {
                if let ("ping", Some(nonce)) = (message.command(), message.bytes.get(HEADER..))
                    && !nonce.is_empty()
                {
                    self.say_raw("pong", nonce);
                }
                return Some(message);
            }
            let mut chunk = [0; 1 << 16];
            match self.stream.read(&mut chunk) {
                Ok(0) => panic!("the node has closed the connection"),
                Ok(n) => self.unread.extend_from_slice(&chunk[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if Instant::now() >= end {
                        return None;
                    }
                }
                Err(e) => panic!("the connection is gone: {e}"),
            }
        }
    }

    /// A whole message off what was read.
    fn take(&mut self) -> Option<Message> {
        let [a, b, c, d] = *self.unread.get(16..)?.first_chunk()?;
        let whole = HEADER + u32::from_le_bytes([a, b, c, d]) as usize;
        if self.unread.len() < whole.max(HEADER) {
            return None;
        }
        let rest = self.unread.split_off(whole);
        let message = Message { from_node: true, bytes: std::mem::replace(&mut self.unread, rest) };
        self.log.borrow_mut().push(message.clone());
        Some(message)
    }
}
