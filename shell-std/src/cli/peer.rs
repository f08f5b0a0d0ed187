//! `peer`: neighbours that an operator adds, removes, trusts and bans while the node runs.

use super::answer::table;
use super::destination::Destination;
use super::global::{ClientFailure, Global};
use super::span::Span;
use super::{Answer, Failure};
use crate::date::time;
use crate::rpc::Request;
use crate::rpc::target::Target;
use crate::rpc::types::{
    AddPeer, AddedPeer, BanPeer, BannedPeer, DistrustPeer, PeerList, PeerSource, PeerState,
    RemovePeer, RemovedPeer, TrustPeer, TrustedPeer, UnbanPeer, UnbannedPeer,
};
use clap::{Args, Subcommand};

/// Add, remove, trust and ban peers of the running node. All of it is kept over restarts.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh peer add 02ab...@relay.example.org:8338
  blvm-mesh peer add 02ab...@10.0.0.1:8338/relay.example.org:8338
  blvm-mesh peer trust 02ab...
  blvm-mesh peer ban 0f715baf --for 12h
  blvm-mesh peer list")]
pub(super) struct Peer {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(Add),
    Remove(Remove),
    Ban(Ban),
    Unban(Unban),
    Trust(Trust),
    Distrust(Distrust),
    List(List),
}

/// Keep a link to a node. One that was added before gets the new address.
#[derive(Debug, Args)]
struct Add {
    /// PUBKEY@HOST:PORT, or up to 8 addresses that are tried in turn: PUBKEY@HOST:PORT/HOST:PORT.
    address: String,
}

/// Forget a peer that was added, and close its link.
///
/// Peers of the configuration (mesh.peers) are taken out there, followed by `reload`.
#[derive(Debug, Args)]
struct Remove {
    /// Public key, identity, the first digits of one, or address.
    node: Destination,
}

/// Close the links with a node and give it none, neither taken nor dialled.
#[derive(Debug, Args)]
struct Ban {
    /// Public key, identity, the first digits of one, or address.
    node: Destination,
    /// For how long, as in 45s, 30m, 12h, 7d or 2w. [default: until `peer unban`]
    #[arg(long = "for", value_name = "DURATION")]
    span: Option<Span>,
}

/// Lift a ban.
#[derive(Debug, Args)]
struct Unban {
    /// Public key, identity, the first digits of one, or address.
    node: Destination,
}

/// Let a neighbour that is no peer, as one found on a LAN, relay what this node pays for.
///
/// Without, it relays what is free. Compare its key with what it prints itself (`blvm-mesh id`).
#[derive(Debug, Args)]
struct Trust {
    /// Public key, identity, the first digits of one, or address.
    node: Destination,
}

/// Let a neighbour that was trusted relay what is free only.
#[derive(Debug, Args)]
struct Distrust {
    /// Public key, identity, the first digits of one, or address.
    node: Destination,
}

/// List the peers that are configured or were added, and the nodes that are trusted or banned. Exit
/// code 1: none.
#[derive(Debug, Args)]
struct List {}

impl Peer {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let done = match self.command {
            Command::Add(add) => add.run(global),
            Command::Remove(remove) => remove.run(global),
            Command::Ban(ban) => ban.run(global),
            Command::Unban(unban) => unban.run(global),
            Command::Trust(trust) => trust.run(global),
            Command::Distrust(distrust) => distrust.run(global),
            Command::List(_) => list(global),
        };
        done.unwrap_or_else(ClientFailure::answer)
    }
}

type Done = Result<Result<Answer, Failure>, ClientFailure>;

/// As [`Destination::resolve`], and knows those that are added, trusted or banned as well.
fn resolve(node: &Destination, global: &Global) -> Result<Target, ClientFailure> {
    let Destination::Short(short) = node else { return node.resolve(global) };
    let list: PeerList = global.ask(&Request::ListPeers)?;
    let peers = list.peers.iter();
    let peers = peers.filter(|p| {
        p.node_id.to_string().starts_with(short) || hex::encode(p.public_key).starts_with(short)
    });
    let others = list.bans.iter().map(|ban| ban.node_id);
    let others = others.chain(list.trusted.iter().map(|node| node.0));
    let others = others.filter(|node| node.to_string().starts_with(short));
    let mut found: Vec<_> = peers.map(|p| p.node_id).chain(others).collect();
    found.sort();
    found.dedup();
    match found[..] {
        [one] => Ok(Target(one)),
        _ => node.resolve(global),
    }
}

impl Add {
    fn run(self, global: &Global) -> Done {
        let added: AddedPeer = global.ask(&Request::AddPeer(AddPeer { address: self.address }))?;
        let text = format!("a link to {} at {} is kept", added.node_id, added.address);
        Ok(Answer::yes(&added, text))
    }
}

impl Remove {
    fn run(self, global: &Global) -> Done {
        let node = resolve(&self.node, global)?;
        let removed: RemovedPeer = global.ask(&Request::RemovePeer(RemovePeer { node }))?;
        let RemovedPeer { node_id, links_closed } = removed;
        let text = format!("{node_id} is no longer a peer; {links_closed} links were closed");
        Ok(Answer::yes(&removed, text))
    }
}

impl Ban {
    fn run(self, global: &Global) -> Done {
        let node = resolve(&self.node, global)?;
        let for_s = self.span.map(|span| span.seconds);
        let banned: BannedPeer = global.ask(&Request::BanPeer(BanPeer { node, for_s }))?;
        let BannedPeer { node_id, links_closed, .. } = banned;
        let until = until(banned.until);
        let text = format!("{node_id} is banned {until}; {links_closed} links were closed");
        Ok(Answer::yes(&banned, text))
    }
}

impl Unban {
    fn run(self, global: &Global) -> Done {
        let node = resolve(&self.node, global)?;
        let unbanned: UnbannedPeer = global.ask(&Request::UnbanPeer(UnbanPeer { node }))?;
        let text = format!("{} may have links again", unbanned.node_id);
        Ok(Answer::yes(&unbanned, text))
    }
}

impl Trust {
    fn run(self, global: &Global) -> Done {
        let node = resolve(&self.node, global)?;
        let trusted: TrustedPeer = global.ask(&Request::TrustPeer(TrustPeer { node }))?;
        let text = format!("{} relays what this node pays for", trusted.node_id);
        Ok(Answer::yes(&trusted, text))
    }
}

impl Distrust {
    fn run(self, global: &Global) -> Done {
        let node = resolve(&self.node, global)?;
        let trusted: TrustedPeer = global.ask(&Request::DistrustPeer(DistrustPeer { node }))?;
        let text = format!("{} relays what is free only", trusted.node_id);
        Ok(Answer::yes(&trusted, text))
    }
}

fn until(until: Option<u64>) -> String {
    until.map_or("until `peer unban`".into(), |at| format!("until {}", time(at)))
}

fn list(global: &Global) -> Done {
    let list: PeerList = global.ask(&Request::ListPeers)?;
    if list.peers.is_empty() && list.bans.is_empty() && list.trusted.is_empty() {
        let text = "no peer is configured or added, and no node is trusted or banned";
        return Ok(Answer::no(&list, text));
    }
    let is_banned = |node| list.bans.iter().any(|ban| ban.node_id == node);
    let peers = list.peers.iter().map(|peer| {
        let state = match (is_banned(peer.node_id), peer.state) {
            (true, _) => "banned",
            (_, PeerState::Up) => "up",
            (_, PeerState::Connecting) => "connecting",
            (_, PeerState::Down) => "down",
        };
        let source = match peer.source {
            PeerSource::Configuration => "configuration",
            PeerSource::Added => "added",
        };
        let error = peer.last_error.clone().unwrap_or_default();
        let node = peer.node_id.hop().to_string();
        [node, state.into(), source.into(), peer.address.clone(), error]
    });
    let peers: Vec<_> = peers.collect();
    let mut text = match peers.is_empty() {
        true => "no peer is configured or added\n".to_owned(),
        false => table(["node", "state", "from", "address", "last error"], &peers),
    };
    for Target(node) in &list.trusted {
        text.push_str(&format!("trusted to relay what this node pays for: {node}\n"));
    }
    for ban in &list.bans {
        text.push_str(&format!("banned {}: {}\n", until(ban.until), ban.node_id));
    }
    Ok(Answer::yes(&list, text))
}
