//! Whole messages of Bitcoin's P2P protocol and nothing after them.

use super::command::{Command, Kind};
use super::cost::{FreeCost, OwnNetwork};
use super::detect::Classified;
use super::protocol::DetectedProtocol;
use super::reader::Reader;
use super::reason::{Reason, Unrecognised};
use super::work::Chain;
use super::{governance, messages};
use crate::hash::double_sha256;

/// Checksum of an empty payload: a verack needs no hashing.
const EMPTY_CHECKSUM: [u8; 4] = [0x5d, 0xf6, 0xe0, 0xe2];

/// One or more whole messages of one network: `BitcoinP2P` if all of them are
/// Bitcoin's, `CommonsGovernance` if any is a governance message, so that
/// company does not make it free where governance is refused. `chain` is that of
/// the first magic; the caller has looked at it.
pub(super) fn recognise(
    bytes: &[u8],
    chain: Chain,
    own: &OwnNetwork,
) -> Result<Classified, Unrecognised> {
    let mut reader = Reader::new(bytes, 0);
    let mut found =
        Classified { protocol: DetectedProtocol::BitcoinP2P, cost: FreeCost::default() };
    while !reader.is_empty() {
        let start = reader.at();
        let (command, worked) = message(&mut reader, chain, own)?;
        if command.kind() == Kind::Governance {
            found.protocol = DetectedProtocol::CommonsGovernance;
        }
        found.cost.add(command.class(worked), reader.at().saturating_sub(start));
    }
    Ok(found)
}

/// One message: header, structure of the payload, and last the checksum,
/// because it costs most. Gives the command, and whether its work counts.
fn message(
    reader: &mut Reader<'_>,
    chain: Chain,
    own: &OwnNetwork,
) -> Result<(Command, bool), Unrecognised> {
    let start = *reader;
    let truncated = |_| Reason::HeaderTruncated.at(start.at());
    let magic: &[u8; 4] = reader.array().map_err(truncated)?;
    if *magic != chain.magic {
        return start.fail(match own.chain_of(magic) {
            Some(Chain { network: found, .. }) => {
                Reason::MixedNetworks { first: chain.network, found }
            }
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
