//! What the node gives to its [page](blvm_mesh_page): the token, and the lines of its log. What is
//! shown of the node itself is in `node/requests/page.rs`.

mod lines;
mod token;

pub(crate) use lines::ForPage;
pub use token::{TokenError, token};
