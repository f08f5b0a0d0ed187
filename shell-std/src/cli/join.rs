//! `join`: takes an invitation up.

use super::answer::lines;
use super::global::Global;
use super::{Answer, Failure};
use crate::invitation::{Invitation, InvitationError};
use crate::rpc::Request;
use crate::rpc::types::{AddPeer, AddedPeer, Info, PeerList, PeerSource};
use clap::Args;
use serde_json::json;
use std::io::{Read, Write};

/// Most bytes of an invitation that are read from standard input.
const MOST_INPUT: u64 = 4096;

/// Take an invitation up: the running node keeps a link to the node that it is of, over restarts too.
///
/// The same as `peer add` with the key and the addresses in it. To join again changes nothing.
/// Exit code 1: the node refuses, or the invitation is its own or of another network.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  blvm-mesh join blvmmesh1...           (what `blvm-mesh invite` printed there)")]
pub(super) struct Join {
    /// The invitation; `-`: read it from standard input.
    invitation: String,
}

impl Join {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let invitation = self.read()?;
        let peer = invitation.peer();
        let address = peer.to_string();
        let public_key = peer.public_key.serialize();
        let places: Vec<_> = invitation.places().iter().map(ToString::to_string).collect();
        if !global.json {
            show(&lines([
                ("network", invitation.network().name().to_owned()),
                ("public key", peer.public_key.to_string()),
                ("addresses", places.join(", ")),
            ]))?;
        }
        let info: Info = match global.ask(&Request::GetInfo) {
            Ok(info) => info,
            Err(e) if e.is_not_running() => {
                return e.answer().map_err(|Failure(why)| {
                    let config = "into mesh.peers of its configuration";
                    Failure(format!("{why}; then join again, or put \"{address}\" {config}"))
                });
            }
            Err(e) => return e.answer(),
        };
        if info.public_key == public_key {
            return Answer::negative(
                "that is this node's own invitation: give it to the other node",
            );
        }
        if info.network != invitation.network() {
            let (theirs, ours) = (invitation.network().name(), info.network.name());
            let reason = format!("the invitation is of a node on {theirs}, this node is on {ours}");
            return Answer::negative(&reason);
        }
        let list: PeerList = match global.ask(&Request::ListPeers) {
            Ok(list) => list,
            Err(e) => return e.answer(),
        };
        let place = peer.place.to_string();
        let known = list.peers.into_iter().find(|known| known.public_key == public_key);
        let answer = |changed: bool| {
            json!({
                "node_id": peer.node_id().to_string(),
                "public_key": peer.public_key.to_string(),
                "network": invitation.network().name(),
                "addresses": places,
                "changed": changed,
            })
        };
        if let Some(known) = known.as_ref().filter(|known| known.address == place) {
            let by = match known.source {
                PeerSource::Configuration => "configured (mesh.peers)",
                PeerSource::Added => "added before",
            };
            return Answer::yes(
                answer(false),
                format!("it is a peer already, {by}: nothing changes"),
            );
        }
        if let Err(e) = global.ask::<AddedPeer>(&Request::AddPeer(AddPeer { address })) {
            return e.answer();
        }
        let before = known.map(|known| format!("; before it was dialled at {}", known.address));
        let text = format!(
            "a link to it is kept from now on, over restarts too{}\n\
             next: `blvm-mesh peers` shows whether there is one; for that node to keep a place for \
             this one, let it join an invitation of yours (`blvm-mesh invite`)\n",
            before.unwrap_or_default()
        );
        Answer::yes(answer(true), text)
    }

    fn read(&self) -> Result<Invitation, Failure> {
        let text = match self.invitation.as_str() {
            "-" => {
                let (mut text, input) = (String::new(), std::io::stdin().lock());
                let read = input.take(MOST_INPUT).read_to_string(&mut text);
                read.map_err(|e| Failure(format!("standard input: {e}")))?;
                text
            }
            text => text.to_owned(),
        };
        text.parse().map_err(|e: InvitationError| Failure(e.to_string()))
    }
}

/// What is about to be joined, before it is.
fn show(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Nobody needs to read it.
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}
