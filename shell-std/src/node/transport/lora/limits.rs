//! Limits of a radio channel: they follow from how long a frame is on the air and how much of the time
//! a radio may send.

use crate::address::LoraAddress;
use crate::node::link::egress::EgressLimits;
use crate::radio::Parameters;
use blvm_mesh_core::config::Config;
use blvm_mesh_core::link::channel::ChannelLimits;
use blvm_mesh_core::link::channel::lora::{MAX_FRAME, Modem};
use blvm_mesh_core::time::{Micros, SECOND};

/// Neighbours of a modem, at most.
pub(super) const NEIGHBOURS: usize = 32;
/// Air time of the largest packet, with all the time for it: half of what the channel spends at once
/// (`link/channel/access.rs`).
const LONGEST_PACKET: Micros = 150 * SECOND;
/// Bytes of a packet that a frame carries at least.
const CARRIED: u64 = 200;
/// Largest packet on any channel, and on one so slow that it takes longer.
const PACKET_RANGE: (u64, u64) = (2 * 1024, 16 * 1024);
/// Packets that may wait for a neighbour.
const WAITING: usize = 2;

/// Limits of a channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct RadioLimits {
    pub(super) channel: ChannelLimits,
    pub(super) egress: EgressLimits,
    /// Bytes of a lane in flight before more is taken from the queues.
    pub(super) ahead: usize,
    /// How long the largest packet and an answer take on a channel that nobody else uses.
    pub(super) round_trip: Micros,
}

impl RadioLimits {
    /// For a modem that is set so.
    pub(super) fn new(
        address: &LoraAddress,
        parameters: &Parameters,
        config: &Config,
        queue_bytes: usize,
    ) -> Self {
        let preamble = address.dialect.preamble(parameters);
        Self::of_modem(parameters.modem(preamble, address.duty_permille), config, queue_bytes)
    }

    fn of_modem(modem: Modem, config: &Config, queue_bytes: usize) -> Self {
        let frame = modem.airtime_of_frame(MAX_FRAME).max(1);
        let share = LONGEST_PACKET / 1_000 * u64::from(modem.duty_permille);
        let (least, most) = PACKET_RANGE;
        let carried = (share / frame).saturating_mul(CARRIED).clamp(least, most);
        let max_packet = carried.min(config.max_packet.into());
        let mut channel = ChannelLimits::new(modem, NEIGHBOURS, max_packet as u32);
        let ahead = 2 * u64::from(channel.link.frame) * u64::from(channel.link.window);
        channel.link.queue = (max_packet + ahead) as u32;
        let frames = max_packet.div_ceil(CARRIED) + 1;
        let high = (max_packet as usize).saturating_mul(WAITING).min(queue_bytes);
        Self {
            channel,
            egress: EgressLimits {
                high,
                low: high / 2,
                control: 8 * 1024,
                max_packet: max_packet as usize,
            },
            ahead: ahead as usize,
            round_trip: frame.saturating_mul(frames).max(SECOND),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radio::{BANDWIDTHS_HZ, Dialect, Region};
    use blvm_mesh_core::id::Network;
    use proptest::prelude::*;

    #[test]
    fn usual_channels_carry_packets_that_are_worth_it() {
        let config = Config::host(Network::Mainnet);
        let of = |text: &str| {
            let address: LoraAddress = text.parse().unwrap();
            RadioLimits::new(&address, &address.parameters, &config, 8 << 20)
        };
        let europe = of("lora+rnode:///dev/x?region=EU868");
        assert_eq!(europe.egress.max_packet, 13_600, "{europe:?}");
        assert_eq!(of("lora+rnode:///dev/x?region=US915").egress.max_packet, 16_384);
        let one_percent = of("lora+rnode:///dev/x?region=IN865");
        assert_eq!(one_percent.egress.max_packet, 2_048);
    }

    proptest! {
        #[test]
        fn any_setting(
            dialect in prop::sample::select(Dialect::ALL.to_vec()),
            bandwidth_hz in prop::sample::select(BANDWIDTHS_HZ.to_vec()),
            spreading in 7u8..=12, coding in 5u8..=8, duty in 1u16..=1_000,
        ) {
            let usual = Region::Eu868.plan().usual;
            let parameters = Parameters { bandwidth_hz, spreading, coding, ..usual };
            let modem = parameters.modem(dialect.preamble(&parameters), duty);
            let config = Config::host(Network::Mainnet);
            let RadioLimits { channel, egress: e, ahead, .. } =
                RadioLimits::of_modem(modem, &config, 8 << 20);
            prop_assert!((2_048..=16_384).contains(&channel.link.max_packet));
            // A packet of any size has room once what is ahead of it has gone.
            prop_assert!(channel.link.queue as usize >= e.max_packet + ahead);
            prop_assert!(e.low <= e.high && e.high >= e.max_packet);
        }
    }
}
