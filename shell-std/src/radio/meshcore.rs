//! A modem with MeshCore's KISS modem firmware.
//!
//! It takes one order at a time here, since it has room for two answers. Whether its radio took the
//! parameters it does not know: it says what it was told. How long a frame takes, which it asks the radio's
//! driver, shows it.

mod codec;

use super::fault::Fault;
use super::kiss::Decoder;
use super::modem::{Dialect, Event, Heard, Identity};
use super::parameters::{Limits, Parameters};
use blvm_mesh_core::link::channel::lora::{self, MAX_FRAME};
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use codec::{Answer, Order};
use std::collections::VecDeque;

/// How long an answer may take, and how often an order is given.
const ANSWER: Micros = SECOND;
const TRIES: u8 = 4;
/// How often it is asked whether it is there: some boards start anew when their line is opened.
const FIRST_TRIES: u8 = 8;
/// Pause before an order is given again for which it was too busy.
const TOO_BUSY: Micros = 50 * MILLISECOND;
/// How long after a frame its strength may be told.
const SIGNAL: Micros = 50 * MILLISECOND;
/// How long the channel counts as free after it was said to be.
const FREE: Micros = 60 * MILLISECOND;
/// Pause before it is asked again whether the channel is free.
const STILL_BUSY: Micros = 40 * MILLISECOND;
/// After so long without a word it is asked for its parameters.
const QUIET: Micros = 15 * SECOND;
/// Slots that it waits before a frame, nearly always at most.
const SLOTS: u64 = 16;
/// Longest name of a board that is kept, in bytes.
const MAX_NAME: usize = 64;
/// Least symbols of a preamble with any of its firmware's versions, and most.
const PREAMBLES: (u32, u32) = (8, 40);

/// A modem with MeshCore's KISS modem firmware.
#[derive(Debug)]
pub struct Meshcore {
    wanted: Parameters,
    limits: Limits,
    air: lora::Modem,
    decoder: Decoder,
    out: Vec<u8>,
    events: VecDeque<Event>,
    order: Option<Given>,
    online: bool,
    version: u8,
    /// A frame whose strength is still to be told, and until when.
    heard: Option<(Vec<u8>, Micros)>,
    /// Until when what was sent is off the air at the latest.
    sending: Option<Micros>,
    /// Until when the channel counts as free.
    free_until: Micros,
    /// Since when it is taken, and when it is asked for again.
    taken: Option<(Micros, Micros)>,
    heard_at: Micros,
    damaged: u64,
}

/// An order that was given.
#[derive(Debug, Clone, Copy)]
struct Given {
    order: Order,
    again: Micros,
    tries: u8,
}

impl Meshcore {
    /// One whose line has just been opened.
    pub fn new(wanted: Parameters, limits: Limits, now: Micros) -> Self {
        let mut new = Self {
            wanted,
            limits,
            air: wanted.modem(Self::preamble(&wanted), limits.duty_permille),
            decoder: Decoder::default(),
            out: Vec::new(),
            events: VecDeque::new(),
            order: None,
            online: false,
            version: 0,
            heard: None,
            sending: None,
            free_until: 0,
            taken: None,
            heard_at: now,
            damaged: 0,
        };
        new.give(now, Order::Ping);
        new
    }

    /// Symbols of its preamble (`preambleLengthForSF`).
    pub fn preamble(parameters: &Parameters) -> u32 {
        if parameters.spreading <= 8 { 32 } else { 16 }
    }

    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(super) fn damaged(&self) -> u64 {
        self.damaged.saturating_add(self.decoder.damaged())
    }

    fn give(&mut self, now: Micros, order: Order) {
        let tries = self.order.filter(|given| given.order == order).map_or(0, |given| given.tries);
        self.order = Some(Given { order, again: now.saturating_add(ANSWER), tries: tries + 1 });
        order.write(&self.wanted, &mut self.out);
    }

    pub(super) fn may_send(&mut self, now: Micros) -> bool {
        if !self.online || self.sending.is_some() || self.taken.is_some() {
            return false;
        }
        if now <= self.free_until {
            return true;
        }
        if self.order.is_none() {
            self.give(now, Order::IsBusy);
        }
        false
    }

    pub(super) fn send(&mut self, now: Micros, frame: &[u8]) {
        codec::data(lora::HEADER, frame, &mut self.out);
        self.free_until = 0;
        // It waits for a free channel for one and a half of the longest frames, and as long for the
        // radio (`KISS_TX_TIMEOUT_FACTOR`).
        let longest = self.air.airtime_of_frame(MAX_FRAME);
        let own = self.air.airtime_of_frame(frame.len());
        let waits = (longest + own).saturating_mul(3) / 2 + self.slot().saturating_mul(SLOTS);
        self.sending = Some(now.saturating_add(waits).saturating_add(2 * ANSWER));
    }

    fn slot(&self) -> Micros {
        self.air.symbols(u64::from(self.air.preamble))
    }

    pub(super) fn receive(&mut self, now: Micros, mut bytes: &[u8]) -> Result<(), Fault> {
        let mut decoder = std::mem::take(&mut self.decoder);
        let mut result = Ok(());
        while let (Ok(()), Some((command, data))) = (&result, decoder.next(&mut bytes)) {
            if let Some(answer) = Answer::parse(command, data) {
                result = self.take(now, answer);
            }
        }
        self.decoder = decoder;
        result
    }

    fn take(&mut self, now: Micros, answer: Answer<'_>) -> Result<(), Fault> {
        self.heard_at = now;
        match answer {
            Answer::Data(frame) => self.data(now, frame),
            Answer::Signal(snr, rssi) => {
                if let Some((frame, _)) = self.heard.take() {
                    let rssi_dbm = Some(rssi.into());
                    self.events.push_back(Event::Heard(Heard { frame, rssi_dbm, snr }));
                }
            }
            Answer::Sent(done) => {
                if self.sending.take().is_some() {
                    self.events.push_back(Event::Sent(done));
                }
            }
            Answer::Error(code) => return self.error(now, code),
            answer => {
                let given = self.order.filter(|given| answer.answers(given.order));
                if let Some(Given { order, .. }) = given {
                    self.order = None;
                    return self.answered(now, order, answer);
                }
            }
        }
        Ok(())
    }

    fn data(&mut self, now: Micros, frame: &[u8]) {
        self.signal_is_late();
        let is_frame = self.online && lora::is_frame(frame);
        match frame.get(lora::HEADER_LEN..).filter(|_| is_frame) {
            Some(frame) => self.heard = Some((frame.to_vec(), now.saturating_add(SIGNAL))),
            None => self.damaged = self.damaged.saturating_add(1),
        }
    }

    /// The frame that was heard last is told without its strength.
    fn signal_is_late(&mut self) {
        if let Some((frame, _)) = self.heard.take() {
            self.events.push_back(Event::Heard(Heard { frame, rssi_dbm: None, snr: 0 }));
        }
    }

    fn error(&mut self, now: Micros, code: u8) -> Result<(), Fault> {
        match (self.order, code) {
            (Some(given), codec::BUSY) => {
                // It was not that it did not answer.
                let (again, tries) = (now.saturating_add(TOO_BUSY), given.tries.saturating_sub(1));
                self.order = Some(Given { again, tries, ..given });
            }
            // It was still sending, though it should not have been.
            (None, codec::BUSY) => {}
            // Not every board has a name, or can tell how strong a signal is.
            (Some(Given { order: Order::Name, .. }), _) => {
                self.order = None;
                return self.answered(now, Order::Name, Answer::Name(&[]));
            }
            (Some(Given { order, .. }), code) => {
                let why = codec::error(code).to_owned();
                return Err(Fault::Error { order: order.words(), why });
            }
            (None, code) => self.events.push_back(Event::Warning(codec::error(code))),
        }
        Ok(())
    }

    /// An order was carried out: what comes of it, and the next one.
    fn answered(&mut self, now: Micros, order: Order, answer: Answer<'_>) -> Result<(), Fault> {
        let next = match (order, answer) {
            (Order::Ping, _) => Order::Version,
            (Order::Version, Answer::Version(version)) => {
                self.version = version;
                Order::Name
            }
            (Order::Name, Answer::Name(name)) => {
                let name = name.get(..name.len().min(MAX_NAME)).unwrap_or_default();
                let name = String::from_utf8_lossy(name);
                let name: String = name.chars().filter(|c| !c.is_control()).collect();
                let board = Some(name).filter(|name| !name.is_empty());
                let firmware = self.version.to_string();
                let identity = Identity { dialect: Dialect::Meshcore, firmware, board };
                self.events.push_back(Event::Found(identity));
                Order::SetRadio
            }
            (Order::SetRadio, _) => Order::SetPower,
            (Order::SetPower, _) => Order::Radio,
            (Order::Radio, Answer::Radio(frequency, bandwidth, spreading, coding)) => {
                let told = Parameters {
                    frequency_hz: frequency,
                    bandwidth_hz: bandwidth,
                    spreading,
                    coding,
                    ..self.wanted
                };
                match (told == self.wanted, self.online) {
                    (true, true) => return Ok(()),
                    (false, true) => return Err(Fault::Restarted),
                    (true, false) => Order::Power,
                    (false, false) => {
                        return Err(refused("parameters", &self.wanted, &told));
                    }
                }
            }
            (Order::Power, Answer::Power(power)) => {
                let told = Parameters { power_dbm: power, ..self.wanted };
                if told != self.wanted {
                    return Err(refused("power", &self.wanted, &told));
                }
                Order::Report
            }
            (Order::Report, _) => {
                codec::access(self.slot() / MILLISECOND, &mut self.out);
                Order::Airtime
            }
            (Order::Airtime, Answer::Airtime(ms)) => return self.ready(ms),
            (Order::IsBusy, Answer::IsBusy(false)) if self.limits.listen_dbm.is_some() => {
                Order::Rssi
            }
            (Order::IsBusy, Answer::IsBusy(taken)) => {
                self.is_taken(now, taken);
                return Ok(());
            }
            (Order::Rssi, Answer::Rssi(dbm)) => {
                self.is_taken(now, self.limits.listen_dbm.is_some_and(|most| dbm >= most));
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.give(now, next);
        Ok(())
    }

    /// It is set, if a frame takes as long as it should.
    fn ready(&mut self, told_ms: u32) -> Result<(), Fault> {
        let of = |preamble| self.wanted.modem(preamble, 1_000).airtime(255) / MILLISECOND;
        let (least, most) = (of(PREAMBLES.0), of(PREAMBLES.1));
        let told = u64::from(told_ms);
        // Rounded down, and to whole symbols.
        if told.saturating_add(2) * 100 < least * 97 || told * 97 > most.saturating_add(2) * 100 {
            return Err(Fault::Refused {
                what: "bandwidth and spreading factor, with which 255 bytes take",
                wanted: format!("{least} to {most} ms"),
                got: format!("{told} ms"),
            });
        }
        self.online = true;
        self.events.push_back(Event::Ready(self.wanted));
        Ok(())
    }

    /// The channel is taken, or free.
    fn is_taken(&mut self, now: Micros, taken: bool) {
        let since = self.taken.map(|(since, _)| since);
        let longest = self.air.airtime_of_frame(MAX_FRAME).saturating_mul(2).saturating_add(SECOND);
        // Noise that lasts must not silence this node for ever, unless the law has it so.
        let for_ever = since.is_some_and(|since| now.saturating_sub(since) >= longest);
        if taken && !(for_ever && self.limits.listen_dbm.is_none()) {
            if since.is_none() {
                self.events.push_back(Event::Carrier(true));
            }
            self.taken = Some((since.unwrap_or(now), now.saturating_add(STILL_BUSY)));
            return;
        }
        if self.taken.take().is_some() {
            self.events.push_back(Event::Carrier(false));
        }
        self.free_until = now.saturating_add(FREE);
    }

    pub(super) fn poll_timeout(&self) -> Micros {
        let order = self.order.map(|given| given.again);
        let heard = self.heard.as_ref().map(|(_, until)| *until);
        let idle = self.online && self.order.is_none() && self.sending.is_none();
        let quiet = idle.then(|| self.heard_at.saturating_add(QUIET));
        let taken = self.taken.filter(|_| self.order.is_none()).map(|(_, again)| again);
        [order, heard, self.sending, quiet, taken]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Micros::MAX)
    }

    pub(super) fn handle_timeout(&mut self, now: Micros) -> Result<(), Fault> {
        if self.heard.as_ref().is_some_and(|(_, until)| now >= *until) {
            self.signal_is_late();
        }
        if self.sending.is_some_and(|until| now >= until) {
            self.sending = None;
            self.events.push_back(Event::Sent(false));
            self.events.push_back(Event::Warning("the modem did not say that a frame was sent"));
        }
        match self.order {
            Some(given) if now >= given.again => {
                let most = if given.order == Order::Ping { FIRST_TRIES } else { TRIES };
                if given.tries >= most {
                    return Err(match (given.order, self.online) {
                        (Order::Ping, _) => Fault::NoAnswer(Dialect::Meshcore),
                        (_, false) => Fault::Unfinished,
                        (_, true) => Fault::Silent,
                    });
                }
                self.give(now, given.order);
            }
            Some(_) => {}
            None if self.taken.is_some_and(|(_, again)| now >= again) => {
                self.give(now, Order::IsBusy);
            }
            None => {
                let quiet = now.saturating_sub(self.heard_at) >= QUIET;
                if self.online && self.sending.is_none() && quiet {
                    self.give(now, Order::Radio);
                }
            }
        }
        Ok(())
    }
}

/// Parameters that are not as they were set.
fn refused(what: &'static str, wanted: &Parameters, got: &Parameters) -> Fault {
    let words = |p: &Parameters| {
        let Parameters { frequency_hz, bandwidth_hz, spreading, coding, power_dbm } = p;
        format!("{frequency_hz} Hz, {bandwidth_hz} Hz, SF{spreading}, 4/{coding}, {power_dbm} dBm")
    };
    Fault::Refused { what, wanted: words(wanted), got: words(got) }
}
