//! Finds neighbours on LANs: on each interface that can be used, as long as it can, beacons are
//! sent, those of others listened for, and their senders dialled as strangers.

mod sockets;

use super::half_open::HalfOpen;
use super::handshake::Connection;
use super::link::Carrier;
use super::listen;
use crate::config::Settings;
use crate::jitter::jittered;
use crate::lan::LanSettings;
use crate::lan::beacon::{self, Beacon};
use crate::lan::candidates::{Candidates, Dial, Heard};
use crate::lan::interfaces::{self, Interface};
use crate::rpc::types::LanInterface;
use blvm_mesh_core::id::{Network, NodeId};
use secp256k1::PublicKey;
use smol::channel::{Receiver, Sender};
use smol::{Async, Task, Timer};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often it is looked which interfaces there are.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is looked who is to be dialled.
const TICK: Duration = Duration::from_secs(1);
/// Beacons that are read in a row, and the pause then: a flood of them is not to take the
/// processor from the links.
const IN_A_ROW: (u32, Duration) = (256, Duration::from_millis(10));

/// What is known of one interface.
#[derive(Debug, Default)]
struct Seen {
    address: String,
    candidates: usize,
    beacons: u64,
    error: Option<String>,
}

/// The interfaces in use, for status reports.
#[derive(Debug, Default)]
pub(in super::super) struct LanStatus(Mutex<BTreeMap<String, Seen>>);

impl LanStatus {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, name: &str, note: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.lock().get_mut(name) {
            note(seen);
        }
    }

    pub(in super::super) fn report(&self) -> Vec<LanInterface> {
        let seen = self.lock();
        let report = |(name, seen): (&String, &Seen)| LanInterface {
            name: name.clone(),
            address: seen.address.clone(),
            candidates: seen.candidates,
            beacons: seen.beacons,
            error: seen.error.clone(),
        };
        seen.iter().map(report).collect()
    }
}

/// What all interfaces need.
struct Lan {
    settings: LanSettings,
    network: Network,
    key: [u8; 33],
    carrier: Arc<Carrier>,
    half_open: Arc<HalfOpen>,
    status: Arc<LanStatus>,
}

/// Looks for neighbours on LANs, if that is configured, until the task is dropped.
pub(super) fn start(
    settings: &Settings,
    carrier: &Arc<Carrier>,
    half_open: &Arc<HalfOpen>,
) -> (Option<Task<()>>, Arc<LanStatus>) {
    let status = Arc::new(LanStatus::default());
    if !settings.lan.enabled {
        return (None, status);
    }
    let lan = Arc::new(Lan {
        settings: settings.lan.clone(),
        network: settings.config.network,
        key: carrier.ways.key.keypair.public_key().serialize(),
        carrier: carrier.clone(),
        half_open: half_open.clone(),
        status: status.clone(),
    });
    (Some(carrier.ways.executor.spawn(lan.watch())), status)
}

impl Lan {
    /// Uses each interface as long as it is there.
    async fn watch(self: Arc<Self>) {
        let mut used = Vec::<(Interface, Task<()>)>::new();
        let mut failing = false;
        loop {
            let patterns = self.settings.interfaces.clone();
            match smol::unblock(move || interfaces::usable(&patterns)).await {
                Ok(there) => {
                    failing = false;
                    // One that has failed is tried again: its address may have been new.
                    used.retain(|(known, task)| there.contains(known) && !task.is_finished());
                    self.status.lock().retain(|name, _| there.iter().any(|i| i.name == *name));
                    for new in there {
                        if !used.iter().any(|(known, _)| *known == new) {
                            let work = self.clone().using(new.clone());
                            used.push((new, self.carrier.ways.executor.spawn(work)));
                        }
                    }
                }
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    tracing::warn!(%error, "the system does not tell its network interfaces");
                }
                Err(_) => {}
            }
            Timer::after(LOOK).await;
        }
    }

    async fn using(self: Arc<Self>, interface: Interface) {
        let address = interface.address.to_string();
        let is_new = {
            let mut all = self.status.lock();
            let is_new = !all.contains_key(&interface.name);
            let seen = all.entry(interface.name.clone()).or_default();
            (seen.address, seen.candidates) = (address.clone(), 0);
            is_new
        };
        if is_new {
            let name = &interface.name;
            tracing::info!(interface = name, address, "looking for neighbours on a LAN");
        }
        let Err(error) = self.clone().find_on(&interface).await else { return };
        let told = error.to_string();
        self.status.note(&interface.name, |seen| {
            // An address that is new cannot be used for a second or two (RFC 4862, section 5.4).
            let passes = [io::ErrorKind::AddrNotAvailable, io::ErrorKind::NetworkUnreachable];
            if seen.error.as_ref() != Some(&told) && !passes.contains(&error.kind()) {
                let name = &interface.name;
                tracing::warn!(interface = name, %error, "neighbours on a LAN cannot be found");
            }
            seen.error = Some(told);
        });
    }

    /// Finds neighbours on one interface, until something fails.
    async fn find_on(self: Arc<Self>, interface: &Interface) -> io::Result<()> {
        let LanSettings { beacon, listen, group, port, tcp_port, .. } = self.settings;
        let group = SocketAddrV6::new(group, port, 0, interface.index);
        let own = SocketAddrV6::new(interface.address, 0, 0, interface.index);
        let found = Candidates::new(self.network, self.key, beacon);
        let found = Arc::new(Mutex::new(found));
        let (wake, woken) = smol::channel::bounded(1);
        // Dropped with this future: who is being dialled is dialled no more.
        let mut tasks = Vec::new();
        let (failed, failure) = smol::channel::bounded(1);
        let executor = &self.carrier.ways.executor;
        if listen {
            let heard = Async::new(sockets::listening(group)?)?;
            let hear = self.clone().hear(heard, interface.clone(), found.clone(), wake);
            tasks.push(executor.spawn(until_it_fails(hear, failed.clone())));
            let dial = self.clone().dial(interface.clone(), found, woken);
            tasks.push(executor.spawn(dial));
        }
        if beacon {
            let mut at = own;
            at.set_port(tcp_port);
            let listener = sockets::taking_links(at)?;
            let port = listener.local_addr()?.port();
            let accept =
                listen::accept(Async::new(listener)?, self.half_open.clone(), self.carrier.clone());
            tasks.push(executor.spawn(accept));
            let sender = Async::<UdpSocket>::bind(SocketAddr::V6(own))?;
            let beacon = Beacon { network: self.network, listens: listen, port, key: self.key };
            let send = send(sender, group, beacon.bytes(), self.settings.interval);
            tasks.push(executor.spawn(until_it_fails(send, failed.clone())));
        }
        self.status.note(&interface.name, |seen| seen.error = None);
        match failure.recv().await {
            Ok(error) => Err(error),
            // Never: an end of it is here.
            Err(_) => Ok(()),
        }
    }

    /// Notes who sends beacons.
    async fn hear(
        self: Arc<Self>,
        socket: Async<UdpSocket>,
        interface: Interface,
        found: Arc<Mutex<Candidates>>,
        wake: Sender<()>,
    ) -> io::Result<()> {
        // Longer ones are no beacons.
        let mut buffer = [0; beacon::LEN + 1];
        let mut in_a_row = 0;
        loop {
            let (len, from) = socket.recv_from(&mut buffer).await?;
            in_a_row += 1;
            if in_a_row >= IN_A_ROW.0 {
                in_a_row = 0;
                Timer::after(IN_A_ROW.1).await;
            }
            let SocketAddr::V6(from) = from else { continue };
            if !from.ip().is_unicast_link_local() || from.scope_id() != interface.index {
                continue;
            }
            let Some(beacon) = buffer.get(..len).and_then(Beacon::parse) else { continue };
            let (heard, candidates) = {
                let mut found = lock(&found);
                (found.heard(Instant::now(), *from.ip(), &beacon), found.len())
            };
            if heard != Heard::NotMeant {
                self.status.note(&interface.name, |seen| {
                    (seen.candidates, seen.beacons) = (candidates, seen.beacons.saturating_add(1));
                });
            }
            if heard == Heard::New {
                // If it is woken already, that will do.
                let _ = wake.try_send(());
            }
        }
    }

    /// Dials who is to be dialled.
    async fn dial(
        self: Arc<Self>,
        interface: Interface,
        found: Arc<Mutex<Candidates>>,
        woken: Receiver<()>,
    ) {
        let mut attempts: Vec<Task<()>> = Vec::new();
        loop {
            attempts.retain(|attempt| !attempt.is_finished());
            while let Some(dial) = lock(&found).next(Instant::now(), |key| self.has_link(key)) {
                let attempt = self.clone().attempt(dial, interface.clone(), found.clone());
                attempts.push(self.carrier.ways.executor.spawn(attempt));
            }
            let candidates = lock(&found).len();
            self.status.note(&interface.name, |seen| seen.candidates = candidates);
            let tick = async {
                Timer::after(TICK).await;
            };
            let woken = async {
                if woken.recv().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            smol::future::or(tick, woken).await;
        }
    }

    /// Whether a node is not to be dialled: it has a link, or gets none.
    fn has_link(&self, key: &[u8; 33]) -> bool {
        let (node, ways) = (NodeId::from_compressed(key), &self.carrier.ways);
        ways.presence.is_present(&node) || ways.bans.is_banned(&node)
    }

    /// Dials once, and waits until the link ends.
    async fn attempt(
        self: Arc<Self>,
        dial: Dial,
        interface: Interface,
        found: Arc<Mutex<Candidates>>,
    ) {
        let (address, key) = dial.who;
        let at = SocketAddrV6::new(address, dial.port, 0, interface.index).to_string();
        let name = &interface.name;
        let result = match PublicKey::from_slice(&key) {
            Ok(key) => self.carrier.ways.key.dial(&at, &key).await.map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let lasted = match result {
            Ok(connection) => {
                lock(&found).linked(&dial.who);
                let (since, key) = (Instant::now(), connection.remote);
                tracing::info!(interface = name, %key, %address, "found a neighbour on a LAN");
                let connection = Connection { found: true, ..connection };
                // Nothing is ever sent: this ends when the link does, or is refused.
                let _ = self.carrier.carry(connection).recv().await;
                Some(since.elapsed())
            }
            Err(error) => {
                let key = hex::encode(key);
                tracing::debug!(interface = name, key, at, "no link for a beacon: {error}");
                None
            }
        };
        lock(&found).ended(Instant::now(), &dial.who, lasted);
    }
}

/// Sends beacons.
async fn send(
    socket: Async<UdpSocket>,
    group: SocketAddrV6,
    beacon: [u8; beacon::LEN],
    interval: Duration,
) -> io::Result<()> {
    loop {
        socket.send_to(&beacon, group).await?;
        Timer::after(jittered(interval)).await;
    }
}

async fn until_it_fails(work: impl Future<Output = io::Result<()>>, failed: Sender<io::Error>) {
    if let Err(error) = work.await {
        // One is enough.
        let _ = failed.try_send(error);
    }
}

fn lock(found: &Mutex<Candidates>) -> MutexGuard<'_, Candidates> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}
