//! Keeps a link with each configured neighbour.

use super::command::Command;
use super::handshake::LinkKey;
use super::presence::Presence;
use super::status::DialStatus;
use crate::address::HostPort;
use blvm_mesh_core::id::NodeId;
use secp256k1::PublicKey;
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

/// How long to wait before the next attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pauses: Pauses,
    pause: Duration,
}

impl Backoff {
    pub(crate) fn new(pauses: Pauses) -> Self {
        Self { pauses, pause: pauses.first }
    }

    /// The pause after an attempt whose link lasted so long, if there was one; none after
    /// a good link.
    pub(crate) fn after(&mut self, link: Option<Duration>) -> Option<Duration> {
        if link.is_some_and(|lasted| lasted >= GOOD_LINK) {
            self.pause = self.pauses.first;
            return None;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(self.pauses.longest);
        Some(jittered(pause))
    }
}

/// Dials one neighbour whenever there is no link with it, for as long as the
/// engine runs.
pub(crate) async fn keep(
    public_key: PublicKey,
    at: HostPort,
    identity: Arc<LinkKey>,
    presence: Arc<Presence>,
    engine: smol::channel::Sender<Command>,
    status: Arc<DialStatus>,
    pauses: Pauses,
) {
    let (id, address) = (NodeId::from_public_key(&public_key), at.to_string());
    let mut backoff = Backoff::new(pauses);
    while !engine.is_closed() {
        let (up, watch) = smol::channel::bounded::<Infallible>(1);
        let mut linked = None;
        match identity.dial(&address, &public_key).await {
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
                status.failed(id, &address, error.to_string());
            }
        }
        presence.absent(&id).await;
        if let Some(pause) = backoff.after(linked.map(|since| since.elapsed())) {
            smol::Timer::after(pause).await;
            presence.absent(&id).await;
        }
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

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_good_link() {
        let mut backoff = Backoff::new(Pauses { first: PAUSE, longest: PAUSE * 3 });
        let mut is_about = |link, expected: Duration| {
            let pause = backoff.after(link).unwrap();
            assert!((expected.mul_f64(0.75)..=expected.mul_f64(1.25)).contains(&pause));
        };
        is_about(None, PAUSE);
        is_about(Some(GOOD_LINK / 2), PAUSE * 2);
        is_about(None, PAUSE * 3);
        is_about(None, PAUSE * 3);
        assert_eq!(backoff.after(Some(GOOD_LINK)), None);
        assert!(backoff.after(None).unwrap() <= PAUSE.mul_f64(1.25));
    }
}
