//! Recorded inputs, and the hash of what follows from them: it is the same on every
//! target and in either memory (invariant I7).
//!
//! A recording is a start (configuration, key, seed) and then inputs with their times.
//! Numbers are little-endian, of 64 bits. It is a form for tests: it has no version.

use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::{LinkId, Network, NodeId, Standing};
use blvm_mesh_core::link::fragment::Lane;
use blvm_mesh_core::mesh::{Action, Input, LinkCapabilities, Mesh, Ticket};
use blvm_mesh_core::mode::MeshMode;
use blvm_mesh_core::payment::headers::KnownHeader;
use blvm_mesh_core::payment::ledger::{RECORD_LEN, Record};
use blvm_mesh_core::tables::Memory;
use blvm_mesh_core::time::Micros;
use core::fmt::{self, Write};
use secp256k1::{PublicKey, SecretKey};
use sha2::{Digest, Sha256};

/// Writes the start of a recording.
pub fn write_start(config: &Config, key: &SecretKey, seed: &[u8; 32], put: &mut impl FnMut(&[u8])) {
    put(&[config.network as u8, config.mode as u8]);
    put(&(config.payment.issuers.len() as u64).to_le_bytes());
    config.payment.issuers.iter().for_each(|issuer| put(&issuer.serialize()));
    put(&config.magic);
    put_bytes(&config.payment.payout_script, put);
    put_bytes(config.clock_source.as_ref().map_or(&[], |node| &node.0[..]), put);
    // The visitor changes nothing.
    let mut copy = config.clone();
    let _ = each_number(&mut copy, |n| {
        put(&n.to_le_bytes());
        Some(())
    });
    put(&key.secret_bytes());
    put(seed);
}

/// Writes one input, given at `now`. A marked one is measured where it is played.
pub fn write_input(marked: bool, now: Micros, input: &Input<'_>, put: &mut impl FnMut(&[u8])) {
    put(&[marked.into()]);
    put(&now.to_le_bytes());
    match input {
        Input::PeerConnected { link, peer, dialed, standing, capabilities } => {
            let (own, prefix) = match standing {
                Standing::Own => (true, 0),
                Standing::Stranger { prefix } => (false, *prefix),
            };
            put(&[0, (*dialed).into(), own.into(), capabilities.is_some().into()]);
            put(&prefix.to_le_bytes());
            put(&link.0.to_le_bytes());
            put(&peer.0);
            if let Some(LinkCapabilities { max_packet, keepalive }) = capabilities {
                put(&max_packet.to_le_bytes());
                put(&keepalive.to_le_bytes());
            }
        }
        Input::PeerDisconnected { link } => {
            put(&[1]);
            put(&link.0.to_le_bytes());
        }
        Input::MessageReceived { link, packet } => {
            put(&[2]);
            put(&link.0.to_le_bytes());
            put_bytes(packet, put);
        }
        Input::PaymentVerified { ticket, block } => {
            put(&[3, block.is_some().into()]);
            put(&ticket.0.to_le_bytes());
            if let Some(KnownHeader { merkle_root, time, confirmations }) = block {
                put(merkle_root);
                put(&time.to_le_bytes());
                put(&confirmations.to_le_bytes());
            }
        }
        Input::Send { destination, payload, proof, unchecked } => {
            put(&[4, (*unchecked).into()]);
            put(&destination.0);
            put_bytes(payload, put);
            put_bytes(proof, put);
        }
        Input::FindRoute { destination } => {
            put(&[5]);
            put(&destination.0);
        }
        Input::FindAccepted { destination } => {
            put(&[18]);
            put(&destination.0);
        }
        Input::Resumed { ticket, packet } => {
            put(&[6]);
            put(&ticket.0.to_le_bytes());
            put_bytes(packet, put);
        }
        Input::Timer => put(&[7]),
        Input::WallClock { unix } => {
            put(&[8]);
            put(&unix.to_le_bytes());
        }
        Input::BlockHeader { header, height } => {
            put(&[9]);
            put(&header[..]);
            put(&height.to_le_bytes());
        }
        Input::Persisted { record } => {
            put(&[10]);
            put(&record.encode());
        }
        Input::StoreFailed => put(&[11]),
        Input::StoreRecovered => put(&[15]),
        Input::InboxFull { source, full } => {
            put(&[16, (*full).into(), source.is_some().into()]);
            put(source.map(|s| s.0).as_slice().as_flattened());
        }
        Input::Congestion { link, lane, full } => {
            put(&[12, *lane as u8, (*full).into()]);
            put(&link.0.to_le_bytes());
        }
        Input::LinkMeasured { link, quality } => {
            put(&[13]);
            put(&link.0.to_le_bytes());
            put(&quality.to_le_bytes());
        }
        Input::LinkAlive { link, incoming } => {
            put(&[14, (*incoming).into()]);
            put(&link.0.to_le_bytes());
        }
        Input::Repeat { packet } => {
            put(&[17]);
            put_bytes(packet, put);
        }
    }
}

fn put_bytes(bytes: &[u8], put: &mut impl FnMut(&[u8])) {
    put(&(bytes.len() as u64).to_le_bytes());
    put(bytes);
}

/// A recording that is read.
#[derive(Debug, Clone)]
pub struct Recording<'a> {
    /// The configuration of the node.
    pub config: Config,
    /// Its key.
    pub key: SecretKey,
    /// Its seed.
    pub seed: [u8; 32],
    inputs: Fields<'a>,
}

/// One recorded input.
#[derive(Debug)]
pub struct Moment<'a> {
    /// Whether it is to be measured.
    pub marked: bool,
    /// When it is given, in monotonic microseconds.
    pub now: Micros,
    /// What is given.
    pub input: Input<'a>,
    /// How many bytes of the room given hold its packet.
    pub packet: usize,
}

impl<'a> Recording<'a> {
    /// Reads the start; `None` if it is not one.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let [network, mode] = fields.array()?;
        let network = Network::ALL.into_iter().find(|n| *n as u8 == network)?;
        let mut config = Config::board(network, 0);
        config.mode = MeshMode::ALL.into_iter().find(|m| *m as u8 == mode)?;
        for _ in 0..fields.number()? {
            let issuer = PublicKey::from_slice(&fields.array::<33>()?).ok()?;
            config.payment.issuers.push(issuer).ok()?;
        }
        config.magic = fields.array()?;
        config.payment.payout_script = heapless::Vec::from_slice(fields.bytes()?).ok()?;
        config.clock_source = match fields.bytes()? {
            [] => None,
            node => Some(NodeId(node.try_into().ok()?)),
        };
        each_number(&mut config, |n| {
            *n = fields.number()?;
            Some(())
        })?;
        let key = SecretKey::from_byte_array(fields.array::<32>()?).ok()?;
        let seed = fields.array()?;
        Some(Self { config, key, seed, inputs: fields })
    }

    /// Whether all was read.
    pub fn is_done(&self) -> bool {
        self.inputs.0.is_empty()
    }

    /// The next input, with its packet in `room`; `None` at the end, or if what
    /// follows is not one.
    pub fn next<'r>(&mut self, room: &'r mut [u8]) -> Option<Moment<'r>>
    where
        'a: 'r,
    {
        let f = &mut self.inputs;
        let [marked] = f.array()?;
        let now = f.number()?;
        let mut len = 0;
        let input = match f.array()? {
            [0] => {
                let [dialed, own, known] = f.array()?;
                let standing = match (own, f.number()?) {
                    (0, prefix) => Standing::Stranger { prefix },
                    _ => Standing::Own,
                };
                let link = f.link()?;
                let peer = NodeId(f.array()?);
                let capabilities = match known {
                    0 => None,
                    _ => Some(LinkCapabilities { max_packet: f.short()?, keepalive: f.number()? }),
                };
                Input::PeerConnected { link, peer, dialed: dialed != 0, standing, capabilities }
            }
            [1] => Input::PeerDisconnected { link: f.link()? },
            [2] => {
                let link = f.link()?;
                let packet = f.packet(room)?;
                len = packet.len();
                Input::MessageReceived { link, packet }
            }
            [3] => {
                let [known] = f.array()?;
                let ticket = Ticket(f.number()?);
                let block = match known {
                    0 => None,
                    _ => Some(KnownHeader {
                        merkle_root: f.array()?,
                        time: f.short()?,
                        confirmations: f.short()?,
                    }),
                };
                Input::PaymentVerified { ticket, block }
            }
            [4] => {
                let [unchecked] = f.array()?;
                let destination = NodeId(f.array()?);
                let (payload, proof) = (f.bytes()?, f.bytes()?);
                Input::Send { destination, payload, proof, unchecked: unchecked != 0 }
            }
            [5] => Input::FindRoute { destination: NodeId(f.array()?) },
            [18] => Input::FindAccepted { destination: NodeId(f.array()?) },
            [6] => {
                let ticket = Ticket(f.number()?);
                let packet = f.packet(room)?;
                len = packet.len();
                Input::Resumed { ticket, packet }
            }
            [7] => Input::Timer,
            [8] => Input::WallClock { unix: f.number()? },
            [9] => Input::BlockHeader { header: f.borrow()?, height: f.short()? },
            [10] => Input::Persisted { record: Record::decode(f.borrow::<RECORD_LEN>()?)? },
            [11] => Input::StoreFailed,
            [15] => Input::StoreRecovered,
            [16] => {
                let [full, of_one] = f.array()?;
                let source = if of_one != 0 { Some(NodeId(f.array()?)) } else { None };
                Input::InboxFull { source, full: full != 0 }
            }
            [12] => {
                let [lane, full] = f.array()?;
                let lane = if lane == Lane::Paid as u8 { Lane::Paid } else { Lane::Free };
                Input::Congestion { link: f.link()?, lane, full: full != 0 }
            }
            [13] => {
                Input::LinkMeasured { link: f.link()?, quality: u16::from_le_bytes(f.array()?) }
            }
            [14] => {
                let [incoming] = f.array()?;
                Input::LinkAlive { link: f.link()?, incoming: incoming != 0 }
            }
            [17] => Input::Repeat { packet: f.bytes()? },
            _ => return None,
        };
        Some(Moment { marked: marked != 0, now, input, packet: len })
    }
}

/// Plays a recording to a node that was made from its start. Gives the SHA-256 of all
/// actions and of each packet as it was left, and the number of inputs; `None` if the
/// recording cannot be read, or `room` is too short for a packet.
pub fn trace<M: Memory>(
    mesh: &mut Mesh<M>,
    mut recording: Recording<'_>,
    room: &mut [u8],
) -> Option<([u8; 32], u64)> {
    let (mut text, mut inputs) = (Text(Sha256::new()), 0);
    while !recording.is_done() {
        let Moment { now, input, packet, .. } = recording.next(room)?;
        let taken = mesh.handle(now, input);
        write!(text, "{inputs} at {now}: {taken:?};").ok()?;
        text.0.update(room.get(..packet)?);
        inputs += 1;
        if taken.is_ok() {
            loop {
                let action = mesh.poll();
                write!(text, "{action:?};").ok()?;
                if matches!(action, Action::Wait { .. }) {
                    break;
                }
            }
        }
    }
    Some((text.0.finalize().into(), inputs))
}

/// Hashes what is written to it.
struct Text(Sha256);

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text);
        Ok(())
    }
}

/// What is left to be read.
#[derive(Debug, Clone)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn borrow<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(field)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.borrow().copied()
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.array()?))
    }

    fn short(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.array()?))
    }

    fn link(&mut self) -> Option<LinkId> {
        Some(LinkId(self.short()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }

    fn packet<'r>(&mut self, room: &'r mut [u8]) -> Option<&'r mut [u8]> {
        let packet = self.bytes()?;
        let room = room.get_mut(..packet.len())?;
        room.copy_from_slice(packet);
        Some(room)
    }
}

/// Visits every number of a configuration, in a fixed order. What the visitor leaves
/// must fit the field.
fn each_number(config: &mut Config, mut visit: impl FnMut(&mut u64) -> Option<()>) -> Option<()> {
    macro_rules! numbers {
        ($($field:expr),* $(,)?) => {
            $({
                let mut n = $field as u64;
                visit(&mut n)?;
                $field = n.try_into().ok()?;
            })*
        };
    }
    let Config { payment, timing, capacities: sizes, .. } = config;
    for flag in
        [&mut config.private_stratum_tlv, &mut payment.covenants_active, &mut payment.volatile]
    {
        let mut n = u64::from(*flag);
        visit(&mut n)?;
        *flag = n != 0;
    }
    numbers![
        config.max_packet,
        config.free_rate,
        config.free_burst,
        config.min_difficulty,
        config.bad_payments.rate,
        config.bad_payments.burst,
        config.plain.rate,
        config.plain.burst,
        config.rare.rate,
        config.rare.burst,
        config.control.rate,
        config.control.burst,
        config.control_of_all.rate,
        config.control_of_all.burst,
        config.signature_work,
        config.wide_searches.rate,
        config.wide_searches.burst,
        payment.tariff.base_msat,
        payment.tariff.per_kib_msat,
        payment.max_lifetime,
        payment.future_skew,
        payment.min_confirmations,
        timing.keepalive,
        timing.hop_round_trip,
        timing.first_ring,
        timing.route_lifetime,
        timing.verify_timeout,
        sizes.neighbours,
        sizes.per_prefix,
        sizes.owners,
        sizes.shares,
        sizes.routes,
        sizes.route_hops,
        sizes.hearsay,
        sizes.relayed_requests,
        sizes.searches,
        sizes.payments,
        sizes.parked,
        sizes.parked_bytes,
        sizes.headers,
        sizes.seen,
    ];
    Some(())
}
