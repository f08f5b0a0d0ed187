//! Neighbours on a LAN, without I/O: what a beacon says, who is dialled for it, and on which
//! interfaces. `node/transport/tcp/lan` sends, listens and dials.

pub mod beacon;
pub mod candidates;
pub mod interfaces;

use interfaces::Pattern;
use std::net::Ipv6Addr;
use std::time::Duration;

/// Multicast group where none is configured: transient and link-local (RFC 4291, section 2.7), with
/// `blvm` at its end.
pub const GROUP: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0x626c, 0x766d);
/// UDP port of the group where none is configured.
pub const PORT: u16 = 8338;

/// How neighbours are found on a LAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanSettings {
    /// Whether they are at all.
    pub enabled: bool,
    /// Interfaces that are used, of those that can be; none: all of them.
    pub interfaces: Vec<Pattern>,
    /// Whether this node sends beacons, and takes links at the addresses from which it does.
    pub beacon: bool,
    /// Whether this node listens for beacons and dials for them.
    pub listen: bool,
    /// Multicast group, of link-local scope.
    pub group: Ipv6Addr,
    /// UDP port of the group.
    pub port: u16,
    /// TCP port on which links are taken; 0: any that is free.
    pub tcp_port: u16,
    /// Pause between two beacons.
    pub interval: Duration,
}

impl Default for LanSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            interfaces: Vec::new(),
            beacon: true,
            listen: true,
            group: GROUP,
            port: PORT,
            tcp_port: 0,
            interval: Duration::from_secs(10),
        }
    }
}
