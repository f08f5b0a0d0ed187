//! Keeps a link with each configured neighbour.

use super::command::Command;
use super::handshake::LinkKey;
use super::presence::Presence;
use super::status::DialStatus;
use bitcoin::secp256k1::PublicKey;
use blvm_mesh_core::id::NodeId;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A link that lasted so long was a good one: dial again at once when it ends.
const GOOD_LINK: Duration = Duration::from_secs(1);

/// A neighbour to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// Its key.
    pub public_key: PublicKey,
    /// `HOST:PORT`.
    pub address: String,
}

/// Dials one neighbour whenever there is no link with it, for as long as the
/// engine runs.
pub(crate) async fn keep(
    peer: PeerAddress,
    identity: Arc<LinkKey>,
    presence: Arc<Presence>,
    engine: async_channel::Sender<Command>,
    status: Arc<DialStatus>,
) {
    let id = NodeId::from_public_key(&peer.public_key);
    let mut pause = FIRST_PAUSE;
    while !engine.is_closed() {
        let (up, watch) = async_channel::bounded::<Infallible>(1);
        let mut linked = None;
        match identity.dial(&peer.address, &peer.public_key).await {
            Ok(mut established) => {
                linked = Some(Instant::now());
                established.up = Some(up);
                if engine.send(Command::LinkUp(Box::new(established))).await.is_err() {
                    return;
                }
                // Either the engine takes it, or it refuses and drops the sender.
                let _ = watch.recv().await;
            }
            Err(error) => {
                tracing::debug!(peer = %id, address = peer.address, %error, "cannot connect");
                status.failed(id, error.to_string());
            }
        }
        presence.absent(&id).await;
        if linked.is_some_and(|since| since.elapsed() >= GOOD_LINK) {
            pause = FIRST_PAUSE;
            continue;
        }
        smol::Timer::after(jittered(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        presence.absent(&id).await;
    }
}

/// Between three quarters and five quarters of the pause, so that neighbours that
/// lost each other do not meet again and again.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 2];
    // Without random bytes the pause is merely shorter.
    let _ = getrandom::fill(&mut random);
    let part = f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX);
    pause.mul_f64(0.75 + 0.5 * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_in_its_bounds() {
        let pauses: Vec<_> = (0..1000).map(|_| jittered(FIRST_PAUSE)).collect();
        let (low, high) = (FIRST_PAUSE.mul_f64(0.75), FIRST_PAUSE.mul_f64(1.25));
        assert!(pauses.iter().all(|p| (low..=high).contains(p)));
        assert!(pauses.iter().max() > pauses.iter().min());
    }
}
