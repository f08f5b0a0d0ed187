//! What a channel holds to.

use super::frame::{ADDRESSES_LEN, ANNOUNCEMENT_LEN, TAG_LEN};
use super::lora::{MAX_FRAME, Modem};
use crate::config::Timing;
use crate::link::datagram::DatagramLimits;
use crate::link::datagram::terms::ONE_LEN;
use crate::time::{Micros, SECOND};

/// One in so many beacons is an announcement, which takes about three times as long.
const ANNOUNCE_EVERY: u32 = 4;
/// An announcement in each beacon interval would take this part of the time, in thousandths.
const BEACON_PERMILLE: u64 = 1;
/// Shortest pause between two beacons.
const LEAST_INTERVAL: Micros = 60 * SECOND;
/// A neighbour of which for so many intervals nothing was heard is gone.
const SILENCE: u64 = 6;
/// Pause between two dials that nobody answers, in air times of Act One. Each sends it up to eight times:
/// less than 3 thousandths of the time.
const UNANSWERED_PAUSE: u64 = 3_000;
/// Frames of the longest kind in which a request comes over a channel and back: one of each of some
/// neighbours.
const ROUND_TRIP_FRAMES: u64 = 20;
/// What a search costs on the air is worth a wider first ring, and routes that are renewed seldom.
const FIRST_RING: u8 = 3;
const ROUTE_LIFETIME: Micros = 1_800 * SECOND;

/// The times of a node with a radio whose longest frame is on the air for `frame`: with those of a
/// wired mesh a search would end before its answer can come.
pub fn timing_on_air(frame: Micros, wired: Timing) -> Timing {
    Timing {
        hop_round_trip: wired.hop_round_trip.max(frame.saturating_mul(ROUND_TRIP_FRAMES)),
        first_ring: wired.first_ring.max(FIRST_RING),
        route_lifetime: wired.route_lifetime.max(ROUTE_LIFETIME),
        ..wired
    }
}

/// Limits of a channel. Times are in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelLimits {
    /// The modem of all nodes on the channel.
    pub modem: Modem,
    /// Limits of the session with each neighbour.
    pub link: DatagramLimits,
    /// Neighbours at once; the memory of the channel holds as many at most.
    pub neighbours: usize,
    /// Pause between two beacons.
    pub beacon_interval: Micros,
    /// One in so many beacons is an announcement.
    pub announce_every: u32,
    /// Time in which one handshake is done with a node that is no neighbour, whoever it is.
    pub handshake_interval: Micros,
    /// Time in which one dial is forgiven that was not answered.
    pub unanswered_interval: Micros,
}

impl ChannelLimits {
    /// For such a modem, with packets of up to `max_packet` bytes: times follow from how long a
    /// frame is on the air.
    pub fn new(modem: Modem, neighbours: usize, max_packet: u32) -> Self {
        let frame = modem.airtime_of_frame(MAX_FRAME);
        let times = |n: u64| frame.saturating_mul(n);
        let announcement = modem.airtime_of_frame(ANNOUNCEMENT_LEN);
        let act_one = modem.airtime_of_frame(ADDRESSES_LEN + ONE_LEN + TAG_LEN);
        Self {
            modem,
            link: DatagramLimits {
                // An act is followed by a tag.
                frame: (MAX_FRAME - ADDRESSES_LEN - TAG_LEN) as u16,
                max_packet,
                queue: max_packet,
                window: 4,
                initial_rto: times(8),
                min_rto: times(1),
                max_rto: times(60),
                ack_delay: 0,
                packet_timeout: times(400),
                probe_after: times(120),
                dead_after: times(200),
                handshake_timeout: times(300),
                handshake_interval: times(8),
            },
            neighbours,
            beacon_interval: (announcement * 1000 / BEACON_PERMILLE).max(LEAST_INTERVAL),
            announce_every: ANNOUNCE_EVERY,
            handshake_interval: times(20).clamp(SECOND, 10 * SECOND),
            unanswered_interval: act_one.saturating_mul(UNANSWERED_PAUSE),
        }
    }

    /// After how long without a word a neighbour is gone.
    pub(super) fn silence(&self) -> Micros {
        self.beacon_interval.saturating_mul(SILENCE)
    }

    /// Pause before the first beacon, at most; the next ones follow after twice as long each.
    pub(super) fn first_beacon(&self) -> Micros {
        self.beacon_interval / 16
    }

    /// Pause between two beacons of a node that has no neighbour.
    pub(super) fn lonely_beacon(&self) -> Micros {
        self.beacon_interval / 4
    }
}
