//! Board loop.
#![no_std]
