//! The command line of `blvm-mesh-modems`.

use super::emulation::World;
use super::emulator::Setup;
use super::firmware::{Dialect, Version};
use super::order::{Order, OrderError, percent_as_ppm};
use super::port::Ports;
use super::rnode::{Chip, Kind};
use super::topology::Topology;
use clap::Parser;
use std::path::PathBuf;

/// Emulates LoRa modems on one channel. Prints where each of them is, as lines of JSON. Orders are read
/// from standard input: pull N, plug N, reset N, garbage N BYTES, firmware N VERSION, refuse N PARAMETER,
/// accept N PARAMETER, deaf N, hear N, mute N, unmute N, lose PERCENT, path N-N:DB, cut N N, counts N.
#[derive(Debug, Parser)]
#[command(name = "blvm-mesh-modems")]
pub struct Args {
    /// Dialect of each modem, `rnode` or `meshcore`
    #[arg(long, value_delimiter = ',', default_value = "rnode,rnode", num_args = 1..)]
    pub modems: Vec<Dialect>,

    /// Who hears whom: `all`, `line`, or paths with their loss, such as `0-1,1-2:110,2>0:125`
    #[arg(long, default_value = "all", value_name = "TOPOLOGY")]
    pub topology: Topology,

    /// Share of frames that are lost for no reason, in percent
    #[arg(long, default_value = "0", value_name = "PERCENT", value_parser = percent_as_ppm)]
    pub loss: u32,

    /// What all chance comes from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// How many times as fast as real time it runs
    #[arg(long, default_value_t = 1.0, value_parser = scale)]
    pub time_scale: f64,

    /// Opens a TCP port of 127.0.0.1 for each modem, and no terminal
    #[arg(long, conflicts_with = "links")]
    pub tcp: bool,

    /// Folder for a link to each terminal, `modem0` and so on, whose name stays the same
    #[arg(long, value_name = "FOLDER")]
    pub links: Option<PathBuf>,

    /// Transceiver of RNodes: sx1262 or sx1276
    #[arg(long, default_value = "sx1262", value_parser = chip)]
    pub chip: Chip,

    /// Firmware version of RNodes
    #[arg(long, default_value = "1.86", value_name = "VERSION")]
    pub firmware: Version,

    /// RNodes say by themselves that their queue is full and that a packet was sent, as in 2018
    #[arg(long)]
    pub reports_queue: bool,

    /// Modems are reset when a host opens them, as many ESP32 boards are
    #[arg(long)]
    pub reset_on_open: bool,

    /// Order carried out at the start; may be given several times
    #[arg(long = "order", value_name = "ORDER")]
    pub orders: Vec<Order>,

    /// Prints what happens on the air too
    #[arg(long)]
    pub trace: bool,
}

fn scale(text: &str) -> Result<f64, OrderError> {
    let scale = text.parse().ok().filter(|scale| (0.001..=1000.0).contains(scale));
    scale.ok_or_else(|| OrderError::Number(text.to_owned()))
}

fn chip(text: &str) -> Result<Chip, String> {
    match text {
        "sx1262" => Ok(Chip::Sx1262),
        "sx1276" => Ok(Chip::Sx1276),
        _ => Err("expected sx1262 or sx1276".to_owned()),
    }
}

impl Args {
    /// What they ask for.
    pub fn setup(&self) -> Setup {
        Setup {
            world: World {
                modems: self.modems.clone(),
                topology: self.topology.clone(),
                loss_ppm: self.loss,
                seed: self.seed,
                rnode: Kind {
                    version: self.firmware,
                    chip: self.chip,
                    reports_queue: self.reports_queue,
                },
            },
            ports: match (&self.links, self.tcp) {
                (Some(folder), _) => Ports::Linked(folder.clone()),
                (None, true) => Ports::Tcp,
                (None, false) => Ports::Terminals,
            },
            reset_on_open: self.reset_on_open,
            time_scale: self.time_scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_a_setup() {
        let line = "blvm-mesh-modems --modems rnode,meshcore --topology line --loss 2.5 --tcp --chip sx1276 \
                    --firmware 1.51 --time-scale 10";
        let args = Args::try_parse_from(line.split_whitespace().chain(["--order", "deaf 1"]));
        let args = args.expect("they are right");
        let setup = args.setup();
        assert_eq!(setup.world.modems, [Dialect::Rnode, Dialect::Meshcore]);
        assert_eq!((setup.world.loss_ppm, setup.time_scale), (25_000, 10.0));
        assert_eq!((setup.world.topology, setup.ports), (Topology::Line, Ports::Tcp));
        assert_eq!(setup.world.rnode.version, Version(1, 51));
        assert_eq!(args.orders, [Order::Deaf(1, true)]);
    }

    #[test]
    fn wrong_options_are_refused() {
        for wrong in ["--modems x", "--loss 101", "--time-scale 0", "--tcp --links d", "--chip x"] {
            let words = ["blvm-mesh-modems"].into_iter().chain(wrong.split_whitespace());
            assert!(Args::try_parse_from(words).is_err(), "{wrong}");
        }
    }
}
