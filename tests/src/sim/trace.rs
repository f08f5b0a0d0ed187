//! What happened: as one rolling hash, and as lines where they are asked for.

use super::machine::{Input, Step};
use blvm_mesh_core::time::Micros;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::fmt::{Display, Write as _};
use std::hash::Hasher;
use std::io::Write;

/// The trace of a world: every input with the actions that it caused.
pub struct Trace {
    hash: SipHasher13,
    lines: Option<Box<dyn Write>>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: SipHasher13::new(), lines: None }
    }
}

/// What is serialised, into the hash.
struct Hashed<'a>(&'a mut SipHasher13);

impl postcard::ser_flavors::Flavor for Hashed<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.write_u8(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.write(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Formatted text, into the hash.
struct Text<'a>(&'a mut SipHasher13);

impl std::fmt::Write for Text<'_> {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        self.0.write(s.as_bytes());
        Ok(())
    }
}

impl Trace {
    /// From now on every step is also written as a line.
    pub fn write_to(&mut self, lines: Box<dyn Write>) {
        self.lines = Some(lines);
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u128 {
        self.hash.finish128().as_u128()
    }

    /// Something that is neither input nor action.
    pub fn note(&mut self, at: Micros, what: impl Display) {
        let _ = write!(Text(&mut self.hash), "{at} {what}");
        if let Some(lines) = &mut self.lines {
            let _ = writeln!(lines, "{at} {what}");
        }
    }

    pub(super) fn step(&mut self, at: Micros, node: usize, input: &Input, step: &Step) {
        if let Some(lines) = &mut self.lines {
            let _ = write!(lines, "{at} {node} {input:?} ->");
            step.actions.iter().for_each(|action| drop(write!(lines, " {action:?}")));
            let _ = writeln!(lines);
        }
        let all = (at, node as u64, input, &step.actions);
        let bytes = postcard::serialize_with_flavor(&all, Hashed(&mut self.hash));
        bytes.expect("a hash takes everything");
    }
}
