//! What a board needs of the router, and nothing that needs an operating system.
//!
//! [`BoardMesh`] keeps its tables in fixed memory, sized in
//! `blvm_mesh_core::config::fixed`; [`Link`] and [`RustCrypto`] encrypt a byte
//! stream such as a UART. The loop that joins them to a board's ports is the
//! firmware's.
#![no_std]
#![forbid(unsafe_code)]

pub use blvm_mesh_core::link::Link;
pub use blvm_mesh_core::link::aead::RustCrypto;
pub use blvm_mesh_core::mesh::BoardMesh;
