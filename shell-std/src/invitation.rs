//! Invitations: who a node is and where it is reached, as one word that is typed, pasted or scanned.
//!
//! Bech32m (BIP 350) with the prefix `blvmmesh`, in lower or upper case, of at most 1,023 characters,
//! over
//!
//! | size | field |
//! |---|---|
//! | 1 | version, 1 |
//! | 1 | network, 0 to 4, as in a hello |
//! | 33 | public key |
//! | 1 | number of addresses n, 1 to 8 |
//! | n times | address |
//!
//! | address | first byte | then |
//! |---|---|---|
//! | IPv4 | 4 | 4 bytes, and the port in 2 |
//! | IPv6 | 6 | 16 bytes, and the port in 2 |
//! | name | 0 | its length in 1 byte, the name, and the port in 2 |
//!
//! Numbers are in network byte order. It is no secret, and gives no right: whoever has it knows a key
//! and where its holder listens.

use crate::address::{AddressError, HostPort, HostPorts, MOST_PLACES, PeerAddress, Place};
use bitcoin::bech32::primitives::decode::CheckedHrpstring;
use bitcoin::bech32::{self, Bech32m, Hrp};
use blvm_mesh_core::id::Network;
use secp256k1::PublicKey;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

const PREFIX: Hrp = Hrp::parse_unchecked("blvmmesh");
const VERSION: u8 = 1;
const NAME: u8 = 0;
const IPV4: u8 = 4;
const IPV6: u8 = 6;

/// An invitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    network: Network,
    public_key: PublicKey,
    places: HostPorts,
}

/// Why there is no invitation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvitationError {
    /// The text is something else.
    #[error(
        "\"{0}\" is not an invitation, which begins with {PREFIX}1: `blvm-mesh invite` prints one"
    )]
    Other(String),
    /// The checksum is wrong, or the word is too long.
    #[error("the invitation is damaged ({0}): copy it once more, the whole of it")]
    Damaged(String),
    /// Its version is none that is known here.
    #[error("the invitation is of version {0}, this program reads version {VERSION}: update it")]
    Version(u8),
    /// What is in it is not as it should be.
    #[error("the invitation says nothing that makes sense: {0}")]
    Content(&'static str),
    /// An address in it, or that is to be in it, is none.
    #[error("an address of the invitation: {0}")]
    Address(#[from] AddressError),
    /// An address is of this machine only.
    #[error("{0} is an address of this host's own link, which nobody else can use")]
    Zone(HostPort),
    /// It would be too long to be checked.
    #[error("the addresses are too long for one invitation: give fewer, or shorter names")]
    TooLong,
}

impl Invitation {
    /// To a node at these places.
    ///
    /// # Errors
    /// [`InvitationError::Zone`], [`InvitationError::TooLong`], and [`InvitationError::Address`]
    /// where two are the same.
    pub fn new(
        network: Network,
        public_key: PublicKey,
        places: &[HostPort],
    ) -> Result<Self, InvitationError> {
        let places = places.iter().map(canonical).collect::<Result<_, _>>()?;
        let invitation = Self { network, public_key, places: HostPorts::new(places)? };
        bech32::encoded_length::<Bech32m>(PREFIX, &invitation.bytes())
            .map_err(|_| InvitationError::TooLong)?;
        Ok(invitation)
    }

    /// The network that the node is on.
    pub fn network(&self) -> Network {
        self.network
    }

    /// The node as a peer.
    pub fn peer(&self) -> PeerAddress {
        PeerAddress { public_key: self.public_key, place: Place::Tcp(self.places.clone()) }
    }

    /// Where it is reached.
    pub fn places(&self) -> &[HostPort] {
        self.places.as_slice()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, self.network as u8];
        bytes.extend(self.public_key.serialize());
        bytes.push(self.places().len() as u8);
        for HostPort { host, port } in self.places() {
            match (host.parse::<Ipv4Addr>(), host.parse::<Ipv6Addr>()) {
                (Ok(ip), _) => {
                    bytes.push(IPV4);
                    bytes.extend(ip.octets());
                }
                (_, Ok(ip)) => {
                    bytes.push(IPV6);
                    bytes.extend(ip.octets());
                }
                // No name is longer than 253 bytes.
                _ => {
                    bytes.extend([NAME, host.len() as u8]);
                    bytes.extend(host.as_bytes());
                }
            }
            bytes.extend(port.to_be_bytes());
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Self, InvitationError> {
        let mut rest = Rest(bytes);
        let [version] = rest.array()?;
        if version != VERSION {
            return Err(InvitationError::Version(version));
        }
        let [network] = rest.array()?;
        let network = Network::from_u8(network)
            .ok_or(InvitationError::Content("there is no such network"))?;
        let public_key = PublicKey::from_byte_array_compressed(rest.array()?)
            .map_err(|_| InvitationError::Content("its key is none"))?;
        let [count] = rest.array()?;
        if !(1..=MOST_PLACES).contains(&usize::from(count)) {
            return Err(InvitationError::Content("it has no addresses, or more than 8"));
        }
        let places = (0..count).map(|_| rest.place()).collect::<Result<_, _>>()?;
        match rest.0 {
            [] => Ok(Self { network, public_key, places: HostPorts::new(places)? }),
            _ => Err(InvitationError::Content("something follows it")),
        }
    }
}

/// What has not been read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], InvitationError> {
        const SHORT: InvitationError = InvitationError::Content("it ends too early");
        let (array, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*array)
    }

    fn name(&mut self) -> Result<String, InvitationError> {
        const NONE: InvitationError = InvitationError::Content("a name in it is none");
        let [len] = self.array()?;
        let (name, rest) = self.0.split_at_checked(len.into()).ok_or(NONE)?;
        self.0 = rest;
        String::from_utf8(name.to_vec()).map_err(|_| NONE)
    }

    fn place(&mut self) -> Result<HostPort, InvitationError> {
        let host = match self.array()? {
            [IPV4] => Ipv4Addr::from(self.array::<4>()?).to_string(),
            [IPV6] => Ipv6Addr::from(self.array::<16>()?).to_string(),
            [NAME] => self.name()?,
            _ => return Err(InvitationError::Content("an address in it is of an unknown kind")),
        };
        let port = u16::from_be_bytes(self.array()?);
        canonical(&HostPort { host, port }.to_string().parse()?)
    }
}

/// A place as an invitation says it.
fn canonical(place: &HostPort) -> Result<HostPort, InvitationError> {
    let HostPort { host, port } = place;
    if host.contains('%') {
        return Err(InvitationError::Zone(place.clone()));
    }
    let host = host.parse::<Ipv6Addr>().map_or_else(|_| host.clone(), |ip| ip.to_string());
    Ok(HostPort { host, port: *port })
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bech32::encode_lower_to_fmt::<Bech32m, _>(f, PREFIX, &self.bytes()).map_err(|_| fmt::Error)
    }
}

impl FromStr for Invitation {
    type Err = InvitationError;

    fn from_str(text: &str) -> Result<Self, InvitationError> {
        let text = text.trim();
        let begins = |text: &str| text.split_once('1').map(|(prefix, _)| prefix.to_lowercase());
        if begins(text).as_deref() != Some(PREFIX.as_str()) {
            return Err(InvitationError::Other(text.chars().take(40).collect()));
        }
        let checked = CheckedHrpstring::new::<Bech32m>(text)
            .map_err(|e| InvitationError::Damaged(e.to_string()))?;
        let invitation = Self::read(&checked.byte_iter().collect::<Vec<_>>())?;
        // Each has one form: bits left over, and names that are numbers, are refused.
        match invitation.to_string().eq_ignore_ascii_case(text) {
            true => Ok(invitation),
            false => Err(InvitationError::Content("it is not written as it should be")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    fn places(text: &str) -> Vec<HostPort> {
        text.split(' ').map(|text| text.parse().unwrap()).collect()
    }

    fn of(text: &str) -> Result<Invitation, InvitationError> {
        Invitation::new(Network::Regtest, KEY.parse().unwrap(), &places(text))
    }

    /// Whatever bytes there are, as an invitation would be written.
    fn written(bytes: &[u8]) -> String {
        bech32::encode::<Bech32m>(PREFIX, bytes).unwrap()
    }

    #[test]
    fn it_says_who_and_where_in_one_word() {
        let invitation = of("10.0.0.1:8338").unwrap();
        let text = invitation.to_string();
        // Pinned, as made by another program: nodes of other versions read it.
        assert_eq!(
            text,
            "blvmmesh1qyzqy7d7vel0nh9m4326qc54e6rskpczn07dk\
             tww9rv4nu5ptvt0s9ucqyzq5qqqqysfyvdlyhr"
        );
        assert_eq!(text.to_uppercase().parse(), Ok(invitation.clone()));
        assert_eq!(format!(" {text}\n").parse(), Ok(invitation.clone()));
        assert_eq!(invitation.peer().to_string(), format!("{KEY}@10.0.0.1:8338"));
        let all = "10.0.0.1:1 [2001:db8::1]:2 relay.example.org:3 a:4 a:5 a:6 a:7 a:65535";
        let invitation = of(all).unwrap();
        assert_eq!(invitation.to_string().parse(), Ok(invitation.clone()));
        assert_eq!((invitation.network(), invitation.places()), (Network::Regtest, &*places(all)));
        assert_eq!(of("[2001:DB8:0::1]:2"), of("[2001:db8::1]:2"), "one form");
    }

    #[test]
    fn what_nobody_can_use_is_no_invitation() {
        assert!(matches!(of("[fe80::1%eth0]:8"), Err(InvitationError::Zone(_))));
        assert!(matches!(of("[::1]:8 [0::1]:8"), Err(InvitationError::Address(_))));
        assert!(matches!(
            of("a:1 a:2 a:3 a:4 a:5 a:6 a:7 a:8 a:9"),
            Err(InvitationError::Address(_))
        ));
        let long = format!("{}:1", "a".repeat(253));
        let longer = format!("b{} c{long}", &long[1..]).replace("caa", "ca");
        assert!(of(&long).is_ok() && of(&longer).is_ok());
        let longest = format!("{longer} d{}", &long[1..]);
        assert_eq!(of(&longest), Err(InvitationError::TooLong));
        let none = Invitation::new(Network::Regtest, KEY.parse().unwrap(), &[]);
        assert!(matches!(none, Err(InvitationError::Address(_))));
    }

    #[test]
    fn a_wrong_letter_is_noticed_wherever_it_is() {
        let text = of("10.0.0.1:8338").unwrap().to_string();
        for at in 0..text.len() {
            for wrong in ['q', 'p', '7', 'B', 'é'] {
                let mut letters: Vec<char> = text.chars().collect();
                if letters[at] != wrong {
                    letters[at] = wrong;
                    let changed: String = letters.into_iter().collect();
                    assert!(changed.parse::<Invitation>().is_err(), "{changed}");
                }
            }
        }
        let error = |text: &str| text.parse::<Invitation>().unwrap_err();
        assert!(matches!(error(&text[..60]), InvitationError::Damaged(_)));
        let mixed = text.replace('q', "Q");
        assert!(mixed != text && matches!(error(&mixed), InvitationError::Damaged(_)));
        let bech32 = bech32::encode::<bech32::Bech32>(PREFIX, &[1, 2]).unwrap();
        assert!(matches!(error(&bech32), InvitationError::Damaged(_)), "not the older checksum");
        let endless = format!("blvmmesh1{}", "q".repeat(100_000));
        assert!(matches!(error(&endless), InvitationError::Damaged(_)));
        for other in ["", "lnbc1qq", "bc1q", "blvmmesh", &format!("{KEY}@10.0.0.1:1")] {
            assert!(error(other).to_string().contains("blvm-mesh invite"), "{other}");
        }
    }

    #[test]
    fn what_it_says_must_make_sense() {
        let good = of("10.0.0.1:8338").unwrap().bytes();
        assert!(written(&good).parse::<Invitation>().is_ok());
        for cut in 0..good.len() {
            assert!(written(&good[..cut]).parse::<Invitation>().is_err(), "{cut}");
        }
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            written(&bytes).parse::<Invitation>()
        };
        let content = |at, value| matches!(with(at, value), Err(InvitationError::Content(_)));
        assert_eq!(with(0, 2), Err(InvitationError::Version(2)));
        assert!(content(1, 5), "a network");
        assert!(content(2, 4), "a key");
        assert!(content(35, 0) && content(35, 2) && content(35, 9), "the number of addresses");
        assert!(content(36, 5), "the kind of one");
        let mut none = good.clone();
        none[41..].fill(0);
        assert!(matches!(written(&none).parse::<Invitation>(), Err(InvitationError::Address(_))));
        let more = [&good[..], &[0]].concat();
        assert!(matches!(written(&more).parse::<Invitation>(), Err(InvitationError::Content(_))));
        // A number that is written as a name, a name that is none, and the same address twice.
        for (count, addresses) in [
            (1, &b"\x00\x081.2.3.40\x00\x01"[..]),
            (1, b"\x00\x03a b\x00\x01"),
            (1, b"\x00\x02\xff\xfe\x00\x01"),
            (1, b"\x00\xffa\x00\x01"),
            (1, b"\x00\x06::1%lo\x00\x01"),
            (2, b"\x00\x01a\x00\x01\x00\x01a\x00\x01"),
        ] {
            let bytes = [&good[..35], &[count], addresses].concat();
            assert!(written(&bytes).parse::<Invitation>().is_err(), "{addresses:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..60), text: String) {
            prop_assert!(text.parse::<Invitation>().is_err());
            let head = [&[1, 4][..], &of("a:1").unwrap().bytes()[2..35]].concat();
            let text = written(&[&head[..], &bytes].concat());
            if let Ok(invitation) = text.parse::<Invitation>() {
                prop_assert_eq!(invitation.to_string(), text);
            }
        }
    }
}
