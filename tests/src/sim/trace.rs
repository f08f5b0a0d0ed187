//! What happened: as one rolling hash, and as lines where they are asked for.

use super::machine::{Did, Given, Step};
use blvm_mesh_core::id::Standing;
use blvm_mesh_core::mesh::{Event, MeshError};
use blvm_mesh_core::payment::fee::Party;
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::time::Micros;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::fmt::{Display, Write as _};
use std::hash::Hasher;
use std::io::Write;

/// The trace of a world: every input with the actions that it caused.
pub struct Trace {
    hash: SipHasher13,
    lines: Option<Box<dyn Write>>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: SipHasher13::new(), lines: None }
    }
}

/// Formatted text, into the hash.
struct Text<'a>(&'a mut SipHasher13);

impl std::fmt::Write for Text<'_> {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        self.0.write(s.as_bytes());
        Ok(())
    }
}

impl Trace {
    /// From now on every step is also written as a line.
    pub fn write_to(&mut self, lines: Box<dyn Write>) {
        self.lines = Some(lines);
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u128 {
        self.hash.finish128().as_u128()
    }

    /// Something that is neither input nor action.
    pub fn note(&mut self, at: Micros, what: impl Display) {
        let _ = write!(Text(&mut self.hash), "{at} {what}");
        if let Some(lines) = &mut self.lines {
            let _ = writeln!(lines, "{at} {what}");
        }
    }

    pub(super) fn step(&mut self, at: Micros, node: usize, given: &Given, step: &Step) {
        if let Some(lines) = &mut self.lines {
            let _ = write!(lines, "{at} {node} {given:?} ->");
            step.did.iter().for_each(|did| drop(write!(lines, " {did:?}")));
            let _ = writeln!(lines);
        }
        self.hash.write_u64(at);
        self.hash.write_u64(node as u64);
        self.given(given);
        step.did.iter().for_each(|did| self.did(did));
    }

    fn numbers(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|n| self.hash.write_u64(*n));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.hash.write_u64(bytes.len() as u64);
        self.hash.write(bytes);
    }

    fn given(&mut self, given: &Given) {
        match given {
            Given::Connected { link, peer, dialed, standing } => {
                let prefix = match standing {
                    Standing::Own => u64::MAX,
                    Standing::Stranger { prefix } => *prefix,
                };
                self.numbers(&[1, link.0.into(), (*dialed).into(), prefix]);
                self.bytes(&peer.0);
            }
            Given::Disconnected { link } => self.numbers(&[2, link.0.into()]),
            Given::Received { link, bytes } => {
                self.numbers(&[3, link.0.into()]);
                self.bytes(bytes);
            }
            Given::Answer { ticket, block } => {
                self.numbers(&[4, ticket.0, block.map_or(u64::MAX, |b| b.confirmations.into())]);
            }
            Given::Send { to, payload, proof, unchecked } => {
                self.numbers(&[5, (*unchecked).into()]);
                [&to.0[..], payload, proof].into_iter().for_each(|b| self.bytes(b));
            }
            Given::Find { to } => {
                self.numbers(&[6]);
                self.bytes(&to.0);
            }
            Given::FindAccepted { to } => {
                self.numbers(&[60]);
                self.bytes(&to.0);
            }
            Given::Resumed { ticket, bytes, .. } => {
                self.numbers(&[7, ticket.0]);
                self.bytes(bytes);
            }
            Given::Timer => self.numbers(&[8]),
            Given::Clock { unix } => self.numbers(&[9, *unix]),
            Given::Header { header, height } => {
                self.numbers(&[10, (*height).into()]);
                self.bytes(header);
            }
            Given::Restore { record } => {
                self.numbers(&[11]);
                self.record(record);
            }
            Given::StoreFailed => self.numbers(&[12]),
            Given::StoreRecovered => self.numbers(&[15]),
            Given::Congestion { link, lane, full } => {
                self.numbers(&[13, link.0.into(), *lane as u64, (*full).into()]);
            }
            Given::Repeat { bytes } => {
                self.numbers(&[15]);
                self.bytes(bytes);
            }
            Given::Measured { link, quality } => {
                self.numbers(&[14, link.0.into(), (*quality).into()]);
            }
        }
    }

    fn did(&mut self, did: &Did) {
        let or_none = |n: Option<u64>| n.unwrap_or(u64::MAX);
        match did {
            Did::Send { link, bytes, after } => {
                self.numbers(&[20, link.0.into(), or_none(*after)]);
                self.bytes(bytes);
            }
            Did::Forward { link, priority, bytes, after } => {
                self.numbers(&[31, link.0.into(), *priority as u64, or_none(*after)]);
                self.bytes(bytes);
            }
            Did::Originate { link, priority, bytes, sequence, hops, paid: _, after } => {
                let (link, after) = (u64::from(link.0), or_none(*after));
                self.numbers(&[32, link, *priority as u64, *sequence, (*hops).into(), after]);
                self.bytes(bytes);
            }
            Did::Deliver { source, sequence, payload, protocol, earned_msat, after } => {
                let protocol = *protocol as u64;
                self.numbers(&[21, *sequence, protocol, *earned_msat, or_none(*after)]);
                self.bytes(&source.0);
                self.bytes(payload);
            }
            Did::Absorbed => self.numbers(&[22]),
            Did::Drop { ticket, link, reason } => {
                self.numbers(&[33, or_none(link.map(|l| l.0.into())), ticket.0]);
                self.reason(reason);
            }
            Did::Reject { link, reason, remedy } => {
                let link = or_none(link.map(|l| l.0.into()));
                self.numbers(&[23, link, *remedy as u64]);
                self.reason(reason);
            }
            Did::Parked { ticket, until } => self.numbers(&[24, ticket.0, *until]),
            Did::Resume { ticket } => self.numbers(&[25, ticket.0]),
            Did::Publish(event) => self.event(event),
            Did::Persist { number, record } => {
                self.numbers(&[27, *number]);
                self.record(record);
            }
            Did::Verify { ticket, block_hash } => {
                self.numbers(&[28, ticket.0]);
                self.bytes(block_hash);
            }
            Did::Close { link, reason } => {
                self.numbers(&[29, link.0.into()]);
                self.reason(reason);
            }
            Did::Wait { until } => self.numbers(&[30, or_none(*until)]),
        }
    }

    fn reason(&mut self, reason: &MeshError) {
        let _ = write!(Text(&mut self.hash), "{reason:?}");
    }

    fn event(&mut self, event: &Event) {
        self.numbers(&[26]);
        let _ = write!(Text(&mut self.hash), "{event:?}");
    }

    fn record(&mut self, record: &Record) {
        match record {
            Record::Floor(unix) => self.numbers(&[1, *unix]),
            Record::StoreLost(before) => self.numbers(&[3, before.unwrap_or(u64::MAX)]),
            Record::Payment(p) => {
                let role = match p.role {
                    Party::Source => 0,
                    Party::Intermediate(i) => 2 + u64::from(i),
                    Party::Destination => 1,
                };
                self.numbers(&[2, p.method as u64, role, p.amount_msat, p.share_msat]);
                self.numbers(&[p.accepted_at, p.expires_at]);
                [&p.key, &p.source.0, &p.destination.0].into_iter().for_each(|b| self.bytes(b));
            }
        }
    }
}
