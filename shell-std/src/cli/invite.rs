//! `invite`: this node as others take it up, as text and as a QR code.

use super::answer::lines;
use super::global::Global;
use super::{Answer, Failure};
use crate::address::HostPort;
use crate::identity::{Identity, IdentityError, KEY_FILE};
use crate::invitation::Invitation;
use crate::own_addresses::{is_private, reachable};
use crate::rpc::Request;
use crate::rpc::types::Info;
use blvm_mesh_core::id::{Network, NodeId};
use clap::Args;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use secp256k1::PublicKey;
use serde_json::json;
use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};

/// Print an invitation of this node: its key and addresses in one word, and as a QR code.
///
/// Whoever gives it to `blvm-mesh join` keeps a link to this node. It is no secret and gives no
/// right. A node that runs is asked; else the key and the configuration of the data directory
/// count. Exit code 1: there is no address that others could reach.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh invite
  blvm-mesh invite --address relay.example.org:8338 --address 10.0.0.1:8338
  blvm-mesh invite --no-qr | ssh other blvm-mesh join -")]
pub(super) struct Invite {
    /// HOST:PORT where others reach this node; may be given up to 8 times. [default: where it
    /// listens; for 0.0.0.0 and [::] this machine's own addresses]
    #[arg(long, value_name = "HOST:PORT")]
    address: Vec<HostPort>,
    /// Print the line of text alone.
    #[arg(long)]
    no_qr: bool,
}

/// Who a node is, and where it listens.
struct Own {
    network: Network,
    public_key: PublicKey,
    listen: Option<SocketAddr>,
}

impl Own {
    fn of(global: &Global) -> Result<Self, Result<Answer, Failure>> {
        match global.ask::<Info>(&Request::GetInfo) {
            Ok(info) => Ok(Self {
                network: info.network,
                public_key: PublicKey::from_byte_array_compressed(info.public_key)
                    .map_err(|e| Err(Failure(format!("the node's public key: {e}"))))?,
                listen: info.listen_addr.and_then(|listen| listen.parse().ok()),
            }),
            Err(e) if e.is_not_running() => Self::configured(global),
            Err(e) => Err(e.answer()),
        }
    }

    fn configured(global: &Global) -> Result<Self, Result<Answer, Failure>> {
        let settings = global.settings(Vec::new()).map_err(Err)?;
        match Identity::load(&settings.data_dir.join(KEY_FILE)) {
            Ok(identity) => Ok(Self {
                network: settings.config.network,
                public_key: *identity.public_key(),
                listen: settings.listen_addr,
            }),
            Err(IdentityError::File(e)) if e.is_not_found() => Err(Answer::negative(&format!(
                "there is no identity in {}: make one with `blvm-mesh init`",
                settings.data_dir.display()
            ))),
            Err(e) => Err(Err(e.into())),
        }
    }
}

impl Invite {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let own = match Own::of(global) {
            Ok(own) => own,
            Err(answer) => return answer,
        };
        let places = match self.address.is_empty() {
            false => self.address,
            true => match reachable(own.listen) {
                Ok(places) => places,
                Err(e) => {
                    let reason = format!("{e}; or say by --address where others reach it");
                    return Answer::negative(&reason);
                }
            },
        };
        let invitation = Invitation::new(own.network, own.public_key, &places)
            .map_err(|e| Failure(format!("--address: {e}")))?;
        let word = invitation.to_string();
        let shown: Vec<_> = invitation.places().iter().map(ToString::to_string).collect();
        let json = json!({
            "invitation": word,
            "network": own.network.name(),
            "node_id": NodeId::from_public_key(&own.public_key).to_string(),
            "public_key": own.public_key.to_string(),
            "addresses": shown,
        });
        if self.no_qr {
            return Answer::yes(json, word);
        }
        let mut text = format!("{word}\n\n{}\n\n", qr(&word, std::io::stdout().is_terminal())?);
        text += &lines([
            ("network", own.network.name().to_owned()),
            ("public key", own.public_key.to_string()),
            ("addresses", shown.join(", ")),
        ]);
        if invitation.places().iter().all(is_of_a_private_network) {
            text.push_str(
                "note: only machines of the same private network reach these addresses; behind a \
                 router say by --address where others do\n",
            );
        }
        text.push_str("next: on the other machine `blvm-mesh join INVITATION`\n");
        Answer::yes(json, text)
    }
}

fn is_of_a_private_network(place: &HostPort) -> bool {
    place.host.parse::<IpAddr>().is_ok_and(is_private)
}

/// A QR code in half blocks, with its quiet zone. On a terminal dark is dark, whatever its colours;
/// elsewhere dark is ink.
fn qr(word: &str, terminal: bool) -> Result<String, Failure> {
    // Upper case letters take half the space. Screens lose no dots: no more correction is needed.
    let code = QrCode::with_error_correction_level(word.to_uppercase(), EcLevel::L)
        .map_err(|e| Failure(format!("the QR code: {e}")))?;
    let drawn = code.render::<Dense1x2>().quiet_zone(true).build();
    if !terminal {
        return Ok(drawn);
    }
    let line = |line| format!("\u{1b}[30;107m{line}\u{1b}[0m");
    Ok(drawn.lines().map(line).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_has_its_quiet_zone_and_upper_case_makes_it_small() {
        let word = format!("blvmmesh1{}", "q".repeat(80));
        let drawn = qr(&word, false).unwrap();
        let rows: Vec<Vec<char>> = drawn.lines().map(|line| line.chars().collect()).collect();
        // Version 4 takes 114 letters and digits: 33 modules, and 4 on each side.
        assert_eq!((rows.len(), rows[0].len()), (21, 41));
        assert!(rows.iter().all(|row| row[..4] == [' '; 4] && row[37..] == [' '; 4]));
        assert!(rows[..2].iter().all(|row| row.iter().all(|c| *c == ' ')));
        // The corner of the first finder pattern.
        assert_eq!(rows[2][4..11].iter().collect::<String>(), "█▀▀▀▀▀█");
        let on_terminal = qr(&word, true).unwrap();
        assert!(on_terminal.lines().all(|line| line.starts_with("\u{1b}[30;107m  ")));
    }
}
