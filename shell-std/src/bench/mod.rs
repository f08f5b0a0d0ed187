//! `bench`: a load generator in one node and a sink in another, over whatever
//! lies between them, so that anyone can measure a relay.

mod generator;
pub(crate) mod message;
mod result;
mod sink;

pub(crate) use generator::Plan;
pub(crate) use message::Protocol;
pub(crate) use result::Outcome;

use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::MeshError;
use blvm_mesh_core::time::Micros;
use generator::Generator;
use message::{Kind, Message};
use sink::Sink;

/// The generator and the sink of one node.
#[derive(Debug)]
pub(crate) struct Bench {
    /// First bytes of the network's messages.
    magic: [u8; 4],
    sink: Option<Sink>,
    trial: Option<(Generator, smol::channel::Sender<Outcome>)>,
}

impl Bench {
    pub(crate) fn new(magic: [u8; 4], sink: bool) -> Self {
        Self { magic, sink: sink.then(|| Sink::new(magic)), trial: None }
    }

    /// Turns the sink on or off.
    pub(crate) fn set_sink(&mut self, on: bool) {
        if on != self.sink.is_some() {
            self.sink = on.then(|| Sink::new(self.magic));
        }
    }

    /// Begins a trial: where its figures come, or nothing if one is under way.
    pub(crate) fn start(
        &mut self,
        plan: Plan,
        trial: u64,
        now: Micros,
    ) -> Option<smol::channel::Receiver<Outcome>> {
        if self.trial.is_some() {
            return None;
        }
        let (who, figures) = smol::channel::bounded(1);
        self.trial = Some((Generator::new(plan, self.magic, trial, now), who));
        Some(figures)
    }

    /// Whether there may be something to send.
    pub(crate) fn active(&self) -> bool {
        self.trial.is_some() || self.sink.as_ref().is_some_and(Sink::waits)
    }

    /// When there is something to do at the latest.
    pub(crate) fn deadline(&self) -> Micros {
        self.trial.as_ref().map_or(Micros::MAX, |(generator, _)| generator.deadline())
    }

    /// The next payload to send, and to whom: reports first.
    pub(crate) fn next(&mut self, now: Micros) -> Option<(NodeId, Source, &[u8])> {
        if let Some((generator, who)) = self.trial.take() {
            // Where nobody waits for the figures, the trial is over.
            if generator.done(now) || who.is_closed() {
                let _ = who.try_send(generator.finish());
            } else {
                self.trial = Some((generator, who));
            }
        }
        if let Some(sink) = self.sink.as_mut().filter(|sink| sink.waits()) {
            return sink.next().map(|(to, payload)| (to, Source::Sink, payload));
        }
        let (generator, _) = self.trial.as_mut()?;
        generator.next(now).map(|(to, payload)| (to, Source::Generator, payload))
    }

    /// What became of the payload that [`Self::next`] gave.
    pub(crate) fn sent(&mut self, source: Source, outcome: Option<Result<u64, MeshError>>) {
        if let (Source::Generator, Some((generator, _))) = (source, &mut self.trial) {
            generator.sent(outcome);
        }
    }

    /// A link has room again.
    pub(crate) fn room(&mut self) {
        if let Some((generator, _)) = &mut self.trial {
            generator.room();
        }
    }

    /// Takes a delivery if it belongs to a trial.
    pub(crate) fn takes(&mut self, now: Micros, source: NodeId, payload: &[u8]) -> bool {
        if self.sink.is_none() && self.trial.is_none() {
            return false;
        }
        let Some((message, protocol)) = Message::parse(payload) else { return false };
        match (message.kind, &mut self.sink, &mut self.trial) {
            (Kind::Report { .. }, _, Some((generator, _))) => generator.report(now, &message),
            (Kind::Load | Kind::LoadAndReport, Some(sink), _) => {
                sink.take(source, message, protocol, payload.len());
                true
            }
            _ => false,
        }
    }

    /// Whether a datagram that was stopped on the way belongs to the trial.
    pub(crate) fn stopped(&mut self, sequence: u64) -> bool {
        self.trial.as_mut().is_some_and(|(generator, _)| generator.stopped(sequence))
    }
}

/// Which part has something to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The load generator.
    Generator,
    /// The sink, a report.
    Sink,
}
