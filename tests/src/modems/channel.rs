//! One LoRa channel: who receives which frame, and what disturbs it.
//!
//! A receiver holds on to the first frame that it can hear, and turns to another one only while the
//! preamble of the first lasts and if the other is stronger by 6 dB. It has the frame if that was
//! stronger by 6 dB than the sum of all others of its kind that were in the air meanwhile (16 dB weaker
//! than those of other spreading factors and bandwidths in its band), and if it did not send, was not
//! turned off and not tuned elsewhere. What is sent is heard at once; distances take no time.

use super::topology::PathLoss;
use super::tuning::Tuning;
use crate::rng::Rng;
use blvm_mesh_core::time::Micros;

/// By how much a frame must be stronger than others of its kind, in dB.
const CAPTURE_DB: f64 = 6.0;
/// By how much it may be weaker than one of another kind (Semtech AN1200.22, section 6.2.3).
const REJECTION_DB: f64 = 16.0;
/// What receivers report at most as signal above noise, in dB.
const MOST_SNR_DB: f64 = 12.0;

/// A frame as one modem got it.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// Who sent it.
    pub from: usize,
    /// Its bytes; `None` where its CRC was wrong.
    pub frame: Option<Vec<u8>>,
    /// Its power in dBm.
    pub rssi_dbm: f64,
    /// Its power above noise in dB.
    pub snr_db: f64,
}

/// What a receiver senses of the channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sense {
    /// Whether a frame is coming in.
    pub carrier: bool,
    /// Power in its band in dBm.
    pub rssi_dbm: f64,
    /// Power in its band when nobody sends, in dBm.
    pub floor_dbm: f64,
}

/// What comes of time passing.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// What this modem sent is over.
    Sent(usize),
    /// This modem received a frame, or one with a wrong CRC.
    Heard(usize, Heard),
    /// Receivers that listen to this sender know now that a frame is coming.
    Detected(usize),
}

#[derive(Debug, Clone, Default)]
struct Node {
    tuning: Option<Tuning>,
    /// What it receives: the number of a frame on the air.
    lock: Option<u64>,
    deaf: bool,
    mute: bool,
}

#[derive(Debug, Clone)]
struct Flying {
    number: u64,
    from: usize,
    tuning: Tuning,
    start: Micros,
    end: Micros,
    detected: bool,
    frame: Vec<u8>,
    /// Its power at each modem in dBm; `None` where it does not arrive.
    power_dbm: Vec<Option<f64>>,
    /// What disturbs it at each modem, as power in milliwatts after rejection.
    disturbed_mw: Vec<f64>,
}

/// The channel.
#[derive(Debug, Clone)]
pub struct Channel {
    nodes: Vec<Node>,
    flying: Vec<Flying>,
    /// What is lost between the modems.
    pub paths: PathLoss,
    /// How many of a million frames are lost for no reason, at each receiver for itself.
    pub loss_ppm: u32,
    count: u64,
    rng: Rng,
}

fn milliwatts(dbm: f64) -> f64 {
    10f64.powf(dbm / 10.0)
}

fn dbm(milliwatts: f64) -> f64 {
    10.0 * milliwatts.log10()
}

impl Channel {
    /// A silent channel between so many modems, which are off.
    pub fn new(modems: usize, paths: PathLoss, loss_ppm: u32, rng: Rng) -> Self {
        let nodes = vec![Node::default(); modems];
        Self { nodes, flying: Vec::new(), paths, loss_ppm, count: 0, rng }
    }

    /// Tunes a modem, or turns it off. What it was receiving is lost, and what it was sending ends: then
    /// this returns true.
    pub fn tune(&mut self, modem: usize, tuning: Option<Tuning>) -> bool {
        let node = &mut self.nodes[modem];
        if node.tuning == tuning {
            return false;
        }
        *node = Node { tuning, lock: None, ..*node };
        let Some(place) = self.flying.iter().position(|frame| frame.from == modem) else {
            return false;
        };
        let ended = self.flying.swap_remove(place);
        for node in &mut self.nodes {
            node.lock = node.lock.filter(|lock| *lock != ended.number);
        }
        true
    }

    /// Whether a modem receives nothing.
    pub fn set_deaf(&mut self, modem: usize, deaf: bool) {
        self.nodes[modem].deaf = deaf;
        self.nodes[modem].lock = None;
    }

    /// Whether nothing that a modem sends from now on arrives anywhere.
    pub fn set_mute(&mut self, modem: usize, mute: bool) {
        self.nodes[modem].mute = mute;
    }

    /// Whether a modem is sending.
    pub fn is_sending(&self, modem: usize) -> bool {
        self.flying.iter().any(|frame| frame.from == modem)
    }

    /// Puts a frame on the air and returns how long it lasts. A modem that is off or sends already
    /// sends nothing.
    pub fn send(
        &mut self,
        from: usize,
        power_dbm: i32,
        frame: Vec<u8>,
        now: Micros,
    ) -> Option<Micros> {
        let tuning = self.nodes[from].tuning?;
        if self.is_sending(from) {
            return None;
        }
        let airtime = tuning.airtime(frame.len());
        self.count += 1;
        let mute = self.nodes[from].mute;
        let arrives = |to| {
            let lost = self.paths.between(from, to).filter(|_| !mute)?;
            Some(f64::from(power_dbm) - lost)
        };
        let mut new = Flying {
            number: self.count,
            from,
            tuning,
            start: now,
            end: now + airtime,
            detected: false,
            frame,
            power_dbm: (0..self.nodes.len()).map(arrives).collect(),
            disturbed_mw: vec![0.0; self.nodes.len()],
        };
        for other in &mut self.flying {
            disturb(&mut new, other);
            disturb(other, &new);
        }
        self.nodes[from].lock = None;
        self.flying.push(new);
        for to in 0..self.nodes.len() {
            self.listen(to, now);
        }
        Some(airtime)
    }

    /// Lets a modem choose between what it receives and the newest frame.
    fn listen(&mut self, to: usize, now: Micros) {
        let node = &self.nodes[to];
        let (Some(tuning), Some(new)) = (node.tuning, self.flying.last()) else { return };
        let Some(power) = new.power_dbm[to] else { return };
        let heard = tuning.understands(&new.tuning)
            && power - tuning.noise_dbm() >= tuning.least_snr_db()
            && !node.deaf
            && !self.is_sending(to);
        let held = self.flying.iter().find(|frame| Some(frame.number) == node.lock);
        let free = held.is_none_or(|held| {
            let weaker = held.power_dbm[to].is_none_or(|held| power >= held + CAPTURE_DB);
            weaker && now < held.start + held.tuning.preamble_time()
        });
        if heard && free {
            self.nodes[to].lock = Some(new.number);
        }
    }

    /// When something happens next.
    pub fn due(&self) -> Option<Micros> {
        let next = |frame: &Flying| match frame.detected {
            true => frame.end,
            false => frame.end.min(frame.start + frame.tuning.detection()),
        };
        self.flying.iter().map(next).min()
    }

    /// What happens at this moment, if anything does. Ask again until nothing does.
    pub fn poll(&mut self, now: Micros) -> Vec<Event> {
        if let Some(place) = self.flying.iter().position(|frame| frame.end <= now) {
            return self.land(place);
        }
        for frame in &mut self.flying {
            if !frame.detected && frame.start + frame.tuning.detection() <= now {
                frame.detected = true;
                return vec![Event::Detected(frame.from)];
            }
        }
        Vec::new()
    }

    fn land(&mut self, place: usize) -> Vec<Event> {
        let landed = self.flying.swap_remove(place);
        let mut events = vec![Event::Sent(landed.from)];
        for (to, node) in self.nodes.iter_mut().enumerate() {
            if node.lock != Some(landed.number) {
                continue;
            }
            node.lock = None;
            let (Some(rssi_dbm), Some(tuning)) = (landed.power_dbm[to], node.tuning) else {
                continue;
            };
            if self.rng.in_million(self.loss_ppm) {
                continue;
            }
            let clear = rssi_dbm >= dbm(landed.disturbed_mw[to]) + CAPTURE_DB - 1e-9;
            let snr_db = (rssi_dbm - tuning.noise_dbm()).min(MOST_SNR_DB);
            let frame = clear.then(|| landed.frame.clone());
            events.push(Event::Heard(to, Heard { from: landed.from, frame, rssi_dbm, snr_db }));
        }
        events
    }

    /// What a modem senses. One that is off senses the noise of 125 kHz.
    pub fn sense(&self, modem: usize, now: Micros) -> Sense {
        let node = &self.nodes[modem];
        let silence =
            Tuning { frequency_hz: 1, bandwidth_hz: 125_000, spreading: 7, coding: 5, preamble: 8 };
        let floor_dbm = node.tuning.unwrap_or(silence).noise_dbm();
        let none = Sense { carrier: false, rssi_dbm: floor_dbm, floor_dbm };
        let Some(tuning) = node.tuning.filter(|_| !node.deaf) else { return none };
        let detected = |frame: &Flying| {
            Some(frame.number) == node.lock && frame.start + frame.tuning.detection() <= now
        };
        let in_band = self.flying.iter().filter(|frame| frame.tuning.overlaps(&tuning));
        let power: f64 = in_band.filter_map(|frame| frame.power_dbm[modem]).map(milliwatts).sum();
        Sense {
            carrier: self.flying.iter().any(detected),
            rssi_dbm: dbm(milliwatts(floor_dbm) + power),
            floor_dbm,
        }
    }
}

/// Adds to a frame what another one, that is in the air at the same time, disturbs.
fn disturb(frame: &mut Flying, other: &Flying) {
    if !frame.tuning.overlaps(&other.tuning) {
        return;
    }
    let rejected = match frame.tuning.understands(&other.tuning) {
        true => 0.0,
        false => REJECTION_DB + CAPTURE_DB,
    };
    for (sum, power) in frame.disturbed_mw.iter_mut().zip(&other.power_dbm) {
        *sum += power.map_or(0.0, |power| milliwatts(power - rejected));
    }
}

#[cfg(test)]
mod tests;
