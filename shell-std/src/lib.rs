//! Host-node library.

pub mod aead;
