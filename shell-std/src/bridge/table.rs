//! The connections of a bridge, where datagrams find theirs.

use super::Signal;
use super::channel::Channel;
use super::control::{Control, Flags, Kind};
use super::message::Magic;
use super::narrow::Narrow;
use super::traffic::Traffic;
use super::transaction;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::time::Micros;
use smol::channel::{Receiver, Sender};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections that one other node may open here.
const PER_NODE: usize = 8;
/// Answers to datagrams of connections that are not known, which wait to be sent; beyond that there
/// is none.
const RESETS: usize = 16;
/// What is said about transactions and waits; of more nothing is heard.
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
    accept: Sender<Arc<Connection>>,
    reset: Sender<(NodeId, Control)>,
    about: Sender<About>,
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
}

/// What a node says about a transaction.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) source: NodeId,
    /// Names the hand-over.
    pub(crate) id: u64,
    pub(crate) messages: Vec<u8>,
}

impl Table {
    pub(crate) fn new(magic: Magic, accepts: usize) -> (Arc<Self>, Arrivals) {
        let (accept, accepted) = smol::channel::bounded(accepts.max(1));
        let (reset, resets) = smol::channel::bounded(RESETS);
        let connections = Mutex::default();
        let (about, told) = smol::channel::bounded(ABOUT);
        let table = Self { magic, accepts, connections, accept, reset, about };
        (Arc::new(table), Arrivals { accepted, resets, about: told })
    }

    /// Takes a datagram that came from a node, by way of a neighbour, if it is the bridge's.
    pub(crate) fn take(&self, now: Micros, source: NodeId, from: NodeId, payload: &[u8]) -> bool {
        let Some((control, messages)) = Control::read(self.magic, payload) else { return false };
        if control.kind == Kind::Transaction {
            if messages.len() <= transaction::MAX_LEN {
                let (id, messages) = (control.id, messages.to_vec());
                // Whoever is not answered asks again.
                let _ = self.about.try_send(About { source, id, messages });
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
        let full = count(&|_| true) >= self.accepts
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

    /// Opens a connection to a gateway.
    pub(crate) fn open(&self, now: Micros, gateway: NodeId) -> Arc<Connection> {
        let mut id = [0; 8];
        // Without random bytes connections can be guessed, and still be told apart.
        let _ = getrandom::fill(&mut id);
        let key = (gateway, u64::from_le_bytes(id));
        let new = Connection::new(self.magic, key, true, None, now);
        lock(&self.connections).insert(key, new.clone());
        new
    }

    pub(crate) fn remove(&self, connection: &Connection) {
        lock(&self.connections).remove(&(connection.peer, connection.id));
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
