//! Host-node library.
