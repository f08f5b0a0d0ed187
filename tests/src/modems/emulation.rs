//! Modems and the channel between them, without ports and without a clock: time is an argument, in
//! microseconds from the beginning, and never goes back.

use super::channel::{Channel, Event};
use super::firmware::{Dialect, Firmware, Version};
use super::meshcore::Meshcore;
use super::order::{Order, OrderError};
use super::rnode::{Kind, Rnode};
use super::topology::{PathLoss, Topology};
use crate::rng::Rng;
use blvm_mesh_core::time::Micros;
use serde::Serialize;

/// MeshCore's version of this protocol.
const MESHCORE: Version = Version(1, 0);
/// How many things may happen at one moment. More are a defect.
const MOST_AT_ONCE: usize = 100_000;

/// What is emulated.
#[derive(Debug, Clone)]
pub struct World {
    /// The modems.
    pub modems: Vec<Dialect>,
    /// Who hears whom.
    pub topology: Topology,
    /// How many of a million frames are lost for no reason.
    pub loss_ppm: u32,
    /// What all chance comes from.
    pub seed: u64,
    /// Which RNodes those of that dialect are.
    pub rnode: Kind,
}

impl World {
    /// These modems, all hearing each other well, without losses.
    pub fn of(modems: &[Dialect]) -> Self {
        let (topology, rnode) = (Topology::All, Kind::default());
        Self { modems: modems.to_vec(), topology, loss_ppm: 0, seed: 1, rnode }
    }
}

/// What a modem did on the air.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Frames that it sent.
    pub sent: u64,
    /// How long it sent, in microseconds.
    pub airtime_us: u64,
    /// Frames that it received.
    pub received: u64,
    /// Frames that it received with a wrong CRC.
    pub corrupt: u64,
}

/// What happened on the air.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum OnAir {
    /// A modem began to send a frame.
    Sends {
        /// When, in microseconds from the beginning.
        at_us: Micros,
        /// Which modem.
        modem: usize,
        /// Bytes of the frame.
        bytes: usize,
        /// How long it lasts.
        airtime_us: Micros,
    },
    /// A modem received a frame.
    Receives {
        /// When, in microseconds from the beginning.
        at_us: Micros,
        /// Which modem.
        modem: usize,
        /// Who sent it.
        from: usize,
        /// Whether its CRC was right.
        whole: bool,
        /// Its power in dBm.
        rssi_dbm: i32,
        /// Its power above noise in dB.
        snr_db: i32,
    },
}

/// Modems and their channel.
pub struct Emulation {
    channel: Channel,
    modems: Vec<Box<dyn Firmware>>,
    /// Which of them have no power.
    pulled: Vec<bool>,
    counts: Vec<Counts>,
    now: Micros,
    rng: Rng,
    happened: Vec<OnAir>,
}

impl Emulation {
    /// Modems that have just been plugged in.
    pub fn new(world: &World) -> Self {
        Self::with(world, Vec::new())
    }

    /// The same with others behind them, such as chips without a firmware.
    pub fn with(world: &World, others: Vec<Box<dyn Firmware>>) -> Self {
        let rng = Rng::new(world.seed);
        let make = |(n, dialect): (usize, &Dialect)| -> Box<dyn Firmware> {
            let rng = rng.fork(&format!("modem {n}"));
            match dialect {
                Dialect::Rnode => Box::new(Rnode::new(world.rnode, rng)),
                Dialect::Meshcore => Box::new(Meshcore::new(MESHCORE, rng)),
            }
        };
        let count = world.modems.len() + others.len();
        let paths = PathLoss::new(&world.topology, count);
        let mut new = Self {
            channel: Channel::new(count, paths, world.loss_ppm, rng.fork("channel")),
            modems: world.modems.iter().enumerate().map(make).chain(others).collect(),
            pulled: vec![false; count],
            counts: vec![Counts::default(); count],
            now: 0,
            rng: rng.fork("garbage"),
            happened: Vec::new(),
        };
        (0..count).for_each(|modem| new.step(modem));
        new
    }

    /// What a modem did so far.
    pub fn counts(&self, modem: usize) -> Counts {
        self.counts[modem]
    }

    /// What happened on the air since the last time that this was asked.
    pub fn happened(&mut self) -> Vec<OnAir> {
        std::mem::take(&mut self.happened)
    }

    /// When something happens next by itself.
    pub fn due(&self) -> Option<Micros> {
        let powered = self.modems.iter().zip(&self.pulled).filter(|(_, pulled)| !**pulled);
        let modems = powered.filter_map(|(modem, _)| modem.due());
        modems.chain(self.channel.due()).min()
    }

    /// Lets everything happen up to this moment.
    ///
    /// # Panics
    /// If a firmware never stops to do things at one moment, which is a defect here.
    pub fn advance(&mut self, now: Micros) {
        let (mut last, mut rounds) = (self.now, 0);
        while let Some(due) = self.due().filter(|due| *due <= now) {
            // What was due in the past is done at once.
            self.now = self.now.max(due);
            rounds = if self.now == last { rounds + 1 } else { 0 };
            last = self.now;
            assert!(rounds < MOST_AT_ONCE, "the emulation stands still at {} us", self.now);
            for event in self.channel.poll(self.now) {
                self.event(event);
            }
            // What one of them hears or stops to hear changes what it does.
            (0..self.modems.len()).for_each(|modem| self.step(modem));
        }
        self.now = self.now.max(now);
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Detected(_) => {}
            Event::Sent(modem) => self.modems[modem].sent(self.now),
            Event::Heard(modem, heard) => {
                let whole = heard.frame.is_some();
                match whole {
                    true => self.counts[modem].received += 1,
                    false => self.counts[modem].corrupt += 1,
                }
                self.happened.push(OnAir::Receives {
                    at_us: self.now,
                    modem,
                    from: heard.from,
                    whole,
                    rssi_dbm: heard.rssi_dbm.round() as i32,
                    snr_db: heard.snr_db.round() as i32,
                });
                self.modems[modem].received(heard, self.now);
            }
        }
    }

    /// Lets a modem do what is due, and its transceiver follow.
    fn step(&mut self, modem: usize) {
        self.tune(modem);
        if self.pulled[modem] {
            return;
        }
        let sense = self.channel.sense(modem, self.now);
        let firmware = &mut self.modems[modem];
        let Some(frame) = firmware.poll(self.now, &sense) else { return self.tune(modem) };
        let (bytes, power) = (frame.len(), firmware.power_dbm());
        self.tune(modem);
        match self.channel.send(modem, power, frame, self.now) {
            Some(airtime_us) => {
                self.counts[modem].sent += 1;
                self.counts[modem].airtime_us += airtime_us;
                self.happened.push(OnAir::Sends { at_us: self.now, modem, bytes, airtime_us });
            }
            None => self.modems[modem].sent(self.now),
        }
    }

    fn tune(&mut self, modem: usize) {
        let firmware = &mut self.modems[modem];
        let tuning = firmware.tuning().filter(|_| !self.pulled[modem]);
        if self.channel.tune(modem, tuning) {
            firmware.sent(self.now);
        }
    }

    /// Takes bytes from a modem's host.
    pub fn feed(&mut self, modem: usize, bytes: &[u8], now: Micros) {
        self.advance(now);
        if self.pulled[modem] {
            return;
        }
        let sense = self.channel.sense(modem, self.now);
        self.modems[modem].feed(bytes, self.now, &sense);
        self.step(modem);
    }

    /// Gives at most so many bytes for a modem's host.
    pub fn take_output(&mut self, modem: usize, most: usize, now: Micros) -> Vec<u8> {
        self.advance(now);
        let taken = self.modems[modem].take_output(most);
        if !taken.is_empty() {
            // It may have waited for room.
            self.step(modem);
        }
        taken
    }

    /// Carries out an order, as far as it is not about the modem's port, which the caller has. Garbage is
    /// returned, for the host.
    ///
    /// # Errors
    /// If there is no modem of that number.
    pub fn order(&mut self, order: &Order, now: Micros) -> Result<Vec<u8>, OrderError> {
        if let Some(modem) = order.modems().into_iter().find(|modem| *modem >= self.modems.len()) {
            return Err(OrderError::NoModem(modem));
        }
        self.advance(now);
        let now = self.now;
        match *order {
            Order::Pull(modem) => self.pulled[modem] = true,
            Order::Plug(modem) => {
                self.pulled[modem] = false;
                self.modems[modem].reset(now);
            }
            Order::Reset(modem) => self.modems[modem].reset(now),
            Order::Garbage(_, bytes) => return Ok(self.rng.vec(bytes)),
            Order::Firmware(modem, version) => self.modems[modem].set_version(version),
            Order::Refuse(modem, parameter) => self.modems[modem].refuse(parameter, true),
            Order::Accept(modem, parameter) => self.modems[modem].refuse(parameter, false),
            Order::Deaf(modem, deaf) => self.channel.set_deaf(modem, deaf),
            Order::Mute(modem, mute) => self.channel.set_mute(modem, mute),
            Order::Lose(ppm) => self.channel.loss_ppm = ppm,
            Order::Path(path) => self.channel.paths.set(path),
            Order::Cut(one, other) => self.channel.paths.cut(one, other),
        }
        (0..self.modems.len()).for_each(|modem| self.step(modem));
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests;
