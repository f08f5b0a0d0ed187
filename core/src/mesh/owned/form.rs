//! How serde writes what it cannot derive.

use serde::{Deserializer, Serialize, Serializer};

pub(super) fn sentence<S: Serializer>(error: &super::MeshError, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(error)
}

/// Arrays of any length, as bytes.
pub(super) mod array {
    use super::{Deserializer, Serialize, Serializer};
    use core::fmt;
    use serde::de::{Error, SeqAccess, Visitor};

    pub(in super::super) fn serialize<S: Serializer>(
        bytes: &[u8],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        from: D,
    ) -> Result<[u8; N], D::Error> {
        struct Bytes<const N: usize>;
        impl<'de, const N: usize> Visitor<'de> for Bytes<N> {
            type Value = [u8; N];

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{N} bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut out = [0; N];
                for (at, byte) in out.iter_mut().enumerate() {
                    let next = seq.next_element()?;
                    *byte = next.ok_or_else(|| A::Error::invalid_length(at, &self))?;
                }
                match seq.next_element::<u8>()? {
                    None => Ok(out),
                    Some(_) => Err(A::Error::invalid_length(N + 1, &self)),
                }
            }
        }
        from.deserialize_bytes(Bytes)
    }
}

/// A record as it is stored, which is all of it.
pub(super) mod record {
    use super::super::Record;
    use super::{Deserializer, Serializer, array};
    use crate::payment::ledger::RECORD_LEN;
    use serde::de::Error;

    pub(in super::super) fn serialize<S: Serializer>(
        record: &Record,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        array::serialize(&record.encode(), to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Record, D::Error> {
        let bytes: [u8; RECORD_LEN] = array::deserialize(from)?;
        Record::decode(&bytes).ok_or_else(|| D::Error::custom("not a record"))
    }
}
