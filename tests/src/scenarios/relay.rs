//! One relay between two ends that are only keys: what it does with single packets.

use crate::payments::bank::{Bank, OwnTerms};
use crate::sim;
use blvm_mesh_core::config::{Allowance, Config};
use blvm_mesh_core::id::{LinkId, Network, NodeId, Standing};
use blvm_mesh_core::mesh::{self, Action, HostMesh, Input, MeshError, Priority};
use blvm_mesh_core::mode::MeshMode;
use blvm_mesh_core::tariff::Tariff;
use blvm_mesh_core::wire::datagram::{Emit, Form, head_len};
use blvm_mesh_core::wire::hello::{self, Hello, Told};
use secp256k1::{Keypair, Secp256k1, SecretKey};

/// The wall clock of the relay, in seconds since 1970.
pub const NOW: u64 = 1_750_000_000;

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It went on, so many bytes.
    Forwarded(Priority, usize),
    /// It was refused.
    Refused(MeshError),
    /// Neither.
    Nothing,
}

/// The relay with its two links.
pub struct Relay {
    /// The state machine.
    pub mesh: HostMesh,
    /// The issuer that it accepts.
    pub bank: Bank,
    pub(super) source: Keypair,
    pub(super) destination: NodeId,
    now: u64,
}

/// The relay's key, as a small number.
pub const KEY: u8 = 1;
/// Its seed.
pub const SEED: [u8; 32] = [2; 32];
/// The link of its source.
pub const FROM: LinkId = LinkId(1);
const TO: LinkId = LinkId(2);

/// The hello of a neighbour in this mode, which takes whatever it is sent.
pub fn hello(mode: MeshMode) -> Vec<u8> {
    let hello = Hello {
        missing: false,
        network: Network::Regtest,
        mode,
        quality: 256,
        max_packet: 1 << 20,
        tariff: Tariff::default(),
        keepalive_ms: 0,
        unix: 0,
        free: [Told::ANY; 3],
        issuers: Default::default(),
    };
    let mut bytes = vec![0; hello::MAX_LEN];
    let len = hello.write(&mut bytes).expect("room for a hello");
    bytes.truncate(len);
    bytes
}

/// A key made from a small number.
pub fn secret(n: u8) -> SecretKey {
    SecretKey::from_byte_array([n; 32]).expect("a small number is a key")
}

impl Relay {
    /// A host's relay on regtest without a limit of free traffic or of bad payments, both its links up.
    pub fn new(mode: MeshMode) -> Self {
        let mut config = Config::host(Network::Regtest);
        config.free_rate = u64::MAX;
        config.free_burst = u64::MAX;
        let any = Allowance { rate: u64::MAX, burst: u64::MAX };
        config.plain = any;
        // Every attack is checked.
        config.bad_payments = any;
        Self::with(mode, config)
    }

    /// The same with another configuration, to which mode and issuer are added.
    pub fn with(mode: MeshMode, mut config: Config) -> Self {
        let bank = Bank::new(7);
        config.mode = mode;
        let _ = config.payment.issuers.push(bank.public_key());
        let source = Keypair::from_secret_key(&Secp256k1::new(), &secret(3));
        let destination = NodeId([4; 32]);
        let mesh = HostMesh::new(config, secret(KEY), SEED);
        let mut relay = Self { mesh, bank, source, destination, now: 0 };
        for input in relay.opening() {
            let mut packet = input.packet().to_vec();
            relay.input(input.input(&mut packet));
        }
        relay
    }

    /// Its inputs until both links are up: a clock, neighbours, and their hellos.
    pub fn opening(&self) -> Vec<sim::Input> {
        let hello = hello(self.mesh.config().mode);
        let mut inputs = vec![sim::Input::WallClock { unix: NOW }];
        for (link, peer) in [(FROM, self.source()), (TO, self.destination)] {
            let (dialed, standing, capabilities) = (true, Standing::Own, None);
            inputs.push(sim::Input::PeerConnected { link, peer, dialed, standing, capabilities });
            inputs.push(sim::Input::MessageReceived { link, packet: hello[..].into() });
        }
        inputs
    }

    /// The end that sends.
    pub fn source(&self) -> NodeId {
        NodeId::from_public_key(&self.source.public_key())
    }

    /// The terms for so many bytes over the relay.
    pub fn terms(&self, quota: usize) -> OwnTerms {
        OwnTerms {
            network: Network::Regtest,
            source: self.source(),
            destination: self.destination,
            hops: vec![self.mesh.id().hop()],
            quota: quota as u64,
        }
    }

    /// A paid invoice for a payload: the proof that the packet carries.
    pub fn pay(&mut self, payload: &[u8]) -> Vec<u8> {
        self.bank.proof(self.terms(payload.len()), 1_000_000, NOW, 600)
    }

    /// A datagram from end to end; signed by its source if there is a proof.
    pub fn packet(&self, sequence: u64, payload: &[u8], proof: &[u8]) -> Vec<u8> {
        let public = self.source.public_key().serialize();
        let emit = Emit {
            hop_limit: 1,
            sequence,
            source: self.source(),
            destination: self.destination,
            proof: (!proof.is_empty()).then_some((&public, proof)),
            form: Form::Plain,
        };
        let mut packet = vec![0; head_len(1, proof.len())];
        let sign = |hash: &[u8; 32]| {
            Secp256k1::new().sign_schnorr_no_aux_rand(hash, &self.source).to_byte_array()
        };
        let hops = [self.mesh.id().hop()];
        emit.write(&hops, payload, &mut packet, sign).expect("room for the head");
        packet.extend_from_slice(payload);
        packet
    }

    /// Gives the relay a packet of its source, which it may change.
    pub fn receive(&mut self, packet: &mut [u8]) -> Verdict {
        self.input(Input::MessageReceived { link: FROM, packet })
    }

    fn input(&mut self, input: Input<'_>) -> Verdict {
        self.now += 1;
        let mut verdict = Verdict::Nothing;
        self.mesh.handle(self.now, input).expect("a right input");
        loop {
            match self.mesh.poll() {
                Action::Wait { .. } => return verdict,
                Action::Verdict(mesh::Verdict::Forward { link: TO, priority, packet, .. })
                    if priority != Priority::Control =>
                {
                    verdict = Verdict::Forwarded(priority, packet.len());
                }
                Action::Verdict(mesh::Verdict::Reject { reason, .. })
                | Action::Drop { reason, .. } => verdict = Verdict::Refused(reason),
                _ => {}
            }
        }
    }
}
