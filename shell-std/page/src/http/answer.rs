//! What is answered.

use smol::stream::Stream;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

/// Pieces of a body that goes on until its end, or until whoever reads it is gone.
pub type Events = Pin<Box<dyn Stream<Item = Arc<str>> + Send>>;

/// The answer to one request.
#[derive(Debug)]
pub struct Answer {
    /// Code and reason, as in `200 OK`.
    pub status: &'static str,
    /// What the body is (`Content-Type`).
    pub kind: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// What follows.
    pub body: Body,
}

/// What follows the head of an answer.
pub enum Body {
    /// A text.
    Text(String),
    /// Events, one after the other.
    Events(Events),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.debug_tuple("Text").field(&text.len()).finish(),
            Self::Events(_) => f.write_str("Events(..)"),
        }
    }
}

impl Answer {
    /// What was asked for.
    pub fn found(kind: &'static str, text: String) -> Self {
        Self { status: "200 OK", kind, headers: Vec::new(), body: Body::Text(text) }
    }

    /// Why there is nothing; `text` says what to do.
    pub fn refused(status: &'static str, text: &str) -> Self {
        let body = Body::Text(format!("{status}\n{text}\n"));
        Self { status, kind: "text/plain; charset=utf-8", headers: Vec::new(), body }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
