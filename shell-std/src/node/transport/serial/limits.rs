//! Limits of a serial line: they follow from its speed, so that nobody has to choose them.

use crate::address::SerialLine;
use crate::node::link::egress::EgressLimits;
use blvm_mesh_core::config::Config;
use blvm_mesh_core::link::datagram::DatagramLimits;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};

/// Bits on a line for a byte: a start bit, eight of data, a stop bit.
const BITS_PER_BYTE: u64 = 10;
/// The assumed speed of a line over TCP: 1 Mbit/s, in bytes per second.
const TCP_RATE: u64 = 100_000;
/// How long the largest packet may take on the line.
const LONGEST_PACKET: Micros = 15 * SECOND;
/// Largest packet on any line, and on one so slow that it takes longer.
const PACKET_RANGE: (u64, u64) = (4 * 1024, 512 * 1024);
/// How long a frame may occupy the line: nothing overtakes it.
const LONGEST_FRAME: Micros = 50 * MILLISECOND;
/// Smallest and largest frame of this side, in bytes.
const FRAME_RANGE: (u64, u64) = (128, 1024);
/// Shortest keep-alive. A neighbour is given up after three.
const SHORTEST_KEEPALIVE: Micros = SECOND;
/// How long packets may wait for the line before it counts as full.
const FULL: Micros = 3 * SECOND;

/// Limits of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineLimits {
    /// Bytes per second that the line carries; `None` where something else paces it.
    pub(crate) rate: Option<u64>,
    pub(crate) datagram: DatagramLimits,
    pub(crate) egress: EgressLimits,
    /// Bytes of a lane in flight before more is taken from the queues.
    pub(crate) ahead: usize,
    /// Keep-alive of the link; 0: none.
    pub(crate) keepalive: Micros,
}

impl LineLimits {
    /// For a line of a node with this configuration.
    pub(crate) fn new(line: &SerialLine, config: &Config, queue_bytes: usize) -> Self {
        let rate = match line {
            SerialLine::Device { baud, .. } => Some(u64::from(*baud) / BITS_PER_BYTE),
            SerialLine::Tcp(_) => None,
        };
        let speed = rate.unwrap_or(TCP_RATE);
        // Bytes that the line carries in a time, and back.
        let carries = |time: Micros| speed.saturating_mul(time) / SECOND;
        let takes = |bytes: u64| bytes.saturating_mul(SECOND) / speed.max(1);

        let (smallest, largest) = FRAME_RANGE;
        let frame = carries(LONGEST_FRAME).clamp(smallest, largest);
        let (least, most) = PACKET_RANGE;
        let max_packet =
            carries(LONGEST_PACKET).clamp(least, most).min(u64::from(config.max_packet));
        let mut datagram = DatagramLimits::serial(frame as u16, max_packet as u32);
        let ahead = 2 * frame * u64::from(datagram.window);
        datagram.queue = (max_packet + ahead) as u32;
        // A frame waits for the one before it, and its answer for another of as many bytes.
        let there_and_back = 3 * takes(frame);
        datagram.initial_rto = datagram.initial_rto.max(2 * there_and_back);
        datagram.min_rto = datagram.min_rto.max(there_and_back);
        datagram.max_rto = datagram.max_rto.max(10 * there_and_back);
        let packet = takes(max_packet);
        datagram.packet_timeout = datagram.packet_timeout.max(4 * packet);
        datagram.handshake_timeout = datagram.handshake_timeout.max(20 * takes(100));

        let high = (carries(FULL).max(max_packet) as usize).min(queue_bytes);
        let keepalive = match config.timing.keepalive {
            0 => 0,
            keepalive => keepalive.max(SHORTEST_KEEPALIVE).max(packet / 2),
        };
        Self {
            rate,
            datagram,
            egress: EgressLimits {
                high,
                low: high / 2,
                control: 16 * 1024,
                max_packet: max_packet as usize,
            },
            ahead: ahead as usize,
            keepalive,
        }
    }

    /// How long to leave so many bytes to the line: a little longer than they take, as clocks of
    /// lines differ by up to 2 %, and a device queues what it cannot send.
    pub(crate) fn takes(&self, bytes: usize) -> Micros {
        match self.rate {
            Some(rate) => (bytes as u64).saturating_mul(SECOND / 98 * 100) / rate.max(1),
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::BAUD_RANGE;
    use blvm_mesh_core::id::Network;
    use blvm_mesh_core::link::datagram::terms::MIN_FRAME;
    use proptest::prelude::*;

    fn at(baud: u32) -> LineLimits {
        let config = Config::host(Network::Mainnet);
        LineLimits::new(&SerialLine::Device { path: "/x".into(), baud }, &config, 8 << 20)
    }

    #[test]
    fn lines_that_are_in_use() {
        let usual = at(115_200);
        assert_eq!((usual.rate, usual.datagram.frame), (Some(11_520), 576));
        // 2,000 block headers, the most that a `headers` message holds, in a datagram.
        let headers = 24 + 3 + 2_000 * 81 + 300;
        assert!(usual.datagram.max_packet > headers, "{usual:?}");
        assert_eq!(usual.datagram.max_packet, 172_800);
        assert_eq!(usual.keepalive, 7_500_000);
        assert_eq!(usual.takes(1_129) / 1_000, 100, "2 % more than it takes");
        let fast = at(4_000_000);
        assert_eq!((fast.datagram.frame, fast.datagram.max_packet), (1024, 512 * 1024));
        let slow = at(1_200);
        assert_eq!((slow.datagram.frame, slow.datagram.max_packet), (128, 4096));
        assert!(slow.datagram.packet_timeout > 60 * SECOND, "4 KiB take 34 s");
        let mut config = Config::host(Network::Mainnet);
        let tcp: SerialLine = "serial+tcp://h:1".parse().unwrap();
        config.timing.keepalive = 0;
        config.max_packet = 3000;
        let limits = LineLimits::new(&tcp, &config, 8 << 20);
        assert_eq!((limits.rate, limits.keepalive, limits.takes(1000)), (None, 0, 0));
        assert_eq!((limits.datagram.max_packet, limits.datagram.frame), (3000, 1024));
    }

    proptest! {
        #[test]
        fn any_speed(baud in BAUD_RANGE, max_packet in 2048u32..5_000_000, queue in 2048usize..9_000_000) {
            let mut config = Config::host(Network::Mainnet);
            config.max_packet = max_packet;
            let line = SerialLine::Device { path: "/x".into(), baud };
            let LineLimits { datagram: d, egress: e, ahead, keepalive, .. } =
                LineLimits::new(&line, &config, queue);
            prop_assert!(d.frame >= MIN_FRAME && d.frame <= 1024);
            prop_assert!(d.max_packet >= 2048 && d.max_packet <= max_packet);
            // A packet of any size has room once what is ahead of it has gone.
            prop_assert!(d.queue as usize >= d.max_packet as usize + ahead);
            prop_assert!(d.min_rto <= d.initial_rto && d.initial_rto <= d.max_rto);
            let packet = u64::from(d.max_packet) * 10 * SECOND / u64::from(baud);
            prop_assert!(packet < d.packet_timeout);
            // While the largest packet is under way the neighbour is not taken for dead.
            prop_assert!(packet < 3 * keepalive);
            prop_assert!(e.low <= e.high && e.high <= queue && e.max_packet == d.max_packet as usize);
        }
    }
}
