//! Who a packet goes to, as users write it.

use blvm_mesh_core::id::NodeId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A destination: written as its identity (64 hex digits), its compressed public
/// key (66 hex digits), or its address (`PUBKEY@HOST:PORT`, of which only the key
/// counts). Kept as the identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline)]
pub struct Target(pub NodeId);

/// The text names no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a destination: write an identity (64 hex digits), a public key \
     (66 hex digits, beginning with 02 or 03) or an address (PUBKEY@HOST:PORT)"
)]
pub struct TargetError(String);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError(text.chars().take(100).collect());
        let key = text.split_once('@').map_or(text, |(key, _)| key);
        let bytes = hex::decode(key).map_err(|_| wrong())?;
        if let Ok(id) = <[u8; 32]>::try_from(bytes.as_slice())
            && key.len() == text.len()
        {
            return Ok(Self(NodeId(id)));
        }
        let key = secp256k1::PublicKey::from_slice(&bytes).map_err(|_| wrong())?;
        match bytes.len() {
            33 => Ok(Self(NodeId::from_public_key(&key))),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = TargetError;

    fn try_from(text: String) -> Result<Self, TargetError> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.0.to_string()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_key_and_address_name_the_same_node() {
        // Generator point; identity computed with coreutils sha256sum.
        let id = "0f715baf5d4c2ed329785cef29e562f73488c8a2bb9dbc5700b361d54b9b0554";
        let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        for text in [id.to_string(), key.to_string(), format!("{key}@[::1]:8338")] {
            assert_eq!(text.parse::<Target>().map(String::from), Ok(id.to_string()));
        }
    }

    #[test]
    fn others_are_refused_with_what_to_write() {
        let id = "0f715baf5d4c2ed329785cef29e562f73488c8a2bb9dbc5700b361d54b9b0554";
        let wrong = ["", "xyz", &id[..62], &format!("{id}@host:1"), &format!("05{id}")];
        for text in wrong {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains("PUBKEY@HOST:PORT"), "{error}");
        }
    }
}
