//! The state of radios, for status reports.

use crate::address::LoraAddress;
use crate::radio::{Identity, Parameters};
use crate::rpc::types::{RadioNeighbour, RadioState, RadioStats};
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::link::channel::PeerState;
use blvm_mesh_core::time::Micros;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The state of one radio, shared by its task and its readers.
#[derive(Debug)]
pub(crate) struct RadioStatus {
    address: LoraAddress,
    seen: Mutex<Seen>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    is_open: bool,
    /// What it is set to, once it is.
    parameters: Option<Parameters>,
    identity: Option<Identity>,
    error: Option<String>,
    /// Of earlier openings of the modem.
    past: Counts,
    counts: Counts,
    now: Now,
}

/// Counters of a radio, since its modem was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Frames that the modem was given, and of them those that it did not send, as far as it says.
    pub(super) sent: u64,
    pub(super) not_sent: u64,
    /// Frames that were heard, and of them those that meant nothing here.
    pub(super) heard: u64,
    pub(super) ignored: u64,
    /// Frames of the line, or of the air, that had no form.
    pub(super) damaged: u64,
    /// Packets for all that found no room.
    pub(super) dropped: u64,
    /// Power of the last frame that was heard.
    pub(super) rssi_dbm: Option<i16>,
    /// How much of the time the channel was taken, as the modem says.
    pub(super) load: Option<u16>,
}

/// What changes from moment to moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Now {
    pub(super) at: Micros,
    pub(super) airtime_hour: Micros,
    pub(super) is_at_limit: bool,
    pub(super) load_permille: u32,
    pub(super) beacons: u32,
    pub(super) candidates: usize,
    pub(super) peers: Vec<PeerState>,
}

impl Counts {
    fn plus(self, other: Self) -> Self {
        Self {
            sent: self.sent.saturating_add(other.sent),
            not_sent: self.not_sent.saturating_add(other.not_sent),
            heard: self.heard.saturating_add(other.heard),
            ignored: self.ignored.saturating_add(other.ignored),
            damaged: self.damaged.saturating_add(other.damaged),
            dropped: self.dropped.saturating_add(other.dropped),
            rssi_dbm: other.rssi_dbm.or(self.rssi_dbm),
            load: other.load,
        }
    }
}

impl RadioStatus {
    pub(super) fn new(address: LoraAddress) -> Self {
        Self { address, seen: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The modem's line is open.
    pub(super) fn opened(&self) {
        self.lock().is_open = true;
    }

    /// The modem has said what it is.
    pub(super) fn found(&self, identity: Identity) {
        self.lock().identity = Some(identity);
    }

    /// The modem is set.
    pub(super) fn ready(&self, parameters: Parameters) {
        let mut seen = self.lock();
        (seen.parameters, seen.error) = (Some(parameters), None);
    }

    /// Something is not as it should be, and the modem goes on; returns whether that is news.
    pub(super) fn warn(&self, what: &str) -> bool {
        let mut seen = self.lock();
        let news = seen.error.as_deref() != Some(what);
        seen.error = Some(what.to_owned());
        news
    }

    /// The modem cannot be used; returns whether that is news.
    pub(super) fn failed(&self, error: &str) -> bool {
        let mut seen = self.lock();
        let news = seen.parameters.is_some() || seen.error.as_deref() != Some(error);
        (seen.is_open, seen.parameters) = (false, None);
        seen.error = Some(error.to_owned());
        (seen.past, seen.counts) = (seen.past.plus(seen.counts), Counts::default());
        let Now { at, airtime_hour, .. } = seen.now;
        seen.now = Now { at, airtime_hour, ..Now::default() };
        news
    }

    /// What was counted since the modem was opened.
    pub(super) fn counted(&self, counts: Counts, now: Now) {
        let mut seen = self.lock();
        (seen.counts, seen.now) = (counts, now);
    }

    /// All of it.
    pub(in crate::node::transport) fn report(&self) -> RadioStats {
        let seen = self.lock().clone();
        let LoraAddress { region, duty_permille, dialect, .. } = &self.address;
        let parameters = seen.parameters.unwrap_or(self.address.parameters);
        let (counts, now) = (seen.past.plus(seen.counts), seen.now);
        let identity = seen.identity;
        RadioStats {
            radio: self.address.to_string(),
            state: match (seen.is_open, seen.parameters) {
                (_, Some(_)) => RadioState::Up,
                (true, None) => RadioState::Starting,
                (false, None) => RadioState::Closed,
            },
            error: seen.error,
            modem: dialect.to_string(),
            firmware: identity.as_ref().map(|identity| identity.firmware.clone()),
            board: identity.and_then(|identity| identity.board),
            region: region.to_string(),
            frequency_hz: parameters.frequency_hz,
            bandwidth_hz: parameters.bandwidth_hz,
            spreading_factor: parameters.spreading,
            coding_rate: parameters.coding,
            power_dbm: parameters.power_dbm,
            duty_permille: *duty_permille,
            airtime_hour_ms: now.airtime_hour / 1_000,
            airtime_limit_ms: u64::from(*duty_permille) * 3_600,
            is_at_limit: now.is_at_limit,
            load_permille: now.load_permille,
            modem_load_permille: counts.load,
            rssi_dbm: counts.rssi_dbm,
            beacons: now.beacons,
            candidates: now.candidates,
            frames_sent: counts.sent,
            frames_not_sent: counts.not_sent,
            frames_heard: counts.heard,
            frames_ignored: counts.ignored,
            frames_damaged: counts.damaged,
            packets_dropped: counts.dropped,
            neighbours: now.peers.iter().map(|peer| neighbour(peer, now.at)).collect(),
        }
    }
}

fn neighbour(peer: &PeerState, now: Micros) -> RadioNeighbour {
    RadioNeighbour {
        node_id: NodeId::from_public_key(&peer.key),
        heard_ms_ago: now.saturating_sub(peer.heard) / 1_000,
        snr_quarter_db: peer.snr,
        round_trip_us: peer.round_trip,
        chunks: peer.sent.chunks,
        sent_again: peer.sent.again,
        given_up: peer.sent.given_up,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radio::Dialect;

    #[test]
    fn counts_add_up_over_interruptions_and_failures_are_news_once() {
        let status = RadioStatus::new("lora+rnode:///dev/x?region=EU868".parse().unwrap());
        let report = status.report();
        assert_eq!((report.state, report.airtime_limit_ms), (RadioState::Closed, 360_000));
        assert_eq!((report.modem.as_str(), report.firmware), ("RNode", None));
        assert!(status.failed("no such file") && !status.failed("no such file"));
        status.opened();
        assert_eq!(status.report().state, RadioState::Starting);
        let (dialect, firmware) = (Dialect::Rnode, "1.86".to_owned());
        status.found(Identity { dialect, firmware, board: None });
        let parameters = Parameters { power_dbm: 10, ..status.address.parameters };
        status.ready(parameters);
        let counts = Counts { sent: 5, heard: 7, rssi_dbm: Some(-90), ..Counts::default() };
        status.counted(counts, Now { airtime_hour: 9_000, beacons: 3, ..Now::default() });
        let up = status.report();
        assert_eq!((up.state, up.error, up.power_dbm), (RadioState::Up, None, 10));
        assert_eq!((up.firmware.as_deref(), up.airtime_hour_ms, up.beacons), (Some("1.86"), 9, 3));
        assert!(status.warn("memory is low") && !status.warn("memory is low"));
        assert!(status.failed("gone"));
        status.opened();
        status.ready(parameters);
        status.counted(Counts { sent: 1, ..Counts::default() }, Now::default());
        let again = status.report();
        assert_eq!((again.frames_sent, again.frames_heard, again.rssi_dbm), (6, 7, Some(-90)));
    }
}
