//! The other end of a trial: counts what arrives, and reports when asked to.

use super::message::{Kind, Message, Protocol, Template};
use blvm_mesh_core::id::NodeId;
use std::collections::VecDeque;

/// Trials remembered. Full: the one that began first goes.
const MOST_TRIALS: usize = 64;
/// Reports that wait to be sent. Full: the oldest goes.
const MOST_REPORTS: usize = 1024;

#[derive(Debug)]
struct Trial {
    number: u64,
    source: NodeId,
    packets: u64,
    bytes: u64,
}

/// Counts trials by their source and number.
#[derive(Debug)]
pub(crate) struct Sink {
    /// In the order in which they began.
    trials: VecDeque<Trial>,
    reports: VecDeque<(NodeId, Message, Protocol)>,
    raw: Template,
    bitcoin: Template,
}

impl Sink {
    pub(crate) fn new(magic: [u8; 4]) -> Self {
        Self {
            trials: VecDeque::new(),
            reports: VecDeque::new(),
            raw: Template::new(Protocol::Raw, magic, 0),
            bitcoin: Template::new(Protocol::Bitcoin, magic, 0),
        }
    }

    /// Counts a message of the load.
    pub(crate) fn take(
        &mut self,
        source: NodeId,
        message: Message,
        protocol: Protocol,
        bytes: usize,
    ) {
        let is_of = |t: &Trial| t.number == message.trial && t.source == source;
        // Each packet asks, and nearly always for the last.
        let place = self.trials.iter().rposition(is_of).unwrap_or_else(|| {
            if self.trials.len() >= MOST_TRIALS {
                self.trials.pop_front();
            }
            let trial = Trial { number: message.trial, source, packets: 0, bytes: 0 };
            self.trials.push_back(trial);
            self.trials.len() - 1
        });
        let Some(trial) = self.trials.get_mut(place) else { return };
        trial.packets += 1;
        trial.bytes += bytes as u64;
        if message.kind == Kind::LoadAndReport {
            let kind = Kind::Report { packets: trial.packets, bytes: trial.bytes };
            if self.reports.len() >= MOST_REPORTS {
                self.reports.pop_front();
            }
            self.reports.push_back((source, Message { kind, ..message }, protocol));
        }
    }

    /// Whether a report waits.
    pub(crate) fn waits(&self) -> bool {
        !self.reports.is_empty()
    }

    /// The next report to send, and to whom.
    pub(crate) fn next(&mut self) -> Option<(NodeId, &[u8])> {
        let (source, report, protocol) = self.reports.pop_front()?;
        let template = match protocol {
            Protocol::Raw => &mut self.raw,
            Protocol::Bitcoin => &mut self.bitcoin,
        };
        Some((source, template.write(&report)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::id::Network;

    #[test]
    fn counts_by_trial_and_reports_when_asked() {
        let mut sink = Sink::new(Network::Regtest.magic());
        let source = NodeId([1; 32]);
        let load = |kind, trial, number| Message { kind, trial, number, time: 9 };
        sink.take(source, load(Kind::Load, 1, 0), Protocol::Raw, 100);
        sink.take(source, load(Kind::Load, 2, 0), Protocol::Raw, 50);
        assert!(!sink.waits());
        sink.take(source, load(Kind::LoadAndReport, 1, 1), Protocol::Bitcoin, 100);
        let (to, payload) = sink.next().unwrap();
        let kind = Kind::Report { packets: 2, bytes: 200 };
        assert_eq!(to, source);
        assert_eq!(Message::parse(payload), Some((load(kind, 1, 1), Protocol::Bitcoin)));
        for trial in 0..200 {
            sink.take(source, load(Kind::Load, trial, 0), Protocol::Raw, 1);
        }
        assert_eq!(sink.trials.len(), MOST_TRIALS);
    }
}
