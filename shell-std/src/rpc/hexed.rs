//! Bytes as hex or base64 in JSON.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

fn read<'de, D: Deserializer<'de>>(text: &str) -> Result<Vec<u8>, D::Error> {
    hex::decode(text).map_err(|e| D::Error::custom(format!("not hex: {e}")))
}

fn fixed<T: TryFrom<Vec<u8>>, E: Error>(bytes: Vec<u8>) -> Result<T, E> {
    let len = bytes.len();
    let wrong = |_| {
        let expected = match std::mem::size_of::<T>() {
            33 => "a compressed public key: expected 66 hex digits".to_owned(),
            size => format!("expected {} hex digits", 2 * size),
        };
        E::custom(format!("{expected}, found {}", 2 * len))
    };
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

/// Bytes from base64 (RFC 4648, section 4).
pub(super) fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    use bitcoin::base64::Engine;
    let engine = bitcoin::base64::engine::general_purpose::STANDARD;
    engine.decode(text).map_err(|e| e.to_string())
}

/// Vectors of bytes, as base64.
pub(super) mod base64 {
    use super::*;

    pub(in crate::rpc) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        use bitcoin::base64::Engine;
        s.serialize_str(&bitcoin::base64::engine::general_purpose::STANDARD.encode(bytes))
    }

    pub(in crate::rpc) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        from_base64(&text).map_err(|e| D::Error::custom(format!("not base64: {e}")))
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

/// Lists of keys that may not be known.
pub(super) mod optional_list {
    use super::*;

    pub(in crate::rpc) fn serialize<S: Serializer>(
        keys: &Option<Vec<[u8; 33]>>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        match keys {
            Some(keys) => list::serialize(keys, s),
            None => s.serialize_none(),
        }
    }

    pub(in crate::rpc) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Vec<[u8; 33]>>, D::Error> {
        let texts = Option::<Vec<String>>::deserialize(d)?;
        let keys = texts.map(|texts| texts.iter().map(|t| fixed(read::<D>(t)?)).collect());
        keys.transpose()
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
