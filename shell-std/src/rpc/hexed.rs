//! Bytes as hex or base64 in JSON.
//!
//! Each type names one spelling: `#[serde(with = "hexed::Hex::<32>")]` writes, reads and, for
//! the JSON Schema, describes a field by it.

use blvm_mesh_core::id::{HopId, NodeId};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

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

/// Text of hex digits, `count` in the notation of regular expressions: small ones where this
/// node writes them, any where it reads them.
fn digits(generator: &SchemaGenerator, count: &str) -> Schema {
    let digit = if generator.contract().is_serialize() { "[0-9a-f]" } else { "[0-9a-fA-F]" };
    json_schema!({"type": "string", "pattern": format!("^({digit}{{2}}){count}$")})
}

/// How a spelling is described: always in place, as it is short.
macro_rules! described {
    ($name:ident$(<const $n:ident: $int:ty>)?, |$generator:ident| $schema:expr) => {
        impl $(<const $n: $int>)? JsonSchema for $name$(<$n>)? {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

/// `N` bytes as hex.
pub(super) struct Hex<const N: usize>;

described!(Hex<const N: usize>, |generator| digits(generator, &format!("{{{N}}}")));

impl<const N: usize> Hex<N> {
    pub(super) fn serialize<S: Serializer>(bytes: &[u8; N], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; N], D::Error> {
        fixed(read::<D>(&String::deserialize(d)?)?)
    }
}

/// `N` bytes as hex, or none.
pub(super) struct OptionalHex<const N: usize>;

described!(OptionalHex<const N: usize>, |_generator| {
    json_schema!({"type": ["string", "null"], "pattern": format!("^([0-9a-fA-F]{{2}}){{{N}}}$")})
});

impl<const N: usize> OptionalHex<N> {
    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<[u8; N]>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.map(hex::encode).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<[u8; N]>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        text.map(|text| fixed(read::<D>(&text)?)).transpose()
    }
}

/// Any number of bytes as hex.
pub(super) struct HexBytes;

described!(HexBytes, |generator| digits(generator, "*"));

impl HexBytes {
    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        read::<D>(&String::deserialize(d)?)
    }
}

/// Bytes from base64 (RFC 4648, section 4).
pub(super) fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    use bitcoin::base64::Engine;
    let engine = bitcoin::base64::engine::general_purpose::STANDARD;
    engine.decode(text).map_err(|e| e.to_string())
}

/// Any number of bytes as base64.
pub(super) struct Base64;

described!(Base64, |_generator| json_schema!({"type": "string", "contentEncoding": "base64"}));

impl Base64 {
    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        use bitcoin::base64::Engine;
        s.serialize_str(&bitcoin::base64::engine::general_purpose::STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        from_base64(&text).map_err(|e| D::Error::custom(format!("not base64: {e}")))
    }
}

/// Lists of compressed public keys.
pub(super) struct Keys;

described!(Keys, |generator| {
    let key = Hex::<33>::json_schema(generator);
    json_schema!({"type": "array", "items": key})
});

impl Keys {
    pub(super) fn serialize<S: Serializer>(keys: &[[u8; 33]], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(keys.iter().map(hex::encode))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<[u8; 33]>, D::Error> {
        Vec::<String>::deserialize(d)?.iter().map(|t| fixed(read::<D>(t)?)).collect()
    }
}

/// Lists of keys that may not be known.
pub(super) struct OptionalKeys;

described!(OptionalKeys, |generator| {
    let key = Hex::<33>::json_schema(generator);
    json_schema!({"type": ["array", "null"], "items": key})
});

impl OptionalKeys {
    pub(super) fn serialize<S: Serializer>(
        keys: &Option<Vec<[u8; 33]>>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        match keys {
            Some(keys) => Keys::serialize(keys, s),
            None => s.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Vec<[u8; 33]>>, D::Error> {
        let texts = Option::<Vec<String>>::deserialize(d)?;
        let keys = texts.map(|texts| texts.iter().map(|t| fixed(read::<D>(t)?)).collect());
        keys.transpose()
    }
}

/// Identities and their short forms.
macro_rules! identity {
    ($spelling:ident, $id:ident, $bytes:literal, $doc:literal) => {
        #[doc = $doc]
        pub(super) struct $spelling;

        described!($spelling, |generator| Hex::<$bytes>::json_schema(generator));

        impl $spelling {
            pub(super) fn serialize<S: Serializer>(id: &$id, s: S) -> Result<S::Ok, S::Error> {
                id.to_string().serialize(s)
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<$id, D::Error> {
                Hex::<$bytes>::deserialize(d).map($id)
            }
        }
    };
}

identity!(Node, NodeId, 32, "Identities.");
identity!(Hop, HopId, 8, "Short forms of identities.");

/// An identity, or none.
pub(super) struct OptionalNode;

described!(OptionalNode, |generator| generator.subschema_for::<Option<String>>());

impl OptionalNode {
    pub(super) fn serialize<S: Serializer>(id: &Option<NodeId>, s: S) -> Result<S::Ok, S::Error> {
        id.map(|id| id.to_string()).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<NodeId>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        text.map(|text| fixed(read::<D>(&text)?).map(NodeId)).transpose()
    }
}

/// Lists of short forms of identities.
pub(super) struct Hops;

described!(Hops, |generator| {
    let hop = Hop::json_schema(generator);
    json_schema!({"type": "array", "items": hop})
});

impl Hops {
    pub(super) fn serialize<S: Serializer>(ids: &[HopId], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(ids.iter().map(HopId::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<HopId>, D::Error> {
        let texts = Vec::<String>::deserialize(d)?;
        texts.iter().map(|t| fixed(read::<D>(t)?).map(HopId)).collect()
    }
}
