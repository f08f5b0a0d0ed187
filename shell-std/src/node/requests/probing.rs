//! Probes that clients ask for: one to a node, and one to each node of a route.

use super::super::engine::Command;
use super::super::progress::Progress;
use super::handle::{Gone, NodeHandle};
use super::{LONGEST_WAIT, Service};
use crate::probe::{FULL, Heard, LEAST, MOST, Told};
use crate::rpc::types::{
    self, FindRoute, FoundRoute, Ping, Pinged as Answer, Stopped, Trace, Traced, TracedHop,
};
use crate::rpc::{RpcError, words};
use blvm_mesh_core::id::{HopId, NodeId};
use blvm_mesh_core::mesh::MeshError;
use blvm_mesh_core::wire::route_error::Cause;
use smol::channel::Receiver;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// News of one probe: sent or refused, and stopped.
const REPORTS: usize = 2;

/// What became of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fared {
    /// Its answer came, so long after it was to be sent. Any relay of the way back could have written it.
    Answered(Duration, Told),
    /// A relay reports that it stopped it, which proves nothing.
    Stopped(NodeId, Cause),
    /// This node did not send it.
    Refused(MeshError),
    /// There is no route.
    NoRoute,
    /// Nothing was heard in time.
    Silence,
}

/// A probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinged {
    /// Intermediate nodes of the route that it took, if it was sent.
    pub relays: Option<u8>,
    /// What became of it.
    pub fared: Fared,
}

impl NodeHandle {
    /// Sends a probe to a node and waits for its answer, at most so long; where no route is known it is
    /// searched for before. `bytes` of data, as many as the answer has, are brought within
    /// [`LEAST`] and [`MOST`].
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn ping(&self, to: NodeId, bytes: usize, wait: Duration) -> Result<Pinged, Gone> {
        let late = async {
            smol::Timer::after(wait).await;
            Ok(false)
        };
        let known = self.ask(|who| Command::Route(to, who)).await?.is_some();
        // A search ends by itself; one that takes longer than anybody waits for is none that was found.
        if !known && !smol::future::or(self.find_route(to), late).await? {
            return Ok(Pinged { relays: None, fared: Fared::NoRoute });
        }
        let (heard, answer) = smol::channel::bounded(1);
        let (progress, told) = smol::channel::bounded(REPORTS);
        let command = Command::Ping((to, bytes.clamp(LEAST, MOST)), heard, progress);
        self.commands.send(command).await.map_err(|_| Gone)?;
        Ok(follow(answer, told, wait).await)
    }

    /// The identities of the nodes of a route, where they are found within a time.
    async fn identities(
        &self,
        hops: &[HopId],
        wait: Duration,
    ) -> Result<Vec<Option<NodeId>>, Gone> {
        let neighbours = self.neighbours().await?;
        let mut found = Vec::new();
        for hop in hops {
            let known = neighbours.iter().find(|node| node.hop() == *hop).copied();
            found.push(async move {
                match known {
                    Some(known) => Ok(Some(known)),
                    None => self.identity(*hop, wait).await,
                }
            });
        }
        all(found).await.into_iter().collect()
    }

    /// The node of which the beginning of its identity is known. It is asked for as a group is, whose
    /// members answer in their own names: on the wire that is the same as a search for the node.
    async fn identity(&self, hop: HopId, wait: Duration) -> Result<Option<NodeId>, Gone> {
        let (found, told) = smol::channel::bounded(1);
        let find = Command::FindMembers { group: NodeId::named_by(hop), found };
        self.commands.send(find).await.map_err(|_| Gone)?;
        let answer = async {
            loop {
                match told.recv().await {
                    Ok(node) if node.hop() == hop => return Some(node),
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
        };
        let late = async {
            smol::Timer::after(wait).await;
            None
        };
        Ok(smol::future::or(answer, late).await)
    }
}

/// Waits for a probe's answer, or news that none will come.
async fn follow(answer: Receiver<Heard>, told: Receiver<Progress>, wait: Duration) -> Pinged {
    let mut relays = None;
    let heard = async {
        match answer.recv().await {
            Ok(Heard { round_trip, told }) => {
                Some(Fared::Answered(Duration::from_micros(round_trip), told))
            }
            // It was not sent, of which there is news.
            Err(_) => std::future::pending().await,
        }
    };
    let news = async {
        while let Ok(progress) = told.recv().await {
            match progress {
                Progress::Sent { hops, .. } => relays = Some(hops),
                Progress::Refused(reason) => return Some(Fared::Refused(reason)),
                Progress::Stopped { reporter, cause, .. } => {
                    return Some(Fared::Stopped(reporter, cause));
                }
                _ => {}
            }
        }
        std::future::pending().await
    };
    let late = async {
        smol::Timer::after(wait).await;
        None
    };
    let fared = smol::future::or(news, smol::future::or(heard, late)).await;
    // The news that it was sent comes before its answer.
    Pinged { relays, fared: fared.unwrap_or(Fared::Silence) }
}

/// Waits for all of some.
pub(in crate::node) async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut waiting: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    smol::future::poll_fn(|context| {
        let mut pending = false;
        for (future, done) in waiting.iter_mut().zip(&mut done) {
            if done.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(output) => *done = Some(output),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    done.into_iter().flatten().collect()
}

impl From<Pinged> for types::Fared {
    fn from(Pinged { relays, fared }: Pinged) -> Self {
        let none = Self { relays, ..Self::default() };
        match fared {
            Fared::Answered(time, told) => Self {
                answered: true,
                round_trip_us: Some(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
                told: Some(told.into()),
                ..none
            },
            Fared::Stopped(reporter, cause) => Self {
                reason: Some(format!("stopped by {reporter}: {cause}")),
                stopped: Some(Stopped { reporter, cause: cause.to_string() }),
                ..none
            },
            Fared::Refused(reason) => Self { reason: Some(words::for_the_sender(&reason)), ..none },
            Fared::NoRoute => Self { reason: Some("no route to it was found".into()), ..none },
            Fared::Silence => Self {
                reason: Some(
                    "no answer in time: it answers no probes, or too many, or packets are lost"
                        .into(),
                ),
                ..none
            },
        }
    }
}

impl Service {
    pub(super) async fn ping(&self, request: Ping) -> Result<Answer, RpcError> {
        let Ping { destination, bytes, wait_ms } = request;
        if !(LEAST..=MOST).contains(&bytes) {
            let wrong = format!("meshping: bytes: {bytes} is not from {LEAST} to {MOST}");
            return Err(RpcError::invalid_params(wrong));
        }
        let wait = Duration::from_millis(wait_ms).min(LONGEST_WAIT);
        let pinged = self.node.ping(destination.0, bytes, wait).await?;
        Ok(Answer { destination: destination.0, bytes, fared: pinged.into() })
    }

    pub(super) async fn trace(&self, request: Trace) -> Result<Traced, RpcError> {
        let Trace { destination, wait_ms } = request;
        let FoundRoute { route, took_us } = self.find_route(FindRoute { destination }).await?;
        let wait = Duration::from_millis(wait_ms).min(LONGEST_WAIT);
        let relays = self.node.identities(&route.hops, wait).await?;
        let hops = route.hops.into_iter().zip(relays);
        let hops = hops.chain([(route.destination.hop(), Some(route.destination))]);
        let hops = hops.map(|(node, node_id)| async move {
            let fared = match node_id {
                Some(id) => self.node.ping(id, FULL, wait).await?.into(),
                None => types::Fared {
                    reason: Some("it was not found by its short name, so it was not asked".into()),
                    ..types::Fared::default()
                },
            };
            Ok(TracedHop { node, node_id, fared })
        });
        let hops: Result<Vec<_>, Gone> = all(hops.collect()).await.into_iter().collect();
        let (destination, min_packet, cost) = (route.destination, route.min_packet, route.cost);
        Ok(Traced { destination, hops: hops?, min_packet, cost, took_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_waited_for_at_once_and_told_in_their_order() {
        let sleep = |ms| async move {
            smol::Timer::after(Duration::from_millis(ms)).await;
            ms
        };
        let futures = [30, 0, 10].map(sleep).into_iter().collect();
        assert_eq!(smol::block_on(all(futures)), [30, 0, 10]);
    }
}
