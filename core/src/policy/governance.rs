//! Commons governance messages, in Bitcoin's framing.
//!
//! `getbanlist` and `banlist` are the commands of today. `econreg`, `econveto`,
//! `econstatus` and `econfork` were sent until April 2026; they stay
//! recognised, because nodes of that time are still about and a refusal would
//! save nothing: what one may put into them one may put into a `banlist`.
//!
//! No published text fixes the structure of these payloads. They are bounded
//! in length (`command`), and their framing and checksum are checked.

use super::command::Command;
use super::reader::Reader;
use super::reason::Unrecognised;

/// Checks the structure of a governance payload, as far as it is known.
pub(super) fn check(_: Command, fields: &mut Reader<'_>) -> Result<(), Unrecognised> {
    fields.take(fields.rest().len()).map(|_| ())
}
