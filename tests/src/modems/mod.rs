//! Emulated LoRa modems on one simulated channel, in the two languages that modems with a serial port
//! speak: RNode's, and that of MeshCore's KISS modem. They are written from the firmwares and documents
//! of these projects and know nothing of this project's driver.
//!
//! [`Emulation`] has the modems ([`rnode`], [`meshcore`]) and the [`channel`], without ports and without a
//! clock. [`Emulator`] runs it in real time at pseudo terminals or TCP ports:
//!
//! ```
//! use blvm_mesh_tests::modems::{Dialect, Emulator, Setup};
//!
//! let setup = Setup::of(&[Dialect::Rnode, Dialect::Meshcore]);
//! let modems = Emulator::start(&setup, |_| {}).expect("two terminals");
//! println!("{} and {}", modems.device(0), modems.device(1));
//! modems.order("pull 1".parse().expect("an order")).expect("there is a modem 1");
//! ```
//!
//! The program `blvm-mesh-modems` is the same on a command line. What its modems do that their models do
//! not: a frame is heard everywhere at once, crystals are exact, and computing takes no time.

pub mod channel;
mod emulation;
mod emulator;
mod firmware;
pub mod kiss;
pub mod meshcore;
pub mod options;
mod order;
mod port;
pub mod rnode;
pub mod sx1262;
mod topology;
mod tuning;

pub use emulation::{Counts, Emulation, OnAir, World};
pub use emulator::{Emulator, Setup, Told};
pub use firmware::{BadWord, Dialect, Firmware, Parameter, Version};
pub use order::{MOST_GARBAGE, Order, OrderError};
pub use port::Ports;
pub use topology::{BadTopology, Path, PathLoss, Topology};
pub use tuning::Tuning;
