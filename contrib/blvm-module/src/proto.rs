//! Messages of the node's module socket, as far as the module has to do with them: bincode 1
//! (fixed integers, little-endian; enums by the number of their variant; lengths of 64 bits).
//!
//! The numbers are those of blvm-node's `module::ipc::protocol` and `module::traits`.
//! `check-numbers.py` compares them with the sources of a version.

/// How a version of blvm-node numbers its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// Up to 0.1.55.
    Old,
    /// From 0.1.56 on.
    New,
}

impl Numbers {
    /// Those of a version; `None` if they are not known.
    pub fn of(version: &str) -> Option<Self> {
        let numbers = version.split(['-', '+']).next()?;
        let numbers = numbers.split('.').map(|n| n.parse().ok()).collect::<Option<Vec<u64>>>()?;
        match <[u64; 3]>::try_from(numbers).ok()? {
            [0, 1, 54 | 55] => Some(Self::Old),
            [0, 1, patch] if patch >= 56 => Some(Self::New),
            [0, minor, _] if minor > 1 => Some(Self::New),
            [major, ..] if major > 0 => Some(Self::New),
            _ => None,
        }
    }
}

/// `ModuleMessage`.
mod message {
    pub(super) const REQUEST: u32 = 0;
    pub(super) const RESPONSE: u32 = 1;
    pub(super) const EVENT: u32 = 2;
    pub(super) const LOG: u32 = 3;
    pub(super) const INVOCATION: u32 = 4;
    pub(super) const INVOCATION_RESULT: u32 = 5;
}

/// A kind of event: its numbers as `EventType` and as `EventPayload`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventKind(pub u32, pub u32);

/// A payment was accepted.
pub const PAYMENT_VERIFIED: EventKind = EventKind(7, 7);
/// A peer of the node sent something for the mesh.
pub const MESH_PACKET_RECEIVED: EventKind = EventKind(16, 75);
/// The node has a connection to a peer.
pub const PEER_CONNECTED: EventKind = EventKind(28, 26);
/// The connection is gone.
pub const PEER_DISCONNECTED: EventKind = EventKind(29, 27);
/// A route was found.
pub const ROUTE_DISCOVERED: EventKind = EventKind(36, 34);
/// None was found.
pub const ROUTE_FAILED: EventKind = EventKind(37, 35);

/// How much a line of the log matters: the numbers of `LogLevel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Finest.
    Trace = 0,
    /// Fine.
    Debug = 1,
    /// Usual.
    Info = 2,
    /// Something is wrong.
    Warn = 3,
    /// Something does not work.
    Error = 4,
}

/// An event that the module publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// [`PAYMENT_VERIFIED`].
    PaymentVerified {
        /// The payment's name.
        payment_id: String,
        /// Its amount in millisatoshi.
        amount_msats: u64,
    },
    /// [`ROUTE_DISCOVERED`].
    RouteDiscovered {
        /// To whom.
        destination: [u8; 32],
        /// The nodes between.
        route_path: Vec<String>,
        /// Its price.
        route_cost: u64,
    },
    /// [`ROUTE_FAILED`].
    RouteFailed {
        /// To whom.
        destination: [u8; 32],
        /// Why.
        reason: String,
    },
}

/// What the module asks of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Introduces the module, whose name is also its identity.
    Handshake {
        /// The module's name.
        name: String,
    },
    /// Asks for peers that come and go, and for what they send.
    SubscribeEvents,
    /// Offers methods to other modules.
    RegisterModuleApi {
        /// Their names.
        methods: Vec<String>,
        /// Their version.
        api_version: u32,
    },
    /// Asks whom the node is connected to.
    GetNetworkPeers,
    /// Publishes an event.
    PublishEvent(Published),
    /// Sends bytes to a peer.
    SendMeshPacketToPeer {
        /// Its address as the node writes it.
        peer: String,
        /// The bytes.
        packet: Vec<u8>,
    },
}

impl Request {
    /// What it is for, in words.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Handshake { .. } => "handshake",
            Self::SubscribeEvents => "subscribe to events",
            Self::RegisterModuleApi { .. } => "register methods",
            Self::GetNetworkPeers => "list peers",
            Self::PublishEvent(_) => "publish an event",
            Self::SendMeshPacketToPeer { .. } => "send a frame to a peer",
        }
    }

    /// Its numbers as `MessageType` and as `RequestPayload`.
    pub fn numbers(&self, numbers: Numbers) -> (u32, u32) {
        let earlier = u32::from(numbers == Numbers::Old);
        match self {
            Self::Handshake { .. } => (8, 0),
            Self::SubscribeEvents => (7, 8),
            Self::GetNetworkPeers => (13, 13),
            Self::PublishEvent(_) => (41 - earlier, 41 - earlier),
            Self::RegisterModuleApi { .. } => (43 - earlier, 43 - earlier),
            Self::SendMeshPacketToPeer { .. } => (48 - earlier, 48 - earlier),
        }
    }

    /// The message with this number.
    pub fn encode(&self, id: u64, numbers: Numbers) -> Vec<u8> {
        let (kind, payload) = self.numbers(numbers);
        let mut out = Writer::of(message::REQUEST);
        out.u64(id).u32(kind).u32(payload);
        match self {
            Self::Handshake { name } => {
                out.text(name).text(name).text(env!("CARGO_PKG_VERSION"));
            }
            Self::SubscribeEvents => {
                let kinds = [PEER_CONNECTED, PEER_DISCONNECTED, MESH_PACKET_RECEIVED];
                out.count(kinds.len());
                for EventKind(kind, _) in kinds {
                    out.u32(kind);
                }
            }
            Self::RegisterModuleApi { methods, api_version } => {
                out.texts(methods).u32(*api_version);
            }
            Self::GetNetworkPeers => {}
            Self::PublishEvent(event) => event.write(&mut out),
            Self::SendMeshPacketToPeer { peer, packet } => {
                out.text(peer).bytes(packet);
            }
        }
        out.0
    }
}

impl Published {
    fn write(&self, out: &mut Writer) {
        let mut kind = |EventKind(kind, payload)| {
            out.u32(kind).u32(payload);
        };
        match self {
            Self::PaymentVerified { payment_id, amount_msats } => {
                kind(PAYMENT_VERIFIED);
                // A proof carries its invoice in packed form only.
                out.text(payment_id).u64(*amount_msats).text("");
            }
            Self::RouteDiscovered { destination, route_path, route_cost } => {
                kind(ROUTE_DISCOVERED);
                out.bytes(destination).texts(route_path).u64(*route_cost);
            }
            Self::RouteFailed { destination, reason } => {
                kind(ROUTE_FAILED);
                out.bytes(destination).text(reason);
            }
        }
    }
}

/// The answer to a call of a method.
pub fn invocation_result(id: u64, answer: &Result<Vec<u8>, String>) -> Vec<u8> {
    /// `InvocationResultPayload::ModuleApi`.
    const MODULE_API: u32 = 2;
    let mut out = Writer::of(message::INVOCATION_RESULT);
    out.u64(id);
    match answer {
        Ok(bytes) => out.u8(1).u8(1).u32(MODULE_API).bytes(bytes).u8(0),
        Err(error) => out.u8(0).u8(0).u8(1).text(error),
    };
    out.0
}

/// A line for the node's log; `unix` is in seconds.
pub fn log(level: LogLevel, module: &str, line: &str, target: &str, unix: u64) -> Vec<u8> {
    let mut out = Writer::of(message::LOG);
    out.u32(level as u32).text(module).text(line).text(target).u64(unix);
    out.0
}

/// A message of the node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// The answer to a request.
    Response {
        /// The request's number.
        id: u64,
        /// What is answered, or why nothing is.
        answer: Result<Answer, String>,
    },
    /// The node has a connection to a peer.
    PeerConnected(String),
    /// The connection is gone.
    PeerDisconnected(String),
    /// A peer sent something for the mesh.
    MeshPacket {
        /// Its address.
        peer: String,
        /// What it sent.
        bytes: Vec<u8>,
    },
    /// Another module calls a method.
    Call {
        /// Number of the call.
        id: u64,
        /// The method; `None` if it is not one of the module's API.
        method: Option<(String, Vec<u8>)>,
    },
    /// Something that the module has nothing to do with.
    Other,
}

/// What the node answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To the handshake: its version.
    Version(String),
    /// Addresses of its peers.
    Peers(Vec<String>),
    /// It was done.
    Done,
}

/// The bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAMessage(&'static str);

/// Reads a message of the node's.
///
/// # Errors
/// [`NotAMessage`].
pub fn decode(bytes: &[u8]) -> Result<Incoming, NotAMessage> {
    let mut from = Reader(bytes);
    match from.u32()? {
        message::RESPONSE => response(&mut from),
        message::EVENT => event(&mut from),
        message::INVOCATION => invocation(&mut from),
        message::REQUEST | message::LOG | message::INVOCATION_RESULT => {
            Err(NotAMessage("only modules send such a message"))
        }
        _ => Err(NotAMessage("no message has this number")),
    }
}

fn response(from: &mut Reader<'_>) -> Result<Incoming, NotAMessage> {
    // `ResponsePayload`.
    const HANDSHAKE_ACK: u32 = 0;
    const NETWORK_PEERS: u32 = 13;
    let (id, success) = (from.u64()?, from.flag()?);
    let payload = if from.flag()? { Some(from.u32()?) } else { None };
    let answer = match (success, payload) {
        (true, Some(HANDSHAKE_ACK)) => Ok(Answer::Version(from.text()?)),
        (true, Some(NETWORK_PEERS)) => {
            let count = from.u64()?;
            let mut peers = Vec::new();
            for _ in 0..count {
                peers.push(from.text()?);
                // Transport, services, version, and since when.
                from.text()?;
                from.u64()?;
                from.u32()?;
                from.u64()?;
            }
            Ok(Answer::Peers(peers))
        }
        (true, _) => Ok(Answer::Done),
        (false, None) => Err(if from.flag()? { from.text()? } else { String::new() }),
        (false, Some(_)) => Err(String::new()),
    };
    Ok(Incoming::Response { id, answer })
}

fn event(from: &mut Reader<'_>) -> Result<Incoming, NotAMessage> {
    let kind = EventKind(from.u32()?, from.u32()?);
    Ok(match kind {
        MESH_PACKET_RECEIVED => {
            let bytes = from.bytes()?.to_vec();
            Incoming::MeshPacket { bytes, peer: from.text()? }
        }
        PEER_CONNECTED => Incoming::PeerConnected(from.text()?),
        PEER_DISCONNECTED => Incoming::PeerDisconnected(from.text()?),
        _ => Incoming::Other,
    })
}

fn invocation(from: &mut Reader<'_>) -> Result<Incoming, NotAMessage> {
    // `InvocationType`.
    const MODULE_API: u32 = 2;
    let id = from.u64()?;
    let method = match from.u32()? {
        MODULE_API => Some((from.text()?, from.bytes()?.to_vec())),
        _ => None,
    };
    Ok(Incoming::Call { id, method })
}

/// Writes what bincode would.
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// Begins with the number of a variant.
    pub fn of(variant: u32) -> Self {
        Self(variant.to_le_bytes().into())
    }

    /// One byte: a flag, or whether something follows.
    pub fn u8(&mut self, n: u8) -> &mut Self {
        self.0.push(n);
        self
    }

    /// Four bytes.
    pub fn u32(&mut self, n: u32) -> &mut Self {
        self.0.extend(n.to_le_bytes());
        self
    }

    /// Eight bytes.
    pub fn u64(&mut self, n: u64) -> &mut Self {
        self.0.extend(n.to_le_bytes());
        self
    }

    /// A number of items.
    pub fn count(&mut self, n: usize) -> &mut Self {
        self.u64(n as u64)
    }

    /// Bytes with their number.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).0.extend(bytes);
        self
    }

    /// Text with its length.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Several texts with their number.
    pub fn texts(&mut self, texts: &[String]) -> &mut Self {
        self.count(texts.len());
        for text in texts {
            self.text(text);
        }
        self
    }
}

/// Reads what bincode wrote.
pub struct Reader<'b>(pub &'b [u8]);

impl<'b> Reader<'b> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], NotAMessage> {
        let (array, rest) = self.0.split_first_chunk().ok_or(NotAMessage("it is cut short"))?;
        self.0 = rest;
        Ok(*array)
    }

    /// One byte that is 0 or 1.
    ///
    /// # Errors
    /// [`NotAMessage`], as all of them.
    pub fn flag(&mut self) -> Result<bool, NotAMessage> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(NotAMessage("a flag is neither 0 nor 1")),
        }
    }

    /// Four bytes.
    ///
    /// # Errors
    /// [`NotAMessage`].
    pub fn u32(&mut self) -> Result<u32, NotAMessage> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`NotAMessage`].
    pub fn u64(&mut self) -> Result<u64, NotAMessage> {
        self.array().map(u64::from_le_bytes)
    }

    /// Bytes with their number before them.
    ///
    /// # Errors
    /// [`NotAMessage`].
    pub fn bytes(&mut self) -> Result<&'b [u8], NotAMessage> {
        let len = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        let cut = self.0.split_at_checked(len);
        let (bytes, rest) = cut.ok_or(NotAMessage("it is cut short"))?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Text with its length before it.
    ///
    /// # Errors
    /// [`NotAMessage`].
    pub fn text(&mut self) -> Result<String, NotAMessage> {
        let text = std::str::from_utf8(self.bytes()?);
        text.map(String::from).map_err(|_| NotAMessage("a text is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Seen on blvm-node 0.1.83, but for the names, which are the module's own here.
    #[test]
    fn what_a_node_was_seen_to_take_and_send_is_written_and_read_the_same() {
        let mut handshake = Writer::of(0);
        handshake.u64(1).u32(8).u32(0).text("m").text("n").text("v");
        assert_eq!(
            hex::encode(&handshake.0),
            "000000000100000000000000080000000000000001000000000000006d01000000000000006e010000000000000076"
        );
        let ours = Request::Handshake { name: "m".into() }.encode(1, Numbers::New);
        assert_eq!(ours[..29], handshake.0[..29]);
        let send = Request::SendMeshPacketToPeer { peer: "a".into(), packet: vec![1, 2] };
        assert_eq!(
            hex::encode(send.encode(3, Numbers::New)),
            "000000000300000000000000300000003000000001000000000000006102000000000000000102"
        );
        let event =
            hex::decode("02000000100000004b000000010000000000000001010000000000000061").unwrap();
        let packet = Incoming::MeshPacket { peer: "a".into(), bytes: vec![1] };
        assert_eq!(decode(&event), Ok(packet));
    }

    #[test]
    fn a_version_has_its_numbers() {
        for (version, numbers) in [
            ("0.1.54", Some(Numbers::Old)),
            ("0.1.55", Some(Numbers::Old)),
            ("0.1.56", Some(Numbers::New)),
            ("0.1.61", Some(Numbers::New)),
            ("0.1.53", None),
            ("0.1.83-rc.1", Some(Numbers::New)),
            ("0.2.0", Some(Numbers::New)),
            ("1.0.0", Some(Numbers::New)),
            ("0.1.10", None),
            ("0.1", None),
            ("a.b.c", None),
            ("0.1.-1", None),
            ("", None),
        ] {
            assert_eq!(Numbers::of(version), numbers, "{version}");
        }
    }

    #[test]
    fn a_list_of_peers_that_is_announced_and_does_not_come_takes_no_memory() {
        let mut peers = Writer::of(message::RESPONSE);
        peers.u64(4).u8(1).u8(1).u32(13).u64(u64::MAX);
        assert_eq!(decode(&peers.0), Err(NotAMessage("it is cut short")));
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(kind in 0..7u32, bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            let _ = decode(&[&kind.to_le_bytes()[..], &bytes].concat());
        }
    }
}
