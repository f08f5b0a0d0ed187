//! Errors of JSON-RPC.

use super::request::METHODS;
use blvm_mesh_core::id::NodeId;
use serde::{Deserialize, Serialize};

/// An error as the protocol carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// Which kind: one of the constants.
    pub code: i64,
    /// A sentence that says what is wrong.
    pub message: String,
}

/// A code of an error.
#[derive(Debug, Clone, Copy)]
pub struct ErrorCode {
    /// One of the constants of [`RpcError`].
    pub code: i64,
    /// Its name in the OpenRPC document.
    pub name: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

/// Every code.
pub const ERRORS: [ErrorCode; 7] = {
    const fn row(code: i64, name: &'static str, meaning: &'static str) -> ErrorCode {
        ErrorCode { code, name, meaning }
    }
    use RpcError as E;
    [
        row(E::PARSE, "Parse", "the request is not JSON"),
        row(E::INVALID_REQUEST, "InvalidRequest", "the request is not JSON-RPC 2.0, or too long"),
        row(E::METHOD_NOT_FOUND, "MethodNotFound", "there is no such method"),
        row(E::INVALID_PARAMS, "InvalidParams", "the parameters are wrong"),
        row(E::INTERNAL, "Internal", "the node cannot answer"),
        row(E::REFUSED, "Refused", "the node refuses, or there is no route"),
        row(E::STOPPING, "Stopping", "the node is stopping"),
    ]
};

impl RpcError {
    /// The request is not JSON.
    pub const PARSE: i64 = -32700;
    /// The request is not JSON-RPC 2.0, or too long.
    pub const INVALID_REQUEST: i64 = -32600;
    /// There is no such method.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// The parameters are wrong.
    pub const INVALID_PARAMS: i64 = -32602;
    /// The node could not answer.
    pub const INTERNAL: i64 = -32603;
    /// A negative result: the node refused, or there is no route.
    pub const REFUSED: i64 = 1;
    /// The node stops.
    pub const STOPPING: i64 = 2;

    /// Codes that any method may answer with.
    pub const COMMON: [i64; 3] = [Self::INVALID_PARAMS, Self::INTERNAL, Self::STOPPING];

    /// The method is not known; lists those that are.
    pub fn method_not_found(method: &str) -> Self {
        let names: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
        let method: String = method.chars().take(60).collect();
        let message = format!("there is no method \"{method}\"; there are {}", names.join(", "));
        Self { code: Self::METHOD_NOT_FOUND, message }
    }

    /// The parameters are wrong.
    pub fn invalid_params(message: impl Into<String>) -> Self {
        Self { code: Self::INVALID_PARAMS, message: message.into() }
    }

    /// The node says no, and why.
    pub fn refused(reason: impl ToString) -> Self {
        Self { code: Self::REFUSED, message: reason.to_string() }
    }

    /// No route was found.
    pub fn no_route(destination: NodeId) -> Self {
        Self::refused(format!("no route to {destination} was found"))
    }

    /// The node could not answer.
    pub fn internal(message: impl ToString) -> Self {
        Self { code: Self::INTERNAL, message: message.to_string() }
    }

    /// The node stops and answers no more.
    pub fn stopping() -> Self {
        Self { code: Self::STOPPING, message: "the node is stopping".into() }
    }
}
