//! The connections of a bridge, where datagrams find theirs.

use super::Signal;
use super::channel::{Channel, Failure};
use super::control::{Control, Flags, Kind, random_id};
use super::message::Magic;
use super::narrow::Narrow;
use super::traffic::Traffic;
use super::{headers, transaction};
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::policy::DetectedProtocol;
use blvm_mesh_core::time::Micros;
use smol::channel::{Receiver, Sender};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections that one other node may open here.
const PER_NODE: usize = 8;
/// Answers to datagrams of connections that are not known, which wait to be sent; beyond that there
/// is none.
const RESETS: usize = 16;
/// What is said about transactions, and about headers, and waits; of more nothing is heard.
const ABOUT: usize = 16;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names a connection: the other node, and a random number that nobody off its route can guess.
pub(crate) type Key = (NodeId, u64);

/// A connection, shared by its tasks and the engine.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: NodeId,
    pub(crate) id: u64,
    /// Whether this end has opened it: then a Bitcoin node has connected here.
    pub(crate) opened: bool,
    pub(crate) since: Micros,
    /// The neighbour that its first datagram came from; `None`: it was opened here.
    from: Option<NodeId>,
    pub(crate) channel: Mutex<Channel>,
    pub(crate) traffic: Mutex<Traffic>,
    /// What passes while the route is narrow.
    pub(crate) narrow: Mutex<Narrow>,
    /// Something may be sent to the other end.
    pub(crate) to_send: Signal,
    /// Something came from there.
    pub(crate) came: Signal,
    /// The channel may take more from the node at this end.
    pub(crate) room: Signal,
}

impl Connection {
    fn new(
        magic: Magic,
        (peer, id): Key,
        opened: bool,
        from: Option<NodeId>,
        now: Micros,
    ) -> Arc<Self> {
        Arc::new(Self {
            peer,
            id,
            opened,
            since: now,
            from,
            channel: Mutex::new(Channel::new(magic, id, opened, now)),
            traffic: Mutex::default(),
            narrow: Mutex::default(),
            to_send: Signal::default(),
            came: Signal::default(),
            room: Signal::default(),
        })
    }

    pub(crate) fn channel(&self) -> MutexGuard<'_, Channel> {
        lock(&self.channel)
    }

    fn receive(&self, now: Micros, control: &Control, messages: &[u8]) {
        self.channel().receive(now, control, messages);
        self.to_send.give();
        self.came.give();
        self.room.give();
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Table {
    magic: Magic,
    /// Connections that others may open here at once; 0: this node is no gateway.
    accepts: usize,
    connections: Mutex<HashMap<Key, Arc<Connection>>>,
    /// The node is stopping; changed and asked with the connections locked.
    ended: AtomicBool,
    accept: Sender<Arc<Connection>>,
    reset: Sender<(NodeId, Control)>,
    about: Sender<About>,
    headers: Sender<About>,
}

/// What the bridge's tasks take from the table.
#[derive(Debug)]
pub(crate) struct Arrivals {
    /// Connections that others have opened.
    pub(crate) accepted: Receiver<Arc<Connection>>,
    /// Answers to send.
    pub(crate) resets: Receiver<(NodeId, Control)>,
    /// What is said about transactions.
    pub(crate) about: Receiver<About>,
    /// What is said about headers.
    pub(crate) headers: Receiver<About>,
}

/// What a node says about a transaction, or about headers.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) source: NodeId,
    /// The neighbour that brought it.
    pub(crate) from: NodeId,
    /// Names the hand-over, or the question.
    pub(crate) id: u64,
    /// Whether the sender has no more to say.
    pub(crate) end: bool,
    pub(crate) messages: Vec<u8>,
}

impl Table {
    pub(crate) fn new(magic: Magic, accepts: usize) -> (Arc<Self>, Arrivals) {
        let (accept, accepted) = smol::channel::bounded(accepts.max(1));
        let (reset, resets) = smol::channel::bounded(RESETS);
        let connections = Mutex::default();
        let (about, told) = smol::channel::bounded(ABOUT);
        let (headers, of_headers) = smol::channel::bounded(ABOUT);
        let ended = AtomicBool::new(false);
        let table = Self { magic, accepts, connections, ended, accept, reset, about, headers };
        let headers = of_headers;
        (Arc::new(table), Arrivals { accepted, resets, about: told, headers })
    }

    /// Takes a datagram that came from a node, by way of a neighbour, if it is the bridge's. One whose
    /// messages nobody has checked is not, such as a paid one.
    pub(crate) fn take(
        &self,
        now: Micros,
        source: NodeId,
        from: NodeId,
        protocol: DetectedProtocol,
        payload: &[u8],
    ) -> bool {
        // Governance has the same framing, and the node at the other end may speak it.
        let checked = [DetectedProtocol::BitcoinP2P, DetectedProtocol::CommonsGovernance];
        if !checked.contains(&protocol) {
            return false;
        }
        let Some((control, messages)) = Control::read(self.magic, payload) else { return false };
        let told = match control.kind {
            Kind::Transaction => Some((&self.about, transaction::MAX_LEN)),
            Kind::Headers => Some((&self.headers, headers::MAX_LEN)),
            Kind::Connection => None,
        };
        if let Some((told, most)) = told {
            if messages.len() <= most {
                let (id, end, messages) = (control.id, control.flags.end, messages.to_vec());
                // Whoever is not answered asks again.
                let _ = told.try_send(About { source, from, id, end, messages });
            }
            return true;
        }
        let key = (source, control.id);
        let known = lock(&self.connections).get(&key).cloned();
        let connection = match known {
            Some(known) => Some(known),
            None if control.flags.open && !control.flags.reset => self.accept(now, key, from),
            None => None,
        };
        match connection {
            Some(connection) => connection.receive(now, &control, messages),
            None if control.flags.reset => {}
            None => {
                let flags = Flags { reset: true, ..Flags::default() };
                let answer = Control::of(Kind::Connection, control.id, flags);
                let _ = self.reset.try_send((source, answer));
            }
        }
        true
    }

    /// A connection that another node opens, if there is a place for it. Nobody takes more than
    /// half of the places by one neighbour, whatever sources it names.
    fn accept(&self, now: Micros, key: Key, from: NodeId) -> Option<Arc<Connection>> {
        let mut connections = lock(&self.connections);
        let count = |is: &dyn Fn(&Connection) -> bool| {
            connections.values().filter(|c| !c.opened && is(c)).count()
        };
        let of_neighbour = self.accepts.div_ceil(2).max(1);
        let full = self.ended.load(Relaxed)
            || count(&|_| true) >= self.accepts
            || count(&|c| c.peer == key.0) >= PER_NODE.min(of_neighbour)
            || count(&|c| c.from == Some(from)) >= of_neighbour;
        if full {
            return None;
        }
        let new = Connection::new(self.magic, key, false, Some(from), now);
        self.accept.try_send(new.clone()).ok()?;
        connections.insert(key, new.clone());
        Some(new)
    }

    /// Opens a connection to a gateway. `None`: the node is stopping, or has no random bytes, without
    /// which others could guess the connection.
    pub(crate) fn open(&self, now: Micros, gateway: NodeId) -> Option<Arc<Connection>> {
        let key = (gateway, random_id()?);
        let new = Connection::new(self.magic, key, true, None, now);
        let mut connections = lock(&self.connections);
        if self.ended.load(Relaxed) {
            return None;
        }
        connections.insert(key, new.clone());
        Some(new)
    }

    /// The node stops: every connection ends, which its tasks tell the other end, and none begins.
    pub(crate) fn end(&self) {
        let mut connections = lock(&self.connections);
        self.ended.store(true, Relaxed);
        // Those that no task has taken yet.
        connections.retain(|_, connection| Arc::strong_count(connection) > 1);
        for connection in connections.values() {
            connection.channel().fail(Failure::Stopping);
            connection.to_send.give();
        }
    }

    pub(crate) fn remove(&self, connection: &Connection) {
        lock(&self.connections).remove(&(connection.peer, connection.id));
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.connections).is_empty()
    }

    /// Connections, the oldest first.
    pub(crate) fn list(&self) -> Vec<Arc<Connection>> {
        let mut all: Vec<_> = lock(&self.connections).values().cloned().collect();
        all.sort_by_key(|connection| connection.since);
        all
    }

    /// Connections that this end has opened to a node.
    pub(crate) fn opened_to(&self, gateway: &NodeId) -> usize {
        lock(&self.connections).values().filter(|c| c.opened && c.peer == *gateway).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::message;

    const MAGIC: Magic = [0xfa, 0xbf, 0xb5, 0xda];

    fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    fn datagram(kind: Kind, id: u64, flags: Flags) -> Vec<u8> {
        let mut out = Vec::new();
        Control::of(kind, id, flags).write(MAGIC, &mut out);
        message::write(MAGIC, "verack", &[], &mut out);
        out
    }

    fn take(table: &Table, source: NodeId, from: NodeId, payload: &[u8]) -> bool {
        table.take(0, source, from, DetectedProtocol::BitcoinP2P, payload)
    }

    fn opening(id: u64) -> Vec<u8> {
        datagram(Kind::Connection, id, Flags { open: true, ..Flags::default() })
    }

    /// How many of some connections are taken: the other end, and the neighbour it is behind.
    fn taken(accepts: usize, opened: impl IntoIterator<Item = (u8, u8)>) -> usize {
        let (table, arrivals) = Table::new(MAGIC, accepts);
        for (id, (source, from)) in (0..).zip(opened) {
            assert!(take(&table, node(source), node(from), &opening(id)));
        }
        let taken = table.list().len();
        assert_eq!(arrivals.accepted.len(), taken);
        taken
    }

    #[test]
    fn places_are_bounded_in_all_by_node_and_by_neighbour() {
        assert_eq!(taken(0, [(1, 1)]), 0, "no gateway");
        assert_eq!(taken(1, [(1, 1), (2, 2)]), 1);
        assert_eq!(taken(6, (0..20).map(|n| (n, n))), 6);
        assert_eq!(taken(100, (0..20).map(|n| (1, n))), PER_NODE);
        assert_eq!(taken(4, (0..20).map(|n| (1, n))), 2, "one node has not all of a few");
        assert_eq!(taken(20, (0..20).map(|n| (n, 1))), 10, "whatever sources are named");
        assert_eq!(taken(20, (0..40).map(|n| (n, n % 2))), 20);
    }

    #[test]
    fn a_place_is_free_again_and_coming_again_takes_no_second_one() {
        let (table, arrivals) = Table::new(MAGIC, 2);
        for _ in 0..3 {
            assert!(take(&table, node(1), node(9), &opening(7)));
        }
        let one = arrivals.accepted.try_recv().unwrap();
        assert_eq!((table.list().len(), arrivals.accepted.len()), (1, 0));
        assert_eq!(
            one.channel().pop().map(|m| message::command(&m).to_owned()).as_deref(),
            Some("verack")
        );
        // Another one behind the same neighbour is told so.
        take(&table, node(2), node(9), &opening(8));
        let (to, told) = arrivals.resets.try_recv().unwrap();
        assert_eq!((to, told.id, told.flags.reset), (node(2), 8, true));
        table.remove(&one);
        take(&table, node(2), node(9), &opening(8));
        assert_eq!(table.list().len(), 1);
        // Those opened here take none of the places.
        table.open(0, node(2)).unwrap();
        table.open(0, node(2)).unwrap();
        assert_eq!(table.opened_to(&node(2)), 2);
        take(&table, node(3), node(8), &opening(9));
        assert_eq!(table.list().len(), 4);
    }

    #[test]
    fn only_the_other_end_of_a_connection_is_heard_and_only_what_is_unknown_is_reset() {
        let (table, arrivals) = Table::new(MAGIC, 8);
        let own = table.open(0, node(1)).unwrap();
        let reset = Flags { reset: true, ..Flags::default() };
        let said = |source: u8, id: u64, flags: Flags| {
            assert!(take(&table, node(source), node(9), &datagram(Kind::Connection, id, flags)));
            own.channel().failure()
        };
        assert_eq!(said(2, own.id, reset), None, "another node");
        assert_eq!(said(1, own.id ^ 1, reset), None, "another connection");
        assert!(arrivals.resets.is_empty(), "a reset is answered by none");
        assert_eq!(said(1, own.id ^ 1, Flags::default()), None);
        assert_eq!(arrivals.resets.len(), 1);
        assert_eq!(said(1, own.id, Flags::default()), None);
        assert_eq!(arrivals.resets.len(), 1, "what is known is not reset");
        assert_eq!(said(2, 5, Flags { open: true, ..reset }), None);
        assert_eq!((table.list().len(), arrivals.resets.len()), (1, 1), "and opens nothing");
        (0..100).for_each(|id| _ = said(3, id, Flags::default()));
        assert_eq!(arrivals.resets.len(), RESETS);
        assert_eq!(said(1, own.id, reset), Some(Failure::Reset));
    }

    #[test]
    fn governance_passes_as_bitcoin_does() {
        let (table, arrivals) = Table::new(MAGIC, 8);
        let governance = DetectedProtocol::CommonsGovernance;
        assert!(table.take(0, node(1), node(1), governance, &opening(1)));
        assert_eq!(arrivals.accepted.len(), 1);
    }

    #[test]
    fn who_is_no_gateway_opens_connections_all_the_same() {
        let (table, arrivals) = Table::new(MAGIC, 0);
        drop(arrivals);
        assert!(table.open(0, node(1)).is_some());
    }

    #[test]
    fn what_is_not_of_a_bridge_is_left_to_others() {
        let (table, arrivals) = Table::new(MAGIC, 8);
        let mut other = Vec::new();
        message::write(MAGIC, "ping", &[0; 8], &mut other);
        let mut foreign = Vec::new();
        let open = Flags { open: true, ..Flags::default() };
        Control::of(Kind::Connection, 1, open).write([1, 2, 3, 4], &mut foreign);
        for payload in [&b""[..], b"bytes", &other, &foreign] {
            assert!(!take(&table, node(1), node(1), payload));
        }
        for unchecked in [DetectedProtocol::Unknown, DetectedProtocol::StratumV2] {
            assert!(!table.take(0, node(1), node(1), unchecked, &opening(1)));
        }
        // What is said about transactions opens nothing, and of much a part is heard.
        for id in 0..100 {
            assert!(take(&table, node(1), node(1), &datagram(Kind::Transaction, id, open)));
            assert!(take(&table, node(1), node(1), &datagram(Kind::Headers, id, open)));
        }
        assert_eq!((table.list().len(), arrivals.about.len()), (0, ABOUT));
        assert_eq!(arrivals.headers.len(), ABOUT);
        assert_eq!(arrivals.headers.try_recv().unwrap().id, 0);
        assert!(arrivals.accepted.is_empty() && arrivals.resets.is_empty());
    }

    #[test]
    fn all_connections_end_with_the_node() {
        let (table, arrivals) = Table::new(MAGIC, 8);
        let own = table.open(0, node(1)).unwrap();
        take(&table, node(2), node(2), &opening(1));
        table.end();
        assert!(table.list().iter().all(|c| c.channel().failure() == Some(Failure::Stopping)));
        assert_eq!(table.list().len(), 2);
        take(&table, node(3), node(3), &opening(2));
        assert!(
            table.open(0, node(1)).is_none() && table.list().len() == 2,
            "and there is none after"
        );
        assert_eq!((arrivals.accepted.len(), own.peer), (1, node(1)));
    }
}
