//! What neighbours can make a node compute by packets of the mesh itself, each as much as its
//! allowance and that of all admit.

use crate::measure::{Effort, line};
use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::{HopId, LinkId, Network, NodeId, Standing};
use blvm_mesh_core::mesh::{Action, HostMesh, Input, MeshError, NetworkReason, Verdict};
use blvm_mesh_core::tariff::Tariff;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use blvm_mesh_core::wire::route_reply::{self, RouteReply};
use blvm_mesh_core::wire::route_request::{self, HINTS, Hop, ROUTES, RouteRequest};
use blvm_mesh_tests::rng::Rng;
use blvm_mesh_tests::scenarios::relay::{hello, secret};
use secp256k1::{Keypair, Secp256k1};
use std::time::{Duration, Instant};

/// Neighbours that send as much as they may.
const NEIGHBOURS: u8 = 16;
/// One more that sends one request a second: what the replies answer.
const ASKS: u8 = NEIGHBOURS;
/// Share of one core that all of it may take.
const MOST: f64 = 0.25;
/// How often they send.
const STEP: Micros = 10 * MILLISECOND;

/// What they send.
#[derive(Debug, Clone, Copy)]
enum Attack {
    /// Requests for unknown nodes with so many invented hops, which go on to all neighbours and
    /// may cross so many links more.
    Requests { hops: usize, further: u8 },
    /// Replies to a request that is known, with a signature that fails.
    Replies,
}

pub(crate) fn measure(effort: Effort) {
    let (seconds, rounds) = if effort.rounds < 10 { (1, 1) } else { (10, 3) };
    let attacks = [
        ("requests with 47 invented hops", Attack::Requests { hops: 46, further: 1 }),
        ("requests that go far", Attack::Requests { hops: 0, further: 47 }),
        ("requests as short as can be", Attack::Requests { hops: 0, further: 1 }),
        ("replies whose signature fails", Attack::Replies),
    ];
    for (what, attack) in attacks {
        let costs = (0..rounds).map(|_| World::new().cost(attack, seconds));
        // The slow ones tell what else the machine does.
        let (cost, admitted) = costs.min().unwrap_or_default();
        let name = format!("16 neighbours: {what}, {} a second", admitted / seconds);
        let a_second = cost.as_nanos() as f64 / seconds as f64;
        line(&name, a_second, "a second of one core", 1e9, Some(MOST));
    }
}

/// A node and its neighbours, which are only keys.
struct World {
    mesh: HostMesh,
    keys: Vec<Keypair>,
    rng: Rng,
    now: Micros,
    spent: Duration,
}

impl World {
    fn new() -> Self {
        let secp = Secp256k1::new();
        let keys = (0..=ASKS).map(|n| Keypair::from_secret_key(&secp, &secret(n + 2))).collect();
        let mut config = Config::host(Network::Regtest);
        config.timing.keepalive = 0;
        let mesh = HostMesh::new(config, secret(1), [1; 32]);
        let mut w = Self { mesh, keys, rng: Rng::new(7), now: 0, spent: Duration::ZERO };
        let hello = hello(w.mesh.config().mode);
        for n in 0..=ASKS {
            let (link, peer) = (LinkId(n.into()), w.id(n));
            let standing = Standing::Own;
            w.give(Input::PeerConnected { link, peer, dialed: true, standing, capabilities: None });
            assert_eq!(w.receive(n, &mut hello.clone()), None);
        }
        w
    }

    fn id(&self, n: u8) -> NodeId {
        NodeId::from_public_key(&self.keys[usize::from(n)].public_key())
    }

    fn give(&mut self, input: Input<'_>) -> Option<MeshError> {
        let (mut refused, start) = (None, Instant::now());
        self.mesh.handle(self.now, input).expect("a right input");
        loop {
            match self.mesh.poll() {
                Action::Wait { .. } => break,
                Action::Verdict(Verdict::Reject { reason, .. }) => refused = Some(reason),
                action => _ = std::hint::black_box(&action),
            }
        }
        self.spent += start.elapsed();
        refused
    }

    fn receive(&mut self, n: u8, packet: &mut [u8]) -> Option<MeshError> {
        self.give(Input::MessageReceived { link: LinkId(n.into()), packet })
    }

    /// The time that it takes, and how many packets were admitted, in so many seconds.
    fn cost(mut self, attack: Attack, seconds: u64) -> (Duration, u64) {
        // What is allowed at once is spent first.
        self.flood(attack, 3 * SECOND);
        self.spent = Duration::ZERO;
        let admitted = self.flood(attack, seconds * SECOND);
        (self.spent, admitted)
    }

    fn flood(&mut self, attack: Attack, time: Micros) -> u64 {
        let quota = MeshError::from(NetworkReason::ControlQuota);
        let (end, mut admitted) = (self.now + time, 0);
        while self.now < end {
            if self.now.is_multiple_of(SECOND) {
                let mut request = self.request(ASKS, 0, 1, self.now);
                self.receive(ASKS, &mut request);
            }
            for n in 0..NEIGHBOURS {
                // Until one is refused; it would not send more.
                loop {
                    let mut packet = match attack {
                        Attack::Requests { hops, further } => {
                            let sequence = self.rng.draw();
                            self.request(n, hops, further, sequence)
                        }
                        Attack::Replies => self.reply(n, self.now / SECOND * SECOND),
                    };
                    if self.receive(n, &mut packet) == Some(quota) {
                        break;
                    }
                    admitted += 1;
                }
            }
            self.now += STEP;
            self.give(Input::Timer);
        }
        admitted
    }

    /// A request of a neighbour's, which came to it over invented nodes if there are hops.
    fn request(&mut self, n: u8, hops: usize, further: u8, sequence: u64) -> Vec<u8> {
        let (rng, me) =
            (&mut self.rng, NodeId::from_public_key(&self.keys[usize::from(n)].public_key()));
        let mut unknown = || HopId(rng.draw().to_le_bytes());
        let tariff = Tariff::default();
        let mut travelled: Vec<Hop> = (0..hops).map(|_| Hop { node: unknown(), tariff }).collect();
        let source = if hops > 0 { unknown() } else { me.hop() };
        if hops > 0 {
            travelled.push(Hop { node: me.hop(), tariff });
        }
        let request = RouteRequest {
            flags: HINTS | ROUTES,
            hop_limit: further,
            sequence,
            source,
            destination: unknown(),
            min_packet: 1000,
            quality: 0,
            accepted: None,
            hops: travelled.into_iter().collect(),
        };
        let mut bytes = vec![0; route_request::MAX_LEN];
        let len = request.write(&mut bytes).expect("room");
        bytes.truncate(len);
        bytes
    }

    /// A neighbour's answer to the request with this number, signed for something else.
    fn reply(&self, n: u8, sequence: u64) -> Vec<u8> {
        let key = &self.keys[usize::from(n)];
        let signature = Secp256k1::new().sign_schnorr_no_aux_rand(&[n; 32], key).to_byte_array();
        let tariff = self.mesh.config().payment.tariff;
        let reply = RouteReply {
            hop_limit: 1,
            sequence,
            source: self.id(ASKS).hop(),
            public_key: key.public_key().serialize(),
            min_packet: 1000,
            quality: 256,
            tariff,
            hops: [Hop { node: self.mesh.id().hop(), tariff }].into_iter().collect(),
            accepted: None,
            signature,
        };
        let mut bytes = vec![0; route_reply::MAX_LEN];
        let len = reply.write(&mut bytes).expect("room");
        bytes.truncate(len);
        bytes
    }
}
