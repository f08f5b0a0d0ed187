//! Packets that many may hold, and the ways they went.

use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

/// Bytes shared by whoever holds them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(Rc<[u8]>);

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl serde::Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self)
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Bytes {
    /// Length and first bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.len())?;
        self.iter().take(28).try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// The nodes where a packet was, shared by all copies of it.
#[derive(Debug, Clone, Default)]
pub struct Path(Option<Rc<Visit>>);

#[derive(Debug)]
struct Visit {
    node: usize,
    len: usize,
    before: Path,
}

impl Path {
    /// This path and one node more.
    pub fn then(&self, node: usize) -> Self {
        Self(Some(Rc::new(Visit { node, len: self.len() + 1, before: self.clone() })))
    }

    /// How many nodes are on it.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |v| v.len)
    }

    /// Whether it was nowhere yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The nodes, the latest first.
    pub fn nodes(&self) -> impl Iterator<Item = usize> {
        let mut at = self.0.as_deref();
        std::iter::from_fn(move || {
            let visit = at?;
            at = visit.before.0.as_deref();
            Some(visit.node)
        })
    }

    /// Whether a node is on it.
    pub fn contains(&self, node: usize) -> bool {
        self.nodes().any(|n| n == node)
    }
}
