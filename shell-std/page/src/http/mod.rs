//! HTTP/1.1 for who is near: heads of requests without bodies, one answer for each connection, and
//! a bound on everything.

mod answer;
mod request;
mod serve;

pub use answer::{Answer, Body, Events};
pub use request::Request;
pub use serve::{Listener, MAX_REQUEST, PATIENCE, Site};
