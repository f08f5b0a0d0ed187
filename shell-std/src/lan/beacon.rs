//! The beacon: what a node says of itself to whoever is on a LAN. It proves nothing: the key is
//! proven by the handshake of the link that may follow.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `BMLN` |
//! | 4 | 1 | version, 1 |
//! | 5 | 1 | network, as in a hello |
//! | 6 | 1 | flags: bit 0, the sender listens for beacons; the others are 0 |
//! | 7 | 2 | TCP port on which the sender takes links, big endian, not 0 |
//! | 9 | 33 | compressed public key of the sender |
//!
//! Anything else, and anything longer or shorter, is not a beacon of this version.

use blvm_mesh_core::id::Network;

/// Bytes of a beacon.
pub const LEN: usize = 42;

const MAGIC: [u8; 4] = *b"BMLN";
const VERSION: u8 = 1;
const LISTENS: u8 = 1;

/// A beacon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beacon {
    /// The Bitcoin network of the sender.
    pub network: Network,
    /// Whether the sender listens for beacons itself, and so may dial as well.
    pub listens: bool,
    /// TCP port on which the sender takes links at the address that the beacon comes from, not 0.
    pub port: u16,
    /// Its compressed public key. It begins like one; whether it is a point of the curve is not
    /// checked.
    pub key: [u8; 33],
}

impl Beacon {
    /// Reads a beacon; `None`: these bytes are none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LEN] = bytes.try_into().ok()?;
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let ([version, network, flags, high, low], key) = rest.split_first_chunk::<5>()?;
        let key: &[u8; 33] = key.try_into().ok()?;
        let port = u16::from_be_bytes([*high, *low]);
        let known = *magic == MAGIC && *version == VERSION && flags & !LISTENS == 0;
        let begins = matches!(key.first(), Some(2 | 3));
        (known && begins && port != 0).then_some(())?;
        let network = Network::from_u8(*network)?;
        Some(Self { network, listens: flags & LISTENS != 0, port, key: *key })
    }

    /// Its bytes.
    pub fn bytes(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        let [high, low] = self.port.to_be_bytes();
        let flags = if self.listens { LISTENS } else { 0 };
        let head = [VERSION, self.network as u8, flags, high, low];
        let all = MAGIC.iter().chain(&head).chain(&self.key);
        out.iter_mut().zip(all).for_each(|(out, byte)| *out = *byte);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beacon() -> Beacon {
        let mut key = [7; 33];
        key[0] = 2;
        Beacon { network: Network::Regtest, listens: true, port: 0x1234, key }
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        for (listens, first) in [(true, 2), (false, 3)] {
            let mut beacon = Beacon { listens, ..beacon() };
            beacon.key[0] = first;
            assert_eq!(Beacon::parse(&beacon.bytes()), Some(beacon));
        }
        let bytes = beacon().bytes();
        assert_eq!(&bytes[..9], b"BMLN\x01\x04\x01\x12\x34");
    }

    #[test]
    fn what_is_no_beacon_of_this_version_is_none() {
        let good = beacon().bytes();
        assert_eq!(Beacon::parse(&[]), None);
        assert_eq!(Beacon::parse(&good[..LEN - 1]), None);
        assert_eq!(Beacon::parse(&[&good[..], &[0]].concat()), None);
        for (at, byte) in [(0, b'b'), (4, 2), (5, 5), (6, 2), (6, 0x81), (9, 4), (9, 0)] {
            let mut bad = good;
            bad[at] = byte;
            assert_eq!(Beacon::parse(&bad), None, "{byte} at {at}");
        }
        let mut bad = good;
        (bad[7], bad[8]) = (0, 0);
        assert_eq!(Beacon::parse(&bad), None, "no port");
    }
}
