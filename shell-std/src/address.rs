//! How other nodes are reached: `PUBKEY@HOST:PORT` over TCP, or over a serial line.
//!
//! | written | meaning |
//! |---|---|
//! | `PUBKEY@HOST:PORT` | TCP |
//! | `PUBKEY@HOST:PORT/HOST:PORT` | TCP at one of up to 8 places, tried in turn ([`HostPorts`]) |
//! | `PUBKEY@serial:///dev/ttyUSB0?baud=115200` | a serial device; without `baud` 115200 |
//! | `PUBKEY@serial+tcp://HOST:PORT` | a serial line that a TCP server passes on, as an emulator does |
//!
//! Without `PUBKEY@` a line is listened on: whoever opens a link over it is answered. A radio
//! ([`LoraAddress`]) is always listened on: its neighbours are found.

mod host_ports;
mod lora;

pub use host_ports::{HostPorts, MOST_PLACES};
pub use lora::{LoraAddress, LoraError, RadioSettings};

use blvm_mesh_core::id::NodeId;
use secp256k1::PublicKey;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Bits per second where none are given.
pub const DEFAULT_BAUD: u32 = 115_200;
/// Slowest and fastest line, in bits per second.
pub const BAUD_RANGE: std::ops::RangeInclusive<u32> = 1_200..=4_000_000;

const SERIAL: &str = "serial://";
const SERIAL_TCP: &str = "serial+tcp://";

/// The prefix of an address that counts as one owner's: of IPv4 the first 24 bits, of IPv6 the
/// first 48, and of link-local ones, whose prefix is the same everywhere, all. IPv4 written as IPv6
/// (RFC 4291, section 2.5.5.2) is IPv4.
pub fn prefix(ip: IpAddr) -> u64 {
    // Above the 48 bits of an IPv6 prefix.
    const IPV4: u64 = 1 << 48;
    const LINK_LOCAL: u64 = 1 << 63;
    match ip.to_canonical() {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => LINK_LOCAL | ip.to_bits() as u64,
        IpAddr::V4(ip) => IPV4 | u64::from(ip.to_bits() >> 8),
        IpAddr::V6(ip) => (ip.to_bits() >> 80) as u64,
    }
}

/// Where a node is reached and who it must prove to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    /// Its key.
    pub public_key: PublicKey,
    /// Where it is.
    pub place: Place,
}

/// What leads to a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A TCP connection.
    Tcp(HostPorts),
    /// A serial line.
    Line(SerialLine),
}

/// Where a TCP server is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// Name, IPv4 or IPv6 address (without brackets).
    pub host: String,
    /// TCP port, not 0.
    pub port: u16,
}

/// A serial line, which leads to one neighbour.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SerialLine {
    /// A device of this machine: 8 data bits, no parity, 1 stop bit, no flow control.
    Device {
        /// Whole path, as in `/dev/ttyUSB0`.
        path: String,
        /// Bits per second, in [`BAUD_RANGE`].
        baud: u32,
    },
    /// Bytes that a TCP server takes and gives, without any protocol of their own.
    Tcp(HostPort),
}

/// Why text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@`.
    #[error(
        "\"{0}\" is not an address: write PUBKEY@HOST:PORT, or for a serial line \
         PUBKEY@serial:///dev/ttyUSB0?baud=115200"
    )]
    NoAt(String),
    /// Before the `@` stands no compressed public key.
    #[error(
        "\"{0}\" is not a compressed public key (66 hex digits, beginning with 02 or 03); \
         the other node prints its own with `blvm-mesh id`"
    )]
    Key(String),
    /// After the `@` stands no host and port.
    #[error("\"{0}\" is not HOST:PORT; an IPv6 address stands in brackets, as in [::1]:8338")]
    HostPort(String),
    /// Several stand beside each other, and not all of them are TCP's.
    #[error(
        "\"{0}\": only addresses of TCP stand beside each other, as in \
         PUBKEY@10.0.0.1:8338/relay.example.org:8338; a serial line is a peer's only address, and \
         a radio is none"
    )]
    Mixed(String),
    /// There are too many.
    #[error("{0} addresses of one peer are too many: at most {MOST_PLACES} are tried in turn")]
    TooMany(usize),
    /// One is there twice.
    #[error("the address {0} of one peer is there twice")]
    Twice(String),
    /// It begins as a serial line and is none.
    #[error(
        "\"{0}\" is not a serial line: write serial:///dev/ttyUSB0?baud=115200 with the whole \
         path of the device and from {min} to {max} bits per second, or serial+tcp://HOST:PORT",
        min = BAUD_RANGE.start(),
        max = BAUD_RANGE.end()
    )]
    Line(String),
    /// It begins as a radio and is none, or is one where none can be.
    #[error(transparent)]
    Radio(LoraError),
}

impl PeerAddress {
    /// Its identity.
    pub fn node_id(&self) -> NodeId {
        NodeId::from_public_key(&self.public_key)
    }

    /// From a public key and what leads to its holder.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn from_parts(key: &str, place: &str) -> Result<Self, AddressError> {
        let public_key = parse_public_key(key).ok_or_else(|| AddressError::Key(short(key)))?;
        if is_mixed(place) {
            return Err(AddressError::Mixed(short(place)));
        }
        if LoraAddress::is_meant(place) {
            return Err(LoraError::Dialed.into());
        }
        let place = match SerialLine::is_meant(place) {
            true => Place::Line(place.parse()?),
            false => Place::Tcp(place.parse()?),
        };
        Ok(Self { public_key, place })
    }
}

impl FromStr for PeerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let no_at = || AddressError::NoAt(short(text));
        let (key, place) = text.split_once('@').ok_or_else(no_at)?;
        Self::from_parts(key, place)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.public_key, self.place)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(at) => at.fmt(f),
            Self::Line(line) => line.fmt(f),
        }
    }
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(host_port: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::HostPort(short(host_port));
        let (host, port) = host_port.rsplit_once(':').ok_or_else(wrong)?;
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse::<u16>().ok().filter(|p| *p != 0 && digits).ok_or_else(wrong)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').ok_or_else(wrong)?;
                // A zone (%eth0) is the system's business.
                let ip = inner.split_once('%').map_or(inner, |(ip, _)| ip);
                ip.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                inner
            }
            None => host,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let bracketed = host_port.starts_with('[');
        if host.is_empty() || host.len() > 253 || !(bracketed || host.chars().all(plain)) {
            return Err(wrong());
        }
        Ok(Self { host: host.into(), port })
    }
}

impl fmt::Display for HostPort {
    /// `HOST:PORT`, with brackets where the host is an IPv6 address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl SerialLine {
    /// Whether text is to be read as a line, be it a right one or not.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("serial") && text.contains("://")
    }

    /// Whether both are the same line, at whatever rate.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Device { path, .. }, Self::Device { path: other, .. }) => path == other,
            _ => self == other,
        }
    }
}

impl FromStr for SerialLine {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::Line(short(text));
        if let Some(at) = text.strip_prefix(SERIAL_TCP) {
            return at.parse().map(Self::Tcp).map_err(|_| wrong());
        }
        let rest = text.strip_prefix(SERIAL).ok_or_else(wrong)?;
        let (path, baud) = match rest.split_once('?') {
            Some((path, query)) => {
                let baud = query.strip_prefix("baud=").ok_or_else(wrong)?;
                let digits = baud.bytes().all(|b| b.is_ascii_digit());
                let baud = baud.parse().ok().filter(|_| digits);
                (path, baud.ok_or_else(wrong)?)
            }
            None => (rest, DEFAULT_BAUD),
        };
        let plain = path.len() < 256 && !path.chars().any(|c| c.is_control() || c == '#');
        if !path.starts_with('/') || path.ends_with('/') || !plain || !BAUD_RANGE.contains(&baud) {
            return Err(wrong());
        }
        Ok(Self::Device { path: path.into(), baud })
    }
}

impl fmt::Display for SerialLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device { path, baud } => write!(f, "{SERIAL}{path}?baud={baud}"),
            Self::Tcp(at) => write!(f, "{SERIAL_TCP}{at}"),
        }
    }
}

/// Whether something with a scheme stands beside an address of TCP.
fn is_mixed(place: &str) -> bool {
    let Some((before, rest)) = place.split_once("://") else { return false };
    let is_tcp = |text: &str| text.parse::<HostPort>().is_ok();
    // The slashes of a device's path are its own.
    before.contains('/') || rest.rsplit_once('/').is_some_and(|(_, last)| is_tcp(last))
}

/// A compressed public key, written as 66 hex digits.
pub fn parse_public_key(text: &str) -> Option<PublicKey> {
    (text.len() == 66).then(|| PublicKey::from_str(text).ok()).flatten()
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    #[test]
    fn addresses_as_lightning_users_write_them() {
        for host_port in ["10.0.0.1:9735", "relay.example.org:1", "[::1]:65535", "[fe80::1%eth0]:8"]
        {
            let text = format!("{KEY}@{host_port}");
            let address: PeerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(address.place.to_string(), host_port);
        }
        let address: PeerAddress = format!("{KEY}@[::1]:7").parse().unwrap();
        let at = HostPort { host: "::1".into(), port: 7 };
        assert_eq!(address.place, Place::Tcp(at.into()));
    }

    #[test]
    fn several_addresses_are_of_one_kind() {
        let parse = |s: &str| format!("{KEY}@{s}").parse::<PeerAddress>();
        let two = parse("10.0.0.1:1/[2001:db8::1]:2").unwrap();
        assert_eq!(two.place.to_string(), "10.0.0.1:1/[2001:db8::1]:2");
        for mixed in [
            "h:1/serial:///dev/ttyUSB0?baud=9600",
            "serial:///dev/ttyUSB0?baud=9600/h:1",
            "serial:///dev/ttyUSB0/[::1]:1",
            "serial+tcp://h:1/h:2",
            "h:1/serial+tcp://h:2",
            "h:1/lora+rnode:///dev/x?region=EU868",
            "lora+rnode:///dev/x?region=EU868/h:1",
            "h:1/tcp://h:2",
        ] {
            let error = parse(mixed).unwrap_err();
            assert_eq!(error, AddressError::Mixed(mixed.into()));
            assert!(error.to_string().contains("a serial line is a peer's only address"));
        }
        for (text, part) in [("h:1/h", "h"), ("a/b:1", "a"), ("h:1/", "")] {
            assert_eq!(parse(text), Err(AddressError::HostPort(part.into())));
        }
    }

    #[test]
    fn serial_lines() {
        let line = |text: &str| text.parse::<SerialLine>();
        let device = |path: &str, baud| SerialLine::Device { path: path.into(), baud };
        for (text, expected) in [
            ("serial:///dev/ttyUSB0?baud=9600", device("/dev/ttyUSB0", 9600)),
            ("serial:///dev/ttyUSB0", device("/dev/ttyUSB0", 115_200)),
            ("serial:///dev/serial/by-id/usb-a:b_c-if00?baud=4000000", {
                device("/dev/serial/by-id/usb-a:b_c-if00", 4_000_000)
            }),
            ("serial+tcp://[::1]:7", SerialLine::Tcp("[::1]:7".parse().unwrap())),
            ("serial+tcp://board.local:4001", SerialLine::Tcp("board.local:4001".parse().unwrap())),
        ] {
            assert_eq!(line(text), Ok(expected.clone()), "{text}");
            assert_eq!(line(&expected.to_string()), Ok(expected.clone()));
            let peer: PeerAddress = format!("{KEY}@{text}").parse().unwrap();
            assert_eq!(peer.place, Place::Line(expected));
            assert_eq!(peer.to_string().parse(), Ok(peer));
        }
        let (a, b) = (device("/dev/a", 9600), device("/dev/a", 1200));
        assert!(a.is_same(&b) && !a.is_same(&device("/dev/b", 9600)));
        for bad in [
            "serial://",
            "serial:///",
            "serial:/dev/x",
            "serial://dev/x",
            "serial:///dev/x?",
            "serial:///dev/x?baud=",
            "serial:///dev/x?baud=+9600",
            "serial:///dev/x?baud=1199",
            "serial:///dev/x?baud=4000001",
            "serial:///dev/x?baud=9600&parity=even",
            "serial:///dev/\n",
            "serial+tcp://",
            "serial+tcp:///dev/x",
            "serial+tcp://host",
            "serial+udp://host:1",
            "/dev/ttyUSB0",
        ] {
            let error = line(bad).unwrap_err();
            assert_eq!(error, AddressError::Line(bad.into()));
            assert!(error.to_string().contains("from 1200 to 4000000"), "{error}");
        }
        let error = format!("{KEY}@lora+rnode:///dev/x?region=EU868").parse::<PeerAddress>();
        assert_eq!(error, Err(AddressError::Radio(LoraError::Dialed)));
        let error = format!("{KEY}@serial:///dev/x?baud=1").parse::<PeerAddress>().unwrap_err();
        assert!(matches!(error, AddressError::Line(_)));
    }

    #[test]
    fn addresses_of_one_owner_have_one_prefix() {
        let of = |ip: &str| prefix(ip.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("192.0.2.254"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.9"));
        assert_eq!(of("2001:db8:1::1"), of("2001:db8:1:ffff::2"));
        assert_ne!(of("2001:db8:1::1"), of("2001:db8:2::1"));
        assert_ne!(of("0.0.0.0"), of("::"));
        assert_ne!(of("fe80::1"), of("fe80::2"));
        assert_ne!(of("fe80::1"), of("::1"));
    }

    #[test]
    fn what_is_wrong_with_an_address_is_named() {
        let at = |s: &str| format!("{KEY}@{s}").parse::<PeerAddress>().unwrap_err();
        let bad = [
            "host",
            "host:",
            "host:0",
            "host:65536",
            ":1",
            "::1:1",
            "[::1:1",
            "[x]:1",
            "[]:1",
            "a b:1",
            "host:+1",
            "[::1]x:1",
        ];
        for host_port in bad {
            assert_eq!(at(host_port), AddressError::HostPort(host_port.into()));
        }
        assert!(matches!("host:1".parse::<PeerAddress>(), Err(AddressError::NoAt(_))));
        let id = "0f715baf5d4c2ed329785cef29e562f73488c8a2bb9dbc5700b361d54b9b0554";
        let error = format!("{id}@host:1").parse::<PeerAddress>().unwrap_err();
        assert!(error.to_string().contains("blvm-mesh id"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text(text: String, host_port in "[\\[\\]:.%/a-f0-9]{0,20}") {
            let _ = text.parse::<PeerAddress>();
            if let Ok(address) = PeerAddress::from_parts(KEY, &host_port) {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
            if let Ok(line) = format!("serial:///{text}").parse::<SerialLine>() {
                prop_assert_eq!(line.to_string().parse(), Ok(line));
            }
        }
    }
}
