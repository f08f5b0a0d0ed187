//! Payment-gated mesh relay as one sans-IO state machine.
//!
//! No I/O, no clock and no randomness of its own: inputs (packets, links, time, answers) go in,
//! actions come out. The caller, a *shell*, owns sockets, clocks and disks and decides nothing:
//! it gives [`Mesh::handle`](mesh::Mesh::handle) one input and carries out, in order, what
//! [`Mesh::poll`](mesh::Mesh::poll) returns until [`Action::Wait`](mesh::Action::Wait).
//! An `Err` means that the caller broke the contract; whatever a peer does is a
//! [`Verdict`](mesh::Verdict). [`mesh::api`] has every input and action.
//!
//! Two nodes, joined by a queue of packets, exchange hellos and one free datagram:
//!
#![cfg_attr(feature = "alloc", doc = "```")]
#![cfg_attr(not(feature = "alloc"), doc = "```ignore")]
//! use blvm_mesh_core::config::Config;
//! use blvm_mesh_core::id::{LinkId, Network, Standing};
//! use blvm_mesh_core::mesh::{Action, HostMesh, Input, Misuse, Verdict};
//! use blvm_mesh_core::mode::MeshMode;
//! use blvm_mesh_core::secp256k1::SecretKey;
//!
//! // Each node has one link, to the other.
//! const LINK: LinkId = LinkId(1);
//!
//! /// What one input leads to: packets to send, and payloads for this node.
//! #[derive(Default)]
//! struct Done {
//!     send: Vec<Vec<u8>>,
//!     delivered: Vec<Vec<u8>>,
//! }
//!
//! /// Gives a node a packet that came over its link.
//! fn receive(mesh: &mut HostMesh, now: u64, mut packet: Vec<u8>) -> Result<Done, Misuse> {
//!     mesh.handle(now, Input::MessageReceived { link: LINK, packet: &mut packet })?;
//!     Ok(drain(mesh, &packet))
//! }
//!
//! /// The run loop. Ranges in actions refer to the bytes of the input.
//! fn drain(mesh: &mut HostMesh, input: &[u8]) -> Done {
//!     let mut done = Done::default();
//!     loop {
//!         match mesh.poll() {
//!             // A packet of the node's own: a hello, say.
//!             Action::Send { packet, .. } => done.send.push(packet.to_vec()),
//!             Action::Verdict(Verdict::Originate { packet, .. }) => {
//!                 done.send.push([packet.head, &input[packet.tail]].concat());
//!             }
//!             Action::Verdict(Verdict::Deliver { payload, .. }) => {
//!                 done.delivered.push(input[payload].to_vec());
//!             }
//!             Action::Verdict(Verdict::Absorbed) | Action::Publish(_) => {}
//!             Action::Wait { .. } => return done,
//!             other => panic!("does not happen here: {other:?}"),
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<(), Misuse> {
//! let config = Config { mode: MeshMode::Open, ..Config::host(Network::Regtest) };
//! let key = |byte| SecretKey::from_byte_array([byte; 32]).expect("a number in range");
//! let mut alice = HostMesh::new(config.clone(), key(1), [1; 32]);
//! let mut bob = HostMesh::new(config, key(2), [2; 32]);
//!
//! // A handshake has proved both identities.
//! let up = |peer, dialed| Input::PeerConnected {
//!     link: LINK,
//!     peer,
//!     dialed,
//!     standing: Standing::Own,
//!     capabilities: None,
//! };
//! alice.handle(0, up(bob.id(), true))?;
//! bob.handle(0, up(alice.id(), false))?;
//! let (mut to_bob, mut to_alice) = (drain(&mut alice, &[]).send, drain(&mut bob, &[]).send);
//!
//! // Hellos travel until neither side has more to say.
//! while !(to_bob.is_empty() && to_alice.is_empty()) {
//!     for packet in std::mem::take(&mut to_bob) {
//!         to_alice.extend(receive(&mut bob, 1_000, packet)?.send);
//!     }
//!     for packet in std::mem::take(&mut to_alice) {
//!         to_bob.extend(receive(&mut alice, 1_000, packet)?.send);
//!     }
//! }
//!
//! let payload = b"hello";
//! let destination = bob.id();
//! alice.handle(2_000, Input::Send { destination, payload, proof: &[], unchecked: false })?;
//! let sent = drain(&mut alice, payload).send.pop().expect("one packet");
//! assert_eq!(receive(&mut bob, 3_000, sent)?.delivered, [payload]);
//! # Ok(())
//! # }
//! ```
//!
//! Terms are explained in docs/GLOSSARY.md, packets in docs/PROTOCOL.md, and how the modules
//! depend on one another in docs/ARCHITECTURE.md.
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::iter_over_hash_type)]

extern crate alloc;

/// The version of the crate whose keys the interfaces here take.
pub use secp256k1;

mod block;
pub mod board;
pub mod config;
pub mod flow;
mod hash;
pub mod id;
pub mod link;
pub mod mesh;
pub mod mode;
pub mod payment;
pub mod policy;
pub mod rng;
pub mod routing;
pub mod signature;
pub mod tables;
pub mod tariff;
pub mod time;
pub mod token_bucket;
pub mod wire;

#[cfg(test)]
mod test_shared;
