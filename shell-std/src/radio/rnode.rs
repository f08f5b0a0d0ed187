//! A modem with RNode firmware.
//!
//! It listens before it sends by itself, and does not say when a frame is off the air: on boards with an
//! ESP32 or nRF52 the air time that it reports behind each frame shows it, on older ones the time does.

mod codec;

use super::fault::Fault;
use super::kiss::Decoder;
use super::modem::{Dialect, Event, Heard, Identity};
use super::parameters::{Limits, Parameters};
use blvm_mesh_core::link::channel::lora::{self, MAX_FRAME};
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use codec::{Answer, Channel};
use std::collections::VecDeque;

/// The oldest firmware that is known to do all that is asked of it here (as Reticulum has it).
const LEAST_VERSION: (u8, u8) = (1, 52);
const LEAST_VERSION_TEXT: &str = "1.52";
/// How often it is asked who it is, and how often: some boards start anew when their line is opened.
const ASK_AGAIN: Micros = SECOND;
const TRIES: u8 = 8;
/// How long setting the parameters may take, and how often that is tried.
const CONFIGURE: Micros = 3 * SECOND;
const CONFIGURE_TRIES: u8 = 3;
/// How far the frequency may be off, since chips round it, in hertz (as Reticulum has it).
const ROUNDED_HZ: u32 = 100;
/// After so long without a word it is asked for one, and after so much longer it is given up.
const QUIET: Micros = 10 * SECOND;
const ANSWER: Micros = 5 * SECOND;
/// Slots that it waits before a frame, where few send, and how long one is (`CSMA_` in `Config.h`).
const SLOTS: u64 = 20;
const SLOT_SYMBOLS: u64 = 12;
const SLOT_RANGE: (Micros, Micros) = (24 * MILLISECOND, 100 * MILLISECOND);
/// How much longer a frame may wait because others send.
const BUSY: Micros = 10 * SECOND;

/// A modem with RNode firmware.
#[derive(Debug)]
pub struct Rnode {
    wanted: Parameters,
    limits: Limits,
    air: lora::Modem,
    decoder: Decoder,
    out: Vec<u8>,
    events: VecDeque<Event>,
    state: State,
    board: Option<u8>,
    detected: bool,
    told: Told,
    /// Power and noise of the frame that comes next.
    signal: (Option<i16>, i8),
    channel: Option<Channel>,
    used: Used,
    sending: Option<Sending>,
    /// When a frame of somebody else was heard last: behind it the modem waits anew.
    air_heard_at: Micros,
    /// When something was heard of it last, and whether it was asked for more since.
    heard_at: Micros,
    asked: bool,
    damaged: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Detecting { again: Micros, tries: u8 },
    Configuring { until: Micros, tries: u8 },
    Online,
}

/// What it says of its parameters.
#[derive(Debug, Default)]
struct Told {
    frequency_hz: Option<u32>,
    bandwidth_hz: Option<u32>,
    power_dbm: Option<u8>,
    spreading: Option<u8>,
    coding: Option<u8>,
    is_on: Option<bool>,
    /// How often it told the coding rate.
    ends: u8,
}

/// A frame that it was given.
#[derive(Debug, Clone, Copy)]
struct Sending {
    /// Its air time is over at the earliest then,
    earliest: Micros,
    /// usually within such a time of a free channel,
    span: Micros,
    since: Micros,
    /// and at the latest then.
    latest: Micros,
}

/// The air time of two parts of time that the modem reports, the last of which is not over
/// (`airtime_bins`). It grows with each frame, and sinks when a part begins.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    both: u16,
    /// What of it fell into the last one, as far as is known.
    last: u16,
}

impl Used {
    /// Takes what it reports; whether a frame was sent since it did before.
    fn update(&mut self, both: u16) -> bool {
        let before = std::mem::replace(&mut self.both, both);
        if both >= before {
            self.last = self.last.saturating_add(both - before);
            return both > before;
        }
        // What was the last part is now the one before it. Reports are rounded.
        let sent = both > self.last.saturating_add(1);
        self.last = both.saturating_sub(self.last);
        sent
    }
}

impl Rnode {
    /// One whose line has just been opened.
    pub fn new(wanted: Parameters, limits: Limits, now: Micros) -> Self {
        let mut new = Self {
            wanted,
            limits,
            air: wanted.modem(Self::preamble(&wanted), limits.duty_permille),
            decoder: Decoder::default(),
            out: Vec::new(),
            events: VecDeque::new(),
            state: State::Detecting { again: now.saturating_add(ASK_AGAIN), tries: 1 },
            board: None,
            detected: false,
            told: Told::default(),
            signal: (None, 0),
            channel: None,
            used: Used::default(),
            sending: None,
            air_heard_at: 0,
            heard_at: now,
            asked: false,
            damaged: 0,
        };
        codec::detect(&mut new.out);
        new
    }

    /// Symbols of its preamble: 24 ms of them, 18 at least; at more than 30 kbit/s 6 ms (`setPreamble`).
    pub fn preamble(parameters: &Parameters) -> u32 {
        let target = if parameters.bits_per_second() > 30_000 { 6 } else { 24 } * MILLISECOND;
        let symbol = parameters.modem(8, 1_000).symbols(1).max(1);
        u32::try_from(target.div_ceil(symbol)).unwrap_or(u32::MAX).max(18)
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

    pub(super) fn may_send(&mut self, _: Micros) -> bool {
        self.state == State::Online && self.sending.is_none()
    }

    pub(super) fn send(&mut self, now: Micros, frame: &[u8]) {
        codec::data(frame, &mut self.out);
        let airtime = self.air.airtime_of_frame(frame.len());
        let (least, most) = SLOT_RANGE;
        let slot = self.air.symbols(SLOT_SYMBOLS).clamp(least, most);
        let span = airtime.saturating_add(slot.saturating_mul(SLOTS));
        // Its clock is not this one, nor its preamble always as long as it says.
        let (earliest, since) = (now.saturating_add(airtime / 4 * 3), now);
        let latest = now.saturating_add(span).saturating_add(BUSY).saturating_add(airtime);
        self.sending = Some(Sending { earliest, span, since, latest });
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
        (self.heard_at, self.asked) = (now, false);
        match answer {
            Answer::Detected => self.detected = true,
            Answer::Board(board) => self.board = Some(board),
            Answer::Version(major, minor) => return self.found(now, (major, minor)),
            Answer::Frequency(hz) => self.told.frequency_hz = Some(hz),
            Answer::Bandwidth(hz) => self.told.bandwidth_hz = Some(hz),
            Answer::Power(dbm) => self.told.power_dbm = Some(dbm),
            Answer::Spreading(spreading) => self.told.spreading = Some(spreading),
            Answer::Coding(coding) => {
                self.told.coding = Some(coding);
                self.told.ends = self.told.ends.saturating_add(1);
                if matches!(self.state, State::Configuring { .. }) && self.told.ends >= 2 {
                    return self.configured();
                }
            }
            Answer::State(is_on) => {
                self.told.is_on = Some(is_on);
                if self.state == State::Online && !is_on {
                    return Err(Fault::Restarted);
                }
            }
            Answer::Rssi(dbm) => self.signal.0 = Some(dbm),
            Answer::Snr(snr) => self.signal.1 = snr,
            Answer::Data(frame) => self.heard(now, frame),
            Answer::Channel(channel) => self.channel(now, channel),
            Answer::Started => match self.state {
                State::Detecting { .. } => codec::detect(&mut self.out),
                State::Configuring { .. } | State::Online => return Err(Fault::Restarted),
            },
            Answer::Error(code) => return self.error(code),
        }
        Ok(())
    }

    fn found(&mut self, now: Micros, version: (u8, u8)) -> Result<(), Fault> {
        let State::Detecting { .. } = self.state else { return Ok(()) };
        if !self.detected {
            return Ok(());
        }
        let firmware = format!("{}.{}", version.0, version.1);
        if version < LEAST_VERSION {
            let (dialect, least) = (Dialect::Rnode, LEAST_VERSION_TEXT);
            return Err(Fault::Firmware { dialect, found: firmware, least });
        }
        let board = self.board.map(codec::board);
        self.events.push_back(Event::Found(Identity { dialect: Dialect::Rnode, firmware, board }));
        self.configure(now, 1);
        Ok(())
    }

    fn configure(&mut self, now: Micros, tries: u8) {
        self.told = Told::default();
        // All of the time is 0 to the firmware.
        let most = self.limits.duty_permille.saturating_mul(10);
        let most = if most >= 10_000 { 0 } else { most };
        codec::configure(&self.wanted, most, &mut self.out);
        self.state = State::Configuring { until: now.saturating_add(CONFIGURE), tries };
    }

    /// Whether it is set as it should be.
    fn configured(&mut self) -> Result<(), Fault> {
        let (told, wanted) = (&self.told, &self.wanted);
        let (Some(frequency_hz), Some(bandwidth_hz), Some(power_dbm), Some(spreading)) =
            (told.frequency_hz, told.bandwidth_hz, told.power_dbm, told.spreading)
        else {
            // Something was lost on the line: it is tried again when the time is over.
            return Ok(());
        };
        let (Some(coding), Some(is_on)) = (told.coding, told.is_on) else { return Ok(()) };
        if !is_on {
            return Err(Fault::NotStarted);
        }
        let refused = |what, wanted: &dyn ToString, got: &dyn ToString| {
            Err(Fault::Refused { what, wanted: wanted.to_string(), got: got.to_string() })
        };
        if frequency_hz.abs_diff(wanted.frequency_hz) > ROUNDED_HZ {
            return refused("frequency", &wanted.frequency_hz, &frequency_hz);
        }
        if bandwidth_hz != wanted.bandwidth_hz {
            return refused("bandwidth", &wanted.bandwidth_hz, &bandwidth_hz);
        }
        if spreading != wanted.spreading {
            return refused("spreading factor", &wanted.spreading, &spreading);
        }
        if coding != wanted.coding {
            return refused("coding rate", &wanted.coding, &coding);
        }
        // Less is what a weaker chip can do.
        if power_dbm > wanted.power_dbm {
            return refused("power", &wanted.power_dbm, &power_dbm);
        }
        self.state = State::Online;
        self.events.push_back(Event::Ready(Parameters { power_dbm, ..*wanted }));
        Ok(())
    }

    fn heard(&mut self, now: Micros, frame: &[u8]) {
        self.air_heard_at = now;
        let (rssi_dbm, snr) = std::mem::take(&mut self.signal);
        // Longer ones came in two parts: nobody here sends such.
        if self.state != State::Online || frame.is_empty() || frame.len() > MAX_FRAME {
            self.damaged = self.damaged.saturating_add(1);
            return;
        }
        self.events.push_back(Event::Heard(Heard { frame: frame.to_vec(), rssi_dbm, snr }));
    }

    fn channel(&mut self, now: Micros, channel: Channel) {
        self.channel = Some(channel);
        self.events.push_back(Event::Load((channel.load / 10).min(1_000)));
        let has_sent = self.used.update(channel.airtime_short);
        if has_sent && self.sending.is_some_and(|sending| now >= sending.earliest) {
            self.sent(true);
        }
    }

    fn sent(&mut self, done: bool) {
        self.sending = None;
        self.events.push_back(Event::Sent(done));
    }

    fn error(&mut self, code: u8) -> Result<(), Fault> {
        const QUEUE_FULL: u8 = 4;
        let (what, goes_on) = codec::error(code);
        if !goes_on {
            return Err(Fault::Chip(what));
        }
        self.events.push_back(Event::Warning(what));
        if code == QUEUE_FULL && self.sending.is_some() {
            self.sent(false);
        }
        Ok(())
    }

    pub(super) fn poll_timeout(&self) -> Micros {
        match self.state {
            State::Detecting { again, .. } => again,
            State::Configuring { until, .. } => until,
            State::Online => {
                let quiet = self.heard_at.saturating_add(match self.asked {
                    true => self.patience(),
                    false => QUIET,
                });
                self.sending.map_or(quiet, |sending| quiet.min(self.sent_by(&sending)))
            }
        }
    }

    /// How long it may say nothing though it was asked: while it sends it answers nothing.
    fn patience(&self) -> Micros {
        let frame = self.air.airtime_of_frame(MAX_FRAME);
        QUIET.saturating_add(ANSWER).saturating_add(frame.saturating_mul(2))
    }

    /// When a frame counts as sent though nothing shows it: behind the time that it usually takes.
    fn sent_by(&self, sending: &Sending) -> Micros {
        let free_since = sending.since.max(self.air_heard_at);
        free_since.saturating_add(sending.span).min(sending.latest)
    }

    pub(super) fn handle_timeout(&mut self, now: Micros) -> Result<(), Fault> {
        match self.state {
            State::Detecting { again, .. } | State::Configuring { until: again, .. }
                if now < again => {}
            State::Detecting { tries: TRIES.., .. } => return Err(Fault::NoAnswer(Dialect::Rnode)),
            State::Detecting { tries, .. } => {
                codec::detect(&mut self.out);
                let again = now.saturating_add(ASK_AGAIN);
                self.state = State::Detecting { again, tries: tries + 1 };
            }
            State::Configuring { tries: CONFIGURE_TRIES.., .. } => return Err(Fault::Unfinished),
            State::Configuring { tries, .. } => self.configure(now, tries + 1),
            State::Online => return self.look(now),
        }
        Ok(())
    }

    fn look(&mut self, now: Micros) -> Result<(), Fault> {
        if let Some(sending) = self.sending
            && now >= self.sent_by(&sending)
        {
            let most = u64::from(self.limits.duty_permille) * 10;
            let holds = |channel: Channel| u64::from(channel.airtime_long) >= most;
            let waits = most < 10_000 && self.channel.is_some_and(holds);
            if waits {
                let why = "the modem itself keeps to the limit on air time, and waits";
                self.events.push_back(Event::Warning(why));
            }
            self.sent(!waits);
        }
        let quiet = now.saturating_sub(self.heard_at);
        if quiet >= self.patience() {
            return Err(Fault::Silent);
        }
        if quiet >= QUIET && !self.asked {
            self.asked = true;
            codec::ask_state(&mut self.out);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reported_air_time_shows_each_frame_also_where_a_part_of_time_begins() {
        let mut used = Used::default();
        let sent = [(0, false), (30, true), (30, false), (50, true), (50, false), (80, true)];
        sent.into_iter().for_each(|(both, sent)| assert_eq!(used.update(both), sent, "{both}"));
        // A part begins: all 80 were in the last one, and stay.
        assert!(!used.update(80) && used.update(100));
        // Another: what fell into the one before is gone.
        assert!(!used.update(20));
        let mut used = Used { both: 90, last: 30 };
        // It begins, and a frame of 25 was sent.
        assert!(used.update(55) && used.last == 25);
        assert!(!used.update(25), "it begins again, and none was");
    }
}
