//! Links over TCP: BOLT 8's handshake and frames.
//!
//! ```text
//! dial, listen, lan --> handshake --> link --> read:  decrypts, puts packets together --> engine
//!                                    \--> write: encrypts what waits <-- engine
//! ```

mod common;
mod dial;
pub(super) mod dialers;
pub(super) mod half_open;
mod handshake;
pub(super) mod lan;
mod link;
mod listen;
mod read;
mod write;

use super::{Limits, Ways};
use crate::config::Settings;
use crate::node::link::egress::EgressLimits;
use dialers::Dialers;
use half_open::HalfOpen;
use lan::LanStatus;
use link::Carrier;
use smol::{Async, Task};
use std::net::TcpListener;
use std::sync::Arc;
#[cfg(test)]
use {
    crate::aead::Ring,
    blvm_mesh_core::link::transport::{Receiver, Sender},
};

/// Unfinished handshakes of accepted connections.
const MOST_HANDSHAKES: usize = 256;
/// Bytes of control packets that may wait on a link.
const CONTROL: usize = 128 * 1024;

/// What [`start`] has started.
pub(super) struct Started {
    /// The tasks that make new links, but for the dialers.
    pub(super) tasks: Vec<Task<()>>,
    pub(super) half_open: Arc<HalfOpen>,
    pub(super) dialers: Arc<Dialers>,
    pub(super) lan: Arc<LanStatus>,
}

/// Starts listening, dialling the neighbours reached by TCP, and looking for some on LANs.
pub(super) fn start(
    listener: Option<Async<TcpListener>>,
    settings: &Settings,
    ways: &Ways,
) -> Started {
    let high = settings.shell.queue_bytes;
    let max_packet = settings.config.max_packet as usize;
    let egress = EgressLimits { high, low: high / 2, control: CONTROL, max_packet };
    let limits = Limits { egress, keepalive: None, round_trip: 0, is_watched: false };
    let carrier = Arc::new(Carrier { ways: ways.clone(), limits });
    let half_open = Arc::new(HalfOpen::new(MOST_HANDSHAKES));
    let mut tasks = Vec::new();
    if let Some(listener) = listener {
        let accept = listen::accept(listener, half_open.clone(), carrier.clone());
        tasks.push(ways.executor.spawn(accept));
    }
    let (looking, lan) = lan::start(settings, &carrier, &half_open);
    tasks.extend(looking);
    let dialers = Arc::new(Dialers::new(carrier));
    dialers.set(&settings.peers);
    Started { tasks, half_open, dialers, lan }
}

/// Connects with a key of its own, and shakes hands.
#[cfg(test)]
pub(crate) async fn shake_hands(
    key: &super::LinkKey,
    at: &str,
    remote: &secp256k1::PublicKey,
) -> (Async<std::net::TcpStream>, Sender<Ring>, Receiver<Ring>) {
    let connection = key.dial(at, remote).await.unwrap();
    (connection.stream, connection.sender, connection.receiver)
}
