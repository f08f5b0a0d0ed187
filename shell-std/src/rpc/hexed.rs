//! Bytes as hex in JSON.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

fn read<'de, D: Deserializer<'de>>(text: &str) -> Result<Vec<u8>, D::Error> {
    hex::decode(text).map_err(|e| D::Error::custom(format!("not hex: {e}")))
}

fn fixed<T: TryFrom<Vec<u8>>, E: Error>(bytes: Vec<u8>) -> Result<T, E> {
    let len = bytes.len();
    let wrong = |_| E::custom(format!("{len} bytes of hex are not the number wanted here"));
    T::try_from(bytes).map_err(wrong)
}

/// Arrays and vectors of bytes.
pub(super) mod bytes {
    use super::*;

    pub(in crate::rpc) fn serialize<S: Serializer>(
        bytes: &impl AsRef<[u8]>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex::encode(bytes))
    }

    pub(in crate::rpc) fn deserialize<'de, T: TryFrom<Vec<u8>>, D: Deserializer<'de>>(
        d: D,
    ) -> Result<T, D::Error> {
        fixed(read::<D>(&String::deserialize(d)?)?)
    }
}

/// Lists of keys.
pub(super) mod list {
    use super::*;

    pub(in crate::rpc) fn serialize<S: Serializer>(
        keys: &[[u8; 33]],
        s: S,
    ) -> Result<S::Ok, S::Error> {
        s.collect_seq(keys.iter().map(hex::encode))
    }

    pub(in crate::rpc) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Vec<[u8; 33]>, D::Error> {
        Vec::<String>::deserialize(d)?.iter().map(|t| fixed(read::<D>(t)?)).collect()
    }
}

/// Identities.
pub(super) mod node {
    use super::*;
    use blvm_mesh_core::id::NodeId;

    pub(in crate::rpc) fn serialize<S: Serializer>(id: &NodeId, s: S) -> Result<S::Ok, S::Error> {
        id.to_string().serialize(s)
    }

    pub(in crate::rpc) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<NodeId, D::Error> {
        bytes::deserialize(d).map(NodeId)
    }
}

/// Short forms of identities.
pub(super) mod hop {
    use super::*;
    use blvm_mesh_core::id::HopId;

    pub(in crate::rpc) fn serialize<S: Serializer>(id: &HopId, s: S) -> Result<S::Ok, S::Error> {
        id.to_string().serialize(s)
    }

    pub(in crate::rpc) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<HopId, D::Error> {
        bytes::deserialize(d).map(HopId)
    }
}

/// Lists of short forms of identities.
pub(super) mod hops {
    use super::*;
    use blvm_mesh_core::id::HopId;

    pub(in crate::rpc) fn serialize<S: Serializer>(ids: &[HopId], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(ids.iter().map(HopId::to_string))
    }

    pub(in crate::rpc) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Vec<HopId>, D::Error> {
        let texts = Vec::<String>::deserialize(d)?;
        texts.iter().map(|t| fixed(read::<D>(t)?).map(HopId)).collect()
    }
}
