//! What a world is measured by: deliveries, discoveries, traffic and payments.

use super::bytes::Path;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::time::{Micros, SECOND};
use blvm_mesh_core::wire::Kind;
use siphasher::sip::SipHasher13;
use std::collections::HashMap;
use std::hash::Hasher;

/// A payload on its way.
#[derive(Debug, Clone, Copy)]
struct Flight {
    to: usize,
    sent: Micros,
    arrived: bool,
    wanted: bool,
}

/// What became of one payment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settled {
    pub(super) booked_msat: u64,
    /// How many parties booked their share.
    pub(super) parties: usize,
}

/// Counters and samples of a world.
#[derive(Debug, Default)]
pub struct Account {
    flights: HashMap<u64, Flight>,
    pub(super) settled: HashMap<[u8; 32], Settled>,
    /// Payloads given to be sent, that are to arrive.
    pub sent: u64,
    /// Those that arrived.
    pub arrived: u64,
    /// Both, of those that were given in each minute.
    pub by_minute: Vec<[u64; 2]>,
    /// Time from the wish to send to the delivery, in microseconds.
    pub latencies: Vec<Micros>,
    /// Links that they went over.
    pub hops: Vec<Micros>,
    /// Time that successful searches took, in microseconds.
    pub discoveries: Vec<Micros>,
    /// Searches that ended without a route.
    pub failed_searches: u64,
    /// Packets of the mesh itself, on all links.
    pub control_packets: u64,
    /// Their bytes.
    pub control_bytes: u64,
    /// Datagrams, on all links.
    pub data_packets: u64,
    /// Their bytes.
    pub data_bytes: u64,
    /// What each node earned, in millisatoshi, over all restarts.
    pub earned: Vec<u64>,
    /// Payloads delivered at each node.
    pub delivered: Vec<u64>,
    /// Sum of what was paid, of payments that every party booked.
    pub paid_msat: u64,
    /// Sum of the shares of these payments.
    pub shares_msat: u64,
    /// Payments that were accepted, by any node.
    pub accepted: u64,
    /// Most entries in each table of any node: see [`TABLES`].
    pub peaks: [usize; 7],
    /// Inputs given to state machines.
    pub inputs: u64,
}

/// Names of the tables in [`Account::peaks`].
pub const TABLES: [&str; 7] =
    ["payments", "parked", "routes", "neighbours", "searches", "relayed_requests", "route_hints"];

fn print(from: &NodeId, payload: &[u8]) -> u64 {
    let mut h = SipHasher13::new();
    h.write(&from.0);
    h.write(payload);
    h.finish()
}

impl Account {
    /// A payload is given to be sent; `wanted` if it is to arrive.
    pub fn launch(&mut self, from: &NodeId, to: usize, payload: &[u8], now: Micros, wanted: bool) {
        let flight = Flight { to, sent: now, arrived: false, wanted };
        if self.flights.insert(print(from, payload), flight).is_none() {
            self.sent += u64::from(wanted);
            self.in_minute(now)[0] += u64::from(wanted);
        }
    }

    fn in_minute(&mut self, at: Micros) -> &mut [u64; 2] {
        let minute = (at / (60 * SECOND)) as usize;
        if self.by_minute.len() <= minute {
            self.by_minute.resize(minute + 1, [0; 2]);
        }
        &mut self.by_minute[minute]
    }

    pub(super) fn landed(
        &mut self,
        n: usize,
        from: &NodeId,
        payload: &[u8],
        path: &Path,
        now: Micros,
    ) {
        self.delivered[n] += 1;
        let Some(flight) = self.flights.get_mut(&print(from, payload)) else { return };
        if flight.to == n && !std::mem::replace(&mut flight.arrived, true) && flight.wanted {
            let sent = flight.sent;
            self.arrived += 1;
            self.in_minute(sent)[1] += 1;
            self.latencies.push(now - sent);
            self.hops.push(path.len() as u64);
        }
    }

    /// Whether a payload has arrived.
    pub fn has_landed(&self, from: &NodeId, payload: &[u8]) -> bool {
        self.flights.get(&print(from, payload)).is_some_and(|f| f.arrived)
    }

    pub(super) fn carried(&mut self, packet: &[u8]) {
        let data = [Kind::Datagram, Kind::Data].map(|kind| Some(kind as u8));
        let (packets, bytes) = match data.contains(&packet.get(5).copied()) {
            true => (&mut self.data_packets, &mut self.data_bytes),
            false => (&mut self.control_packets, &mut self.control_bytes),
        };
        *packets += 1;
        *bytes += packet.len() as u64;
    }
}

/// The value below which so many percent of a sample lie; 0 of an empty one.
pub fn percentile(sample: &[u64], percent: usize) -> u64 {
    let mut sorted = sample.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_nearest_rank() {
        let sample = [50, 15, 35, 20, 40];
        let at = |p| percentile(&sample, p);
        assert_eq!([at(5), at(30), at(40), at(50), at(100)], [15, 20, 20, 35, 50]);
        assert_eq!(percentile(&[], 50), 0);
    }
}
