//! JSON Schemas of what comes from elsewhere: core knows nothing of schemas.

use blvm_mesh_core::id::Network as CoreNetwork;
use blvm_mesh_core::policy::{DetectedProtocol, MeshMode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// A text that is one of these names.
macro_rules! names {
    ($name:ident, $names:expr, $doc:literal) => {
        #[doc = $doc]
        pub(super) struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "enum": $names, "description": $doc})
            }
        }
    };
}

names!(Network, CoreNetwork::ALL.map(CoreNetwork::name), "A Bitcoin network.");
names!(
    Mode,
    MeshMode::ALL.map(MeshMode::name),
    "What a node relays, and for what it asks payment."
);
names!(Protocol, DetectedProtocol::ALL.map(DetectedProtocol::name), "The protocol of a payload.");
names!(Method, ["lightning", "covenant"], "How a payment was made.");

/// What a node asks for relaying a payload.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct Tariff {
    /// Charged once per payment.
    base_msat: u32,
    /// Charged per started KiB (1,024 bytes) of payload.
    per_kib_msat: u32,
}
