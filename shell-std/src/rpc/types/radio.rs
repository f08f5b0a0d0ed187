//! What is told of radios.

use crate::rpc::hexed;
use blvm_mesh_core::id::NodeId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One radio of the node. Counts are since the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RadioStats {
    /// As it is configured.
    pub radio: String,
    /// What became of its modem.
    pub state: RadioState,
    /// Why the modem is not in use, or what it complains of.
    pub error: Option<String>,
    /// What the modem's firmware speaks.
    pub modem: String,
    /// The firmware's version, once it has told.
    pub firmware: Option<String>,
    /// The board, if it has told.
    pub board: Option<String>,
    /// The region whose limits count.
    pub region: String,
    /// Centre of the channel, in hertz.
    pub frequency_hz: u32,
    /// Bandwidth in hertz.
    pub bandwidth_hz: u32,
    /// Spreading factor, 7 to 12.
    pub spreading_factor: u8,
    /// Coding rate 4/5 to 4/8: 5 to 8.
    pub coding_rate: u8,
    /// Power at the modem in dBm, as it says.
    pub power_dbm: u8,
    /// How much of an hour it may send, in thousandths.
    pub duty_permille: u16,
    /// Air time of the last hour, in milliseconds.
    pub airtime_hour_ms: u64,
    /// Most air time in an hour, in milliseconds.
    pub airtime_limit_ms: u64,
    /// Whether it is silent because the hour's air time is used up.
    pub is_at_limit: bool,
    /// How much of the last half minute the channel was taken, in thousandths, as this node heard it.
    pub load_permille: u32,
    /// The same as the modem says, if it does.
    pub modem_load_permille: Option<u16>,
    /// Power of the last frame that was heard, in dBm, if the modem says.
    pub rssi_dbm: Option<i16>,
    /// Beacons sent since the modem was set.
    pub beacons: u32,
    /// Nodes that were heard and are no neighbours.
    pub candidates: usize,
    /// Frames that the modem was given.
    pub frames_sent: u64,
    /// Those of them that it did not send, as far as it says.
    pub frames_not_sent: u64,
    /// Frames that were heard.
    pub frames_heard: u64,
    /// Those of them that meant nothing here: for others, repeated or forged.
    pub frames_ignored: u64,
    /// What came damaged over the modem's line, or had no form.
    pub frames_damaged: u64,
    /// Packets for all neighbours that found no room.
    pub packets_dropped: u64,
    /// The neighbours on its channel.
    pub neighbours: Vec<RadioNeighbour>,
}

/// A neighbour on a radio channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RadioNeighbour {
    /// Its identity.
    #[serde(with = "hexed::Node")]
    pub node_id: NodeId,
    /// Milliseconds since it was heard.
    pub heard_ms_ago: u64,
    /// Signal to noise of that, in quarters of a dB; 0 where the modem does not say.
    pub snr_quarter_db: i8,
    /// Smoothed round trip of a piece of a packet, in microseconds, once measured.
    pub round_trip_us: Option<u64>,
    /// Pieces of packets that were sent to it.
    pub chunks: u64,
    /// Pieces that were sent again because they were lost.
    pub sent_again: u64,
    /// Packets that were given up because they took too long.
    pub given_up: u64,
}

/// State of a radio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RadioState {
    /// The modem is set, and the channel runs.
    Up,
    /// The modem's line is open, and it is being set.
    Starting,
    /// The line cannot be opened, or the modem failed.
    Closed,
}
