//! What every emulated firmware can do: bytes and frames in, bytes and frames out.

use super::channel::{Heard, Sense};
use super::tuning::Tuning;
use blvm_mesh_core::time::Micros;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// The firmware of one modem. It does no I/O and has no clock: time is an argument, in
/// microseconds from any beginning.
pub trait Firmware: Send {
    /// Takes bytes from the host.
    fn feed(&mut self, bytes: &[u8], now: Micros, sense: &Sense);

    /// Does what is due, and gives a frame that goes on the air now. Ask again after
    /// [`Self::sent`], and whenever what it senses changes.
    fn poll(&mut self, now: Micros, sense: &Sense) -> Option<Vec<u8>>;

    /// When it has something to do by itself.
    fn due(&self) -> Option<Micros>;

    /// The frame on the air has ended.
    fn sent(&mut self, now: Micros);

    /// A frame was received, or one with a wrong CRC.
    fn received(&mut self, heard: Heard, now: Micros);

    /// What its transceiver is tuned to; `None` while it is off.
    fn tuning(&self) -> Option<Tuning>;

    /// At what power it sends, in dBm.
    fn power_dbm(&self) -> i32;

    /// Gives at most so many bytes for the host.
    fn take_output(&mut self, most: usize) -> Vec<u8>;

    /// Starts again, as after the reset button.
    fn reset(&mut self, now: Micros);

    /// Takes no new value of a parameter any more, or takes it again.
    fn refuse(&mut self, parameter: Parameter, refused: bool);

    /// Says another version from now on.
    fn set_version(&mut self, version: Version);
}

/// Which language a modem speaks with its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// RNode.
    Rnode,
    /// MeshCore's KISS modem.
    Meshcore,
}

/// What a host sets, and a modem may refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// The frequency.
    Frequency,
    /// The bandwidth.
    Bandwidth,
    /// The power.
    Power,
    /// The spreading factor.
    Spreading,
    /// The coding rate.
    Coding,
    /// That the transceiver is on.
    Radio,
}

/// A firmware's version. MeshCore has only the first of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u8, pub u8);

/// Parameters that are refused.
#[derive(Debug, Clone, Default)]
pub(super) struct Refused(Vec<Parameter>);

impl Refused {
    pub(super) fn set(&mut self, parameter: Parameter, refused: bool) {
        self.0.retain(|one| *one != parameter);
        if refused {
            self.0.push(parameter);
        }
    }

    pub(super) fn has(&self, parameter: Parameter) -> bool {
        self.0.contains(&parameter)
    }
}

/// A word that is none of those expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadWord {
    word: String,
    expected: &'static str,
}

impl fmt::Display for BadWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not one of: {}", self.word, self.expected)
    }
}

impl std::error::Error for BadWord {}

impl FromStr for Dialect {
    type Err = BadWord;

    fn from_str(word: &str) -> Result<Self, BadWord> {
        match word {
            "rnode" => Ok(Self::Rnode),
            "meshcore" => Ok(Self::Meshcore),
            _ => Err(BadWord { word: word.to_owned(), expected: "rnode, meshcore" }),
        }
    }
}

impl FromStr for Parameter {
    type Err = BadWord;

    fn from_str(word: &str) -> Result<Self, BadWord> {
        Ok(match word {
            "frequency" => Self::Frequency,
            "bandwidth" => Self::Bandwidth,
            "power" => Self::Power,
            "sf" => Self::Spreading,
            "cr" => Self::Coding,
            "radio" => Self::Radio,
            _ => {
                let expected = "frequency, bandwidth, power, sf, cr, radio";
                return Err(BadWord { word: word.to_owned(), expected });
            }
        })
    }
}

impl FromStr for Version {
    type Err = BadWord;

    fn from_str(word: &str) -> Result<Self, BadWord> {
        let (major, minor) = word.split_once('.').unwrap_or((word, "0"));
        match (major.parse(), minor.parse()) {
            (Ok(major), Ok(minor)) => Ok(Self(major, minor)),
            _ => Err(BadWord { word: word.to_owned(), expected: "versions such as 1.86" }),
        }
    }
}
