//! Why a modem cannot be used, and what to do about it.

use super::modem::Dialect;

/// Why a modem cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing answers.
    #[error(
        "no {0} answers: is its firmware on the board, is it the right device, and does no other \
         program use it? `blvm-mesh radio check` tells what is attached"
    )]
    NoAnswer(Dialect),
    /// Its firmware is too old.
    #[error("firmware {found} of the {dialect} is too old: update it to {least} or later{how}",
        how = match dialect {
            Dialect::Rnode => " with `rnodeconf --update`",
            Dialect::Meshcore => "",
        }
    )]
    Firmware {
        /// What kind of modem it is.
        dialect: Dialect,
        /// What it has.
        found: String,
        /// What it must have.
        least: &'static str,
    },
    /// It did not take a parameter.
    #[error(
        "the modem was set to {what} {wanted} and says {got}: its chip cannot do that, choose another"
    )]
    Refused {
        /// What was set.
        what: &'static str,
        /// To what.
        wanted: String,
        /// What it says when it is asked.
        got: String,
    },
    /// It did not answer while it was being set up.
    #[error("the modem stopped answering while it was set up: pull it out and put it back")]
    Unfinished,
    /// Its radio is off.
    #[error(
        "the modem's radio does not start: an RNode must be provisioned once, \
         with `rnodeconf --autoinstall`"
    )]
    NotStarted,
    /// The radio's chip.
    #[error(
        "the modem's radio chip fails ({0}): pull it out and put it back; is the right firmware on the board?"
    )]
    Chip(&'static str),
    /// It said something for long.
    #[error("the modem does not answer any more")]
    Silent,
    /// It has forgotten its parameters.
    #[error("the modem has restarted; if that comes again, look at its power supply")]
    Restarted,
    /// It answers an order with an error.
    #[error("the modem refuses to {order}: {why}")]
    Error {
        /// What it was to do.
        order: &'static str,
        /// What it says.
        why: String,
    },
}
