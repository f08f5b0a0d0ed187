//! The load generator: as many packets on the way as its window allows.

use super::message::{Kind, Message, Protocol, Template};
use super::result::{Outcome, Samples};
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::{MeshError, NetworkReason};
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use std::collections::VecDeque;

/// Reports asked for per window.
const REPORTS_PER_WINDOW: u64 = 8;
/// Without a report for so long, what is on the way is taken for lost.
const PATIENCE: Micros = 250 * MILLISECOND;
/// How long the last report is waited for.
const LAST_PATIENCE: Micros = SECOND;
/// Bytes that a datagram has besides its payload, about.
const HEAD: usize = 108;
/// Most packets on the way.
const MOST_ON_THE_WAY: u64 = 16_384;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) destination: NodeId,
    pub(crate) protocol: Protocol,
    /// Bytes of payload per packet.
    pub(crate) size: usize,
    pub(crate) duration: Micros,
    /// Bytes on the way at most; 0: one packet at a time, each answered.
    pub(crate) window: usize,
}

/// A trial under way.
#[derive(Debug)]
pub(crate) struct Generator {
    plan: Plan,
    template: Template,
    trial: u64,
    window: u64,
    report_every: u64,
    started: Micros,
    /// Number of the next packet.
    next: u64,
    /// All before this are known to have arrived or been lost.
    settled: u64,
    heard: Micros,
    blocked: bool,
    final_asked: Option<u64>,
    outcome: Outcome,
    samples: Samples,
    /// Numbers of our latest datagrams, as many as may be on the way.
    sequences: VecDeque<u64>,
}

impl Generator {
    pub(crate) fn new(plan: Plan, magic: [u8; 4], trial: u64, now: Micros) -> Self {
        let template = Template::new(plan.protocol, magic, plan.size);
        let packet = template.len() + HEAD;
        let window = (plan.window / packet).clamp(1, MOST_ON_THE_WAY as usize) as u64;
        Self {
            template,
            trial,
            window,
            report_every: (window / REPORTS_PER_WINDOW).max(1),
            started: now,
            next: 0,
            settled: 0,
            heard: now,
            blocked: false,
            final_asked: None,
            outcome: Outcome::default(),
            samples: Samples::default(),
            sequences: VecDeque::new(),
            plan,
        }
    }

    fn ends(&self) -> Micros {
        self.started.saturating_add(self.plan.duration)
    }

    /// When something is to be done without being told.
    pub(crate) fn deadline(&self) -> Micros {
        let patience = self.heard.saturating_add(PATIENCE);
        match self.final_asked {
            Some(_) => patience.min(self.ends().saturating_add(LAST_PATIENCE)),
            None => patience.min(self.ends()),
        }
    }

    /// Whether the trial is over.
    pub(crate) fn done(&self, now: Micros) -> bool {
        let all = self.final_asked.is_some_and(|last| self.settled > last);
        all || now >= self.ends().saturating_add(LAST_PATIENCE)
    }

    /// The next packet, if the window allows one.
    pub(crate) fn next(&mut self, now: Micros) -> Option<(NodeId, &[u8])> {
        if now >= self.heard.saturating_add(PATIENCE) {
            // What is on the way is lost, or reports are: go on with new ones.
            self.heard = now;
            self.settled = self.next;
            self.blocked = false;
            self.final_asked = None;
        }
        let over = now >= self.ends();
        let on_the_way = self.next.saturating_sub(self.settled);
        if self.final_asked.is_some() || self.blocked || (!over && on_the_way >= self.window) {
            return None;
        }
        let report = over || self.next % self.report_every == self.report_every - 1;
        let kind = if report { Kind::LoadAndReport } else { Kind::Load };
        let message = Message { kind, trial: self.trial, number: self.next, time: now };
        if over {
            self.final_asked = Some(self.next);
        }
        Some((self.plan.destination, self.template.write(&message)))
    }

    /// What became of the packet that [`Self::next`] gave: its number as a
    /// datagram, why it was refused, or nothing as it waits for a route.
    pub(crate) fn sent(&mut self, outcome: Option<Result<u64, MeshError>>) {
        match outcome {
            Some(Ok(sequence)) => {
                if self.sequences.len() as u64 >= MOST_ON_THE_WAY {
                    self.sequences.pop_front();
                }
                self.sequences.push_back(sequence);
            }
            Some(Err(reason)) => {
                self.blocked = true;
                self.final_asked = None;
                if !matches!(reason, MeshError::NetworkError(NetworkReason::Congested)) {
                    self.outcome.refused += 1;
                    self.outcome.reason = Some(reason.to_string());
                }
                return;
            }
            None => {}
        }
        self.next += 1;
        self.outcome.sent += 1;
        self.outcome.payload_bytes = self.template.len() as u64;
    }

    /// The first link has room again.
    pub(crate) fn room(&mut self) {
        self.blocked = false;
    }

    /// Takes a report; `false` if it is of another trial.
    pub(crate) fn report(&mut self, now: Micros, message: &Message) -> bool {
        let Kind::Report { packets, bytes } = message.kind else { return false };
        if message.trial != self.trial || message.number >= self.next {
            return false;
        }
        self.heard = now;
        self.settled = self.settled.max(message.number + 1);
        if packets > self.outcome.received {
            self.outcome.received = packets;
            self.outcome.bytes = bytes;
            self.outcome.elapsed_us = now.saturating_sub(self.started);
        }
        self.samples.add(now.saturating_sub(message.time));
        true
    }

    /// Whether the datagram is one of ours; counts that a relay stopped it.
    pub(crate) fn stopped(&mut self, sequence: u64) -> bool {
        let ours = self.sequences.contains(&sequence);
        if ours {
            self.outcome.stopped += 1;
        }
        ours
    }

    /// What was measured.
    pub(crate) fn finish(mut self) -> Outcome {
        self.samples.summarise(&mut self.outcome);
        self.outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::id::Network;

    fn generator(window: usize) -> Generator {
        let plan = Plan {
            destination: NodeId([1; 32]),
            protocol: Protocol::Raw,
            size: 892,
            duration: SECOND,
            window,
        };
        Generator::new(plan, Network::Regtest.magic(), 7, 0)
    }

    fn send(g: &mut Generator, now: Micros) -> Option<Message> {
        let message = Message::parse(g.next(now)?.1).unwrap().0;
        g.sent(Some(Ok(100 + message.number)));
        Some(message)
    }

    #[test]
    fn keeps_to_its_window_and_counts_what_arrived() {
        let mut g = generator(80_000);
        let sent: Vec<_> = std::iter::from_fn(|| send(&mut g, 10)).collect();
        assert_eq!(sent.len(), 80);
        assert_eq!(sent.iter().filter(|m| m.kind == Kind::LoadAndReport).count(), 8);
        // The 20th is reported, with one lost before it.
        let kind = Kind::Report { packets: 19, bytes: 19 * 892 };
        assert!(g.report(60, &Message { kind, ..sent[19] }));
        assert_eq!(std::iter::from_fn(|| send(&mut g, 70)).count(), 20);
        assert!(!g.report(70, &Message { kind, trial: 8, ..sent[19] }));
        assert!(g.stopped(105) && !g.stopped(99));

        let last = send(&mut g, SECOND).unwrap();
        assert_eq!(last.kind, Kind::LoadAndReport);
        assert!(send(&mut g, SECOND).is_none() && !g.done(SECOND));
        let kind = Kind::Report { packets: 100, bytes: 100 * 892 };
        g.report(SECOND + 5, &Message { kind, ..last });
        assert!(g.done(SECOND + 5));
        let outcome = g.finish();
        assert_eq!((outcome.sent, outcome.received, outcome.stopped), (101, 100, 1));
        assert_eq!((outcome.bytes, outcome.elapsed_us), (89_200, SECOND + 5));
        assert_eq!((outcome.rtt_p50_us, outcome.rtt_p90_us, outcome.rtt_samples), (5, 50, 2));
    }

    #[test]
    fn loss_does_not_stop_it_and_refusal_does_not_count_as_sent() {
        let mut g = generator(0);
        assert!(send(&mut g, 0).is_some() && send(&mut g, 0).is_none());
        assert!(g.next(PATIENCE).is_some());
        g.sent(Some(Err(NetworkReason::Congested.into())));
        assert!(send(&mut g, PATIENCE).is_none());
        g.room();
        assert_eq!(send(&mut g, PATIENCE).unwrap().number, 1);
        assert_eq!(g.finish().sent, 2);
    }
}
