//! Radios that belong to no node: one that jams the channel, and one that holds its key and lies.
//!
//! Neither listens before it sends. A liar hears what everybody hears where it is, and knows the public key of
//! each node; it has no session with any, and no neighbour's group key. What it may move is
//! nothing (I3): each of its frames is checked where it is heard.

use super::super::World;
use super::super::world::Event;
use super::{Medium, Modem};
use crate::rng::Rng;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_core::link::channel::ChannelLimits;
use blvm_mesh_core::link::channel::frame::{
    self, ADDRESSES_LEN, Address, KEY_LEN, TAG_LEN, TagKey,
};
use blvm_mesh_core::link::channel::lora::{HEADER_LEN, MAX_FRAME};
use blvm_mesh_core::link::datagram::terms::{THREE, THREE_LEN, TWO, TWO_LEN};
use blvm_mesh_core::link::datagram::{DatagramLink, Keys, LinkMemory, MEMORY_OVERHEAD, Role};
use blvm_mesh_core::link::packet_buffer::Growable;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use blvm_mesh_core::wire::Kind;
use secp256k1::{Keypair, PublicKey, Secp256k1};
use std::collections::VecDeque;

/// Time in which a jammer jams once.
const JAM_PERIOD: Micros = 10 * SECOND;
/// Frames that a liar keeps, to send them again.
const KEPT: usize = 64;
/// Largest packet that a liar says it takes.
const MAX_PACKET: u32 = 2048;

/// The channel's key, which all know.
pub(in crate::sim) const CHANNEL_KEY: [u8; KEY_LEN] = [0x6d; KEY_LEN];

/// A radio that belongs to no node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intruder {
    /// Sends noise for so many hundredths of each ten seconds, in one piece.
    Jammer(u64),
    /// Sends a forged or an old frame each so many milliseconds.
    Liar(u64),
    /// Sends at the same times as a liar, as long, what nobody reads.
    Noise(u64),
}

impl Intruder {
    /// From its name on the command line, `jammer:50` or `liar:1000`; `None`: it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, number) = text.split_once(':')?;
        let number = number.parse().ok()?;
        match (kind, number) {
            ("jammer", 1..=99) => Some(Self::Jammer(number)),
            ("liar", 100..=1_000_000) => Some(Self::Liar(number)),
            ("noise", 100..=1_000_000) => Some(Self::Noise(number)),
            _ => None,
        }
    }
}

impl std::fmt::Display for Intruder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Jammer(percent) => write!(f, "jammer:{percent}"),
            Self::Liar(ms) => write!(f, "liar:{ms}"),
            Self::Noise(ms) => write!(f, "noise:{ms}"),
        }
    }
}

/// A lie of somebody who holds the channel's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// A node that does not exist announces itself.
    Stranger,
    /// A node announces itself that did not.
    Namesake,
    /// A node that exists, or does not, begins a handshake that is never finished.
    Call,
    /// Acts Two and Three that nobody made.
    Act,
    /// A frame of a session that it is not from.
    Session,
    /// A beacon, or a search, in the name of a neighbour.
    ToAll,
    /// What was sent once comes again.
    Replay,
}

impl Lie {
    const ALL: [Self; 7] = [
        Self::Stranger,
        Self::Namesake,
        Self::Call,
        Self::Act,
        Self::Session,
        Self::ToAll,
        Self::Replay,
    ];
}

/// Keys that are used once.
struct Fresh<'r>(Keypair, &'r mut Rng);

fn fresh(rng: &mut Rng) -> Keypair {
    Keypair::from_seckey_byte_array(&Secp256k1::new(), rng.bytes32()).expect("a key")
}

impl Keys for Fresh<'_> {
    fn local(&self) -> &Keypair {
        &self.0
    }
    fn ephemeral(&mut self) -> Keypair {
        fresh(self.1)
    }
}

/// A frame to one node, with a right tag if there is a key for it.
fn to_one(
    [to, from]: [Address; 2],
    inner: &[u8],
    key: Option<&TagKey>,
    out: &mut [u8],
) -> Option<usize> {
    frame::address(to, from, out)?;
    let end = ADDRESSES_LEN + inner.len();
    out[ADDRESSES_LEN..end].copy_from_slice(inner);
    let Some(key) = key else { return Some(end) };
    let tag = key.tag(&out[..end]);
    out[end..][..TAG_LEN].copy_from_slice(&tag);
    Some(end + TAG_LEN)
}

/// The radio of an intruder.
#[derive(Debug)]
pub(in crate::sim) struct Outsider {
    does: Intruder,
    /// Its place in the medium.
    place: usize,
    until: Micros,
    rng: Rng,
    /// The key of each node.
    keys: Vec<PublicKey>,
    /// What it has heard.
    heard: VecDeque<Vec<u8>>,
    /// What is on the air: a frame, and whether nobody has made it before.
    frame: Option<(Vec<u8>, bool)>,
}

impl Outsider {
    /// Keeps a frame that it hears.
    pub(in crate::sim) fn hears(&mut self, frame: &[u8]) {
        if self.heard.len() >= KEPT {
            self.heard.pop_front();
        }
        self.heard.push_back(frame.to_vec());
    }

    /// A lie, and whether the frame is a new one.
    fn lie(&mut self, modem: Modem) -> (Vec<u8>, bool) {
        let (rng, keys, channel) = (&mut self.rng, &self.keys, &TagKey::new(CHANNEL_KEY));
        let mut out = [0; MAX_FRAME];
        let [one, other] = [0; 2].map(|_| keys[rng.index(keys.len())]);
        let [to, from] = [one, other].map(|key| Address::of(&NodeId::from_public_key(&key)));
        let counter = rng.draw() as u32;
        let group = TagKey::new(rng.bytes32());
        let addresses = [to, from];
        let len = match rng.pick(&Lie::ALL) {
            Lie::Stranger => {
                let key = fresh(rng).public_key();
                let from = Address::of(&NodeId::from_public_key(&key));
                let key = key.serialize();
                frame::write_announcement(from, counter, &key, channel, &group, &mut out)
            }
            Lie::Namesake => {
                let key = other.serialize();
                frame::write_announcement(from, counter, &key, channel, &group, &mut out)
            }
            Lie::Call => {
                let memory = || [0; 2].map(|_| Growable::new(MEMORY_OVERHEAD));
                let memory = LinkMemory { inbound: memory(), outbound: memory() };
                let limits = ChannelLimits::new(modem, 1, MAX_PACKET).link;
                let mut link = DatagramLink::<RustCrypto, _>::new(limits, Role::Dial(one), memory);
                let mut act = [0; MAX_FRAME];
                let mut keys = Fresh(fresh(rng), rng);
                let len = link.transmit(0, &mut keys, &mut act).expect("Act One");
                to_one(addresses, &act[..len], Some(channel), &mut out)
            }
            Lie::Act => {
                let (what, len) = rng.pick(&[(TWO, TWO_LEN), (THREE, THREE_LEN)]);
                let mut act = rng.vec(len);
                (act[0], act[1]) = (what, act[1] & 0x7f);
                to_one(addresses, &act, Some(channel), &mut out)
            }
            Lie::Session => {
                let mut inner = rng.vec(60);
                inner[0] &= 0x7f;
                to_one(addresses, &inner, None, &mut out)
            }
            Lie::ToAll if rng.one_in(2) => frame::write_beacon(from, counter, &group, &mut out),
            Lie::ToAll => {
                let mut search = rng.vec(90);
                search[..4].copy_from_slice(&[1, Kind::RouteRequest as u8, 3, 5]);
                let parts = std::iter::once(&search[..]);
                frame::write_packet(from, counter, Address::ALL, parts, &group, &mut out)
            }
            Lie::Replay => match self.heard.is_empty() {
                true => None,
                false => return (self.heard[rng.index(self.heard.len())].clone(), false),
            },
        };
        match len {
            Some(len) => (out[..len].to_vec(), true),
            None => (vec![0; ADDRESSES_LEN], true),
        }
    }
}

impl Medium {
    /// Adds the radio of somebody who is in the middle of all nodes; its place.
    fn add_outsider(&mut self) -> usize {
        let count = self.positions.len() as f64;
        let sum = self.positions.iter().fold((0.0, 0.0), |sum, at| (sum.0 + at.0, sum.1 + at.1));
        let place = self.positions.len();
        self.positions.push((sum.0 / count, sum.1 / count));
        self.radios.push(super::Radio::default());
        self.heard.push(Vec::new());
        self.outsiders += 1;
        let moving = self.moving;
        self.place(place, self.positions[place]);
        self.moving = moving;
        place
    }
}

impl World {
    /// Puts an intruder on the air between these times.
    pub(in crate::sim) fn intrude(&mut self, does: Intruder, from: Micros, until: Micros) {
        let Some(medium) = &mut self.radio else { return };
        let place = medium.add_outsider();
        let rng = Rng::new(self.seed()).fork("intruder");
        let (secp, heard) = (Secp256k1::new(), VecDeque::new());
        let keys = self.nodes.iter().map(|node| node.key.public_key(&secp)).collect();
        self.outsider = Some(Outsider { does, place, until, rng, keys, heard, frame: None });
        self.at(from, Event::Intruder);
    }

    /// The intruder begins to send.
    pub(in crate::sim) fn intruder_sends(&mut self) {
        let now = self.now;
        let Some(mut own) = self.outsider.take().filter(|own| now < own.until) else { return };
        let modem = self.radio.as_ref().map(|medium| medium.modem).expect("a medium");
        let (airtime, pause) = match own.does {
            Intruder::Jammer(percent) => (JAM_PERIOD / 100 * percent, JAM_PERIOD),
            Intruder::Liar(ms) | Intruder::Noise(ms) => {
                let (bytes, new) = own.lie(modem);
                let airtime = modem.airtime(bytes.len() + HEADER_LEN);
                own.frame = matches!(own.does, Intruder::Liar(_)).then_some((bytes, new));
                (airtime, ms * MILLISECOND / 2 + own.rng.below(ms * MILLISECOND))
            }
        };
        let Some(medium) = &mut self.radio else { return };
        let number = medium.put_up(own.place);
        self.intruded.push((now, airtime));
        self.tell_that_somebody_sends(own.place);
        self.at(now + airtime, Event::Silence { node: own.place, number });
        // It does not begin before it has ended.
        self.at(now + pause.max(airtime + MILLISECOND), Event::Intruder);
        self.outsider = Some(own);
    }

    /// The intruder has sent: these have heard it.
    pub(in crate::sim) fn intruder_sent(&mut self, good: &[usize]) {
        let Some(own) = &mut self.outsider else { return };
        let (place, frame) = (own.place, own.frame.take());
        if let Some((bytes, new)) = frame {
            self.checks.count("lies on the air");
            for m in good {
                self.hear_lie(*m, &bytes, new);
            }
        }
        self.sense_all(place);
    }
}
