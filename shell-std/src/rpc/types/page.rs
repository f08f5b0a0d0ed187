//! What is told of the node's page.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answer of `meshgetpage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PageAddress {
    /// What to open in a browser on the node's host. The token in it lets in whoever has it.
    pub url: String,
}
