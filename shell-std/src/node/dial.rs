//! Keeps a link with each configured neighbour.

use super::command::Command;
use super::handshake::LinkKey;
use super::presence::Presence;
use super::status::DialStatus;
use crate::identity::PeerAddress;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A link that lasted so long was a good one: dial again at once when it ends.
const GOOD_LINK: Duration = Duration::from_secs(1);

/// Pauses between attempts: the first, and the longest that doubling leads to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pauses {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

/// Dials one neighbour whenever there is no link with it, for as long as the
/// engine runs.
pub(crate) async fn keep(
    peer: PeerAddress,
    identity: Arc<LinkKey>,
    presence: Arc<Presence>,
    engine: smol::channel::Sender<Command>,
    status: Arc<DialStatus>,
    pauses: Pauses,
) {
    let (id, address) = (peer.node_id(), peer.host_port());
    let mut pause = pauses.first;
    while !engine.is_closed() {
        let (up, watch) = smol::channel::bounded::<Infallible>(1);
        let mut linked = None;
        match identity.dial(&address, &peer.public_key).await {
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
                tracing::debug!(peer = %id, address, %error, "cannot connect");
                status.failed(id, error.to_string());
            }
        }
        presence.absent(&id).await;
        if linked.is_some_and(|since| since.elapsed() >= GOOD_LINK) {
            pause = pauses.first;
            continue;
        }
        smol::Timer::after(jittered(pause)).await;
        pause = (pause * 2).min(pauses.longest);
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

    const PAUSE: Duration = Duration::from_millis(100);

    #[test]
    fn jitter_stays_in_its_bounds() {
        let pauses: Vec<_> = (0..1000).map(|_| jittered(PAUSE)).collect();
        let (low, high) = (PAUSE.mul_f64(0.75), PAUSE.mul_f64(1.25));
        assert!(pauses.iter().all(|p| (low..=high).contains(p)));
        assert!(pauses.iter().max() > pauses.iter().min());
    }
}
