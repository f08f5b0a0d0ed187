//! Recorded inputs, and the hash of what follows from them: it is the same on every
//! target and in either memory (invariant I7).
//!
//! A recording is a start (configuration, key, seed) and then inputs with their times.
//! The start's numbers are little-endian, of 64 bits. It is a form for tests: it has no version.

use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::{Network, NodeId};
use blvm_mesh_core::mesh::owned::Input;
use blvm_mesh_core::mesh::{Action, Mesh};
use blvm_mesh_core::mode::MeshMode;
use blvm_mesh_core::tables::Memory;
use blvm_mesh_core::time::Micros;
use core::fmt::{self, Write};
use secp256k1::{PublicKey, SecretKey};
use serde::{Deserialize, Serialize};
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

/// One recorded input, in postcard's form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment<'a> {
    /// Whether it is to be measured.
    pub marked: bool,
    /// When it is given, in monotonic microseconds.
    pub now: Micros,
    /// What is given.
    #[serde(borrow)]
    pub input: Input<&'a [u8]>,
}

impl Moment<'_> {
    /// The input's packet, copied to the beginning of `room`; `None` if that is too short.
    pub fn copy_packet<'r>(&self, room: &'r mut [u8]) -> Option<&'r mut [u8]> {
        let packet = self.input.packet();
        let copy = room.get_mut(..packet.len())?;
        copy.copy_from_slice(packet);
        Some(copy)
    }
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

    /// The next input; `None` at the end, or if what follows is not one.
    pub fn next_moment(&mut self) -> Option<Moment<'a>> {
        let (moment, rest) = postcard::take_from_bytes(self.inputs.0).ok()?;
        self.inputs.0 = rest;
        Some(moment)
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
        let moment = recording.next_moment()?;
        let packet = moment.copy_packet(room)?;
        let now = moment.now;
        let taken = mesh.handle(now, moment.input.input(packet));
        write!(text, "{inputs} at {now}: {taken:?};").ok()?;
        text.0.update(packet);
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
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.array()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
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
        sizes.route_hints,
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
