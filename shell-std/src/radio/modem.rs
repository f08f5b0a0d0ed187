//! A modem of either dialect.

use super::fault::Fault;
use super::meshcore::Meshcore;
use super::parameters::{Limits, Parameters};
use super::rnode::Rnode;
use blvm_mesh_core::time::Micros;
use std::fmt;

/// What a modem's firmware speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// RNode firmware.
    Rnode,
    /// MeshCore's KISS modem firmware.
    Meshcore,
}

impl Dialect {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Rnode, Self::Meshcore];

    /// As it is written in an address.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rnode => "rnode",
            Self::Meshcore => "meshcore",
        }
    }

    /// Symbols of the preamble that such a modem sends with these parameters.
    pub fn preamble(self, parameters: &Parameters) -> u32 {
        match self {
            Self::Rnode => Rnode::preamble(parameters),
            Self::Meshcore => Meshcore::preamble(parameters),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rnode => "RNode",
            Self::Meshcore => "MeshCore KISS modem",
        })
    }
}

/// What a modem says that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What it speaks.
    pub dialect: Dialect,
    /// The version of its firmware.
    pub firmware: String,
    /// The board, if it says so.
    pub board: Option<String>,
}

/// A frame that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The frame, at most [`MAX_FRAME`](blvm_mesh_core::link::channel::lora::MAX_FRAME) bytes.
    pub frame: Vec<u8>,
    /// Its power in dBm, if it was told.
    pub rssi_dbm: Option<i16>,
    /// Signal to noise in quarters of a dB; 0 where that is not told.
    pub snr: i8,
}

/// What a modem tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is there.
    Found(Identity),
    /// It is set, as it says when it is asked, and ready.
    Ready(Parameters),
    /// A frame was heard.
    Heard(Heard),
    /// The frame that was sent last is on the air no more; false: it was not sent.
    Sent(bool),
    /// Somebody is heard sending, or nobody any more.
    Carrier(bool),
    /// How much of the time the channel was taken lately, in thousandths, as the modem says.
    Load(u16),
    /// Something is not as it should be, and it goes on all the same.
    Warning(&'static str),
}

/// A modem, from the moment when its line was opened. Nothing is sent through it before
/// [`Event::Ready`].
#[derive(Debug)]
pub enum Modem {
    /// An RNode.
    Rnode(Box<Rnode>),
    /// A MeshCore KISS modem.
    Meshcore(Box<Meshcore>),
}

macro_rules! either {
    ($self:ident, $modem:ident => $what:expr) => {
        match $self {
            Modem::Rnode($modem) => $what,
            Modem::Meshcore($modem) => $what,
        }
    };
}

impl Modem {
    /// One whose line has just been opened, and what it is to be set to.
    pub fn new(dialect: Dialect, parameters: Parameters, limits: Limits, now: Micros) -> Self {
        match dialect {
            Dialect::Rnode => Self::Rnode(Box::new(Rnode::new(parameters, limits, now))),
            Dialect::Meshcore => Self::Meshcore(Box::new(Meshcore::new(parameters, limits, now))),
        }
    }

    /// Takes bytes of the line.
    ///
    /// # Errors
    /// [`Fault`]: the line must be opened anew.
    pub fn receive(&mut self, now: Micros, bytes: &[u8]) -> Result<(), Fault> {
        either!(self, modem => modem.receive(now, bytes))
    }

    /// Does what is due.
    ///
    /// # Errors
    /// [`Fault`]: the line must be opened anew.
    pub fn handle_timeout(&mut self, now: Micros) -> Result<(), Fault> {
        either!(self, modem => modem.handle_timeout(now))
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Micros {
        either!(self, modem => modem.poll_timeout())
    }

    /// What it has told.
    pub fn poll_event(&mut self) -> Option<Event> {
        either!(self, modem => modem.poll_event())
    }

    /// Bytes for the line. Who has written some takes them away.
    pub fn output(&mut self) -> &mut Vec<u8> {
        either!(self, modem => modem.output())
    }

    /// Whether a frame may be given to it now. A modem that must be asked whether the channel is free is
    /// asked, and the answer counts for a moment.
    pub fn may_send(&mut self, now: Micros) -> bool {
        either!(self, modem => modem.may_send(now))
    }

    /// Sends a frame; [`Event::Sent`] follows. One at a time.
    pub fn send(&mut self, now: Micros, frame: &[u8]) {
        either!(self, modem => modem.send(now, frame))
    }

    /// Frames of the line that were none, and frames that were heard and had a wrong form.
    pub fn damaged(&self) -> u64 {
        either!(self, modem => modem.damaged())
    }
}
