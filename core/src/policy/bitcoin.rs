//! Whole messages of Bitcoin's P2P protocol and nothing after them.

use super::command::{Command, Kind};
use super::cost::{FreeCost, Work};
use super::detect::{Classified, DetectedProtocol};
use super::hash::double_sha256;
use super::reader::Reader;
use super::reason::{Reason, Unrecognised};
use super::work::Chain;
use super::{governance, messages};
use crate::id::Network;

/// Checksum of an empty payload: a verack needs no hashing.
const EMPTY_CHECKSUM: [u8; 4] = [0x5d, 0xf6, 0xe0, 0xe2];

/// The network whose messages begin like this.
pub(super) fn network_of(magic: &[u8; 4]) -> Option<Network> {
    Network::ALL.into_iter().find(|network| network.magic() == *magic)
}

/// One or more whole messages of one network: `BitcoinP2P` if all of them are
/// Bitcoin's, `CommonsGovernance` if any is a governance message, so that
/// company does not make it free where governance is refused. `network` is
/// that of the first magic; the caller has looked at it.
pub(super) fn recognise(
    bytes: &[u8],
    network: Network,
    work: Work,
) -> Result<Classified, Unrecognised> {
    let chain = Chain { network, min_difficulty: work.min_difficulty(network) };
    let mut reader = Reader::new(bytes, 0);
    let mut found =
        Classified { protocol: DetectedProtocol::BitcoinP2P, cost: FreeCost::default() };
    while !reader.is_empty() {
        let start = reader.at();
        let (command, worked) = message(&mut reader, chain)?;
        if command.kind() == Kind::Governance {
            found.protocol = DetectedProtocol::CommonsGovernance;
        }
        found.cost.add(command.class(worked), reader.at().saturating_sub(start));
    }
    Ok(found)
}

/// One message: header, structure of the payload, and last the checksum,
/// because it costs most. Gives the command, and whether its work counts.
fn message(reader: &mut Reader<'_>, chain: Chain) -> Result<(Command, bool), Unrecognised> {
    let network = chain.network;
    let start = *reader;
    let truncated = |_| Reason::HeaderTruncated.at(start.at());
    let magic: &[u8; 4] = reader.array().map_err(truncated)?;
    if *magic != network.magic() {
        return start.fail(match network_of(magic) {
            Some(found) => Reason::MixedNetworks { first: network, found },
            None => Reason::NotAMessage,
        });
    }
    let name_at = reader.at();
    let name = reader.array().map_err(truncated)?;
    let length_at = reader.at();
    let length = reader.u32().map_err(truncated)?;
    let checksum_at = reader.at();
    let checksum: &[u8; 4] = reader.array().map_err(truncated)?;

    let command = Command::from_padded(name).map_err(|reason| reason.at(name_at))?;
    let (least, most) = command.payload_range();
    if !(least..=most).contains(&length) {
        return Err(Reason::PayloadLength { length, least, most }.at(length_at));
    }
    let payload_at = reader.at();
    let payload = reader
        .take(usize::try_from(length).unwrap_or(usize::MAX))
        .map_err(|_| Reason::PayloadTruncated.at(payload_at))?;

    let mut fields = Reader::new(payload, payload_at);
    let worked = match command.kind() {
        Kind::Bitcoin => messages::check(command, &mut fields, chain)?,
        Kind::Governance => governance::check(command, &mut fields).map(|()| false)?,
    };
    fields.finish()?;

    let matches = if payload.is_empty() {
        *checksum == EMPTY_CHECKSUM
    } else {
        double_sha256(payload).starts_with(checksum)
    };
    if matches { Ok((command, worked)) } else { Err(Reason::Checksum.at(checksum_at)) }
}
