//! Commons governance messages, in Bitcoin's framing.
//!
//! `getbanlist` and `banlist` are the commands of today. `econreg`, `econveto`,
//! `econstatus` and `econfork` were sent until April 2026; they stay
//! recognised, because nodes of that time are still about and a refusal would
//! save nothing: what one may put into them one may put into a `banlist`.
//!
//! The published versions of the node disagree on the layout of these payloads
//! (serialised structs whose fields changed), and so a layout is not checked:
//! framing and checksum are, and the length is bounded (`command`).

use super::command::Command;
use super::reader::Reader;
use super::reason::Unrecognised;

/// Checks the structure of a governance payload, as far as it is known.
pub(super) fn check(_: Command, fields: &mut Reader<'_>) -> Result<(), Unrecognised> {
    fields.take(fields.rest().len()).map(|_| ())
}
