//! The shell around each state machine: it carries actions out, keeps the disk
//! and the clock, and may lose power at any time.

use super::World;
use super::bytes::{Bytes, Path};
use super::checks::Paid;
use super::machine::{Action, Input, Step, Verdict};
use super::node::{Crash, Effect, Held, OwnPaid, What};
use super::wires::conn_of;
use super::world::Event;
use blvm_mesh_core::id::LinkId;
use blvm_mesh_core::mesh::{Event as MeshEvent, MeshError, NetworkReason, Remedy};
use blvm_mesh_core::payment::replay::{REPEAT_PAUSE, REPEATS};
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use blvm_mesh_core::wire::Kind;
use std::collections::VecDeque;

/// How long nothing is heard of a paid datagram before it is sent again; twice and four times
/// as long before the next times.
const SILENCE: Micros = 10 * SECOND;
/// Pause after a node itself could not send one again, and how often it tries.
const RETRY: Micros = 5 * SECOND;
const TRIES: u8 = 24;

/// Whether a packet is one that was received, sent on by writing it anew: a
/// request, with one hop more.
fn is_request_sent_on(input: &Input, sent: &[u8]) -> bool {
    let request = Some(&(Kind::RouteRequest as u8));
    matches!(input, Input::MessageReceived { packet: bytes, .. } if bytes.get(5) == request)
        && sent.get(5) == request
}

impl World {
    pub(super) fn carry_out(
        &mut self,
        n: usize,
        input: &Input,
        step: &Step,
        path: &Path,
        payment: Option<Paid>,
        todo: &mut VecDeque<(Input, Path)>,
    ) {
        let from = match input {
            Input::MessageReceived { link, .. } => Some(*link),
            _ => None,
        };
        let (own, mut onward) = (Path::default().then(n), None);
        for did in &step.actions {
            match did {
                Action::Send { link, packet: bytes, after, .. } => {
                    let path = match is_request_sent_on(input, bytes) {
                        true => onward.get_or_insert_with(|| path.then(n)).clone(),
                        false => own.clone(),
                    };
                    let what = What::Send(*link, bytes.clone(), path);
                    self.when_durable(n, Effect { after: *after, payment: None, what });
                }
                Action::SendAll { except, packet: bytes, .. } => {
                    let path = match is_request_sent_on(input, bytes) {
                        true => onward.get_or_insert_with(|| path.then(n)).clone(),
                        false => own.clone(),
                    };
                    self.queue_for_all(n, *except, bytes, path);
                }
                Action::Verdict(Verdict::Forward { link, packet: bytes, after, .. }) => {
                    let what = What::Send(*link, bytes.clone(), path.then(n));
                    self.when_durable(n, Effect { after: *after, payment, what });
                }
                Action::Verdict(Verdict::Originate {
                    link,
                    packet: bytes,
                    after,
                    sequence,
                    paid,
                    ..
                }) => {
                    if *paid && !self.nodes[n].own_paid.contains_key(sequence) {
                        let kept = OwnPaid { bytes: bytes.clone(), times: 0, tries: 0, due: 0 };
                        self.nodes[n].own_paid.insert(*sequence, kept);
                        self.repeat_at(n, *sequence, self.now + SILENCE);
                    }
                    let what = What::Send(*link, bytes.clone(), own.clone());
                    self.when_durable(n, Effect { after: *after, payment, what });
                }
                Action::Verdict(Verdict::Deliver { source, sequence, payload, after, .. }) => {
                    let what = What::Deliver(*source, *sequence, payload.clone(), path.clone());
                    self.when_durable(n, Effect { after: *after, payment, what });
                }
                Action::Persist { number, record } => {
                    let node = &mut self.nodes[n];
                    if let Some(crash) = node.armed.take() {
                        node.writes.push_back((*number, *record));
                        let written = match crash {
                            Crash::BeforeWrite => node.writes.len() - 1,
                            Crash::AfterWrite => node.writes.len(),
                        };
                        self.checks.count("crashes between two writes");
                        return self.crash(n, written);
                    }
                    node.writes.push_back((*number, *record));
                    if !node.disk_broken && !node.disk_stalls {
                        let (boot, late) = (node.boots, self.chance.below(4 * MILLISECOND));
                        let event = Event::Durable { node: n, boot, number: *number };
                        self.at(self.now + late, event);
                    }
                }
                Action::Verdict(Verdict::Parked { ticket, .. }) => {
                    let held = Held { link: from, input: input.clone(), path: path.clone() };
                    self.nodes[n].parked.insert(*ticket, held);
                }
                Action::Resume { ticket } => {
                    let held = self.nodes[n].parked.remove(ticket).expect("a parked packet");
                    let input = match held.input {
                        Input::MessageReceived { packet: bytes, .. } => {
                            Input::Resumed { ticket: *ticket, packet: bytes }
                        }
                        own => own,
                    };
                    todo.push_back((input, held.path));
                }
                Action::Drop { ticket, .. } => {
                    self.nodes[n].parked.remove(ticket).expect("a parked packet");
                }
                Action::Verdict(Verdict::Reject { link, remedy, .. }) => {
                    if let (Some(link), Remedy::Disconnect, true) = (link, remedy, self.disconnects)
                    {
                        self.close(conn_of(*link).0);
                    }
                }
                Action::Close { link, reason } => {
                    let displaced = MeshError::NetworkError(NetworkReason::Displaced);
                    self.displaced += u64::from(*reason == displaced);
                    self.close(conn_of(*link).0);
                }
                Action::Verify { ticket, block_hash } => {
                    let late = self.chance.below(self.answer_time);
                    let (ticket, hash, boot) = (*ticket, *block_hash, self.nodes[n].boots);
                    self.at(self.now + late, Event::Answer { node: n, boot, ticket, hash });
                }
                Action::Wait { until } => self.wake(n, *until),
                Action::Invoice { ticket, source, bytes, amount_msat, .. } => {
                    let sale = self.sale_of(n, *ticket, *source, (*bytes, *amount_msat));
                    self.invoice_wanted(*ticket, sale, todo);
                }
                Action::Publish(MeshEvent::DeliveryFailed { sequence, cause, .. }) => {
                    let kept = self.nodes[n].own_paid.get(sequence);
                    match kept.filter(|kept| cause.passes() && kept.times < REPEATS) {
                        Some(kept) => {
                            let pause = (REPEAT_PAUSE + REPEAT_PAUSE / 4) << kept.times;
                            self.repeat_at(n, *sequence, self.now + pause);
                        }
                        None => drop(self.nodes[n].own_paid.remove(sequence)),
                    }
                }
                Action::Publish(MeshEvent::Delivered { sequence, .. }) => {
                    self.nodes[n].own_paid.remove(sequence);
                }
                Action::Verdict(Verdict::Opening { flow }) => self.flow_begins(n, input, *flow),
                Action::Flow { flow, event } => self.flow_event(n, *flow, event),
                Action::Publish(MeshEvent::BytesBought { ticket, .. }) => {
                    self.purchase_credited(n, *ticket);
                }
                Action::Verdict(Verdict::Absorbed | Verdict::Buying { .. })
                | Action::Publish(_) => {}
                Action::Pay { ticket, node, promise, invoice, .. } => {
                    self.keep_promise(n, *ticket, *node, *promise, invoice);
                    self.pay_invoice(n, *ticket, invoice, todo);
                }
            }
        }
    }

    /// Sets when an own paid datagram is sent again.
    fn repeat_at(&mut self, n: usize, sequence: u64, due: Micros) {
        let Some(kept) = self.nodes[n].own_paid.get_mut(&sequence) else { return };
        kept.due = due;
        let boot = self.nodes[n].boots;
        self.at(due, Event::Repeat { node: n, boot, sequence, due });
    }

    /// A node sends an own paid datagram again, if nothing was heard of it since.
    pub(super) fn repeat(&mut self, n: usize, sequence: u64, due: Micros) {
        let Some(kept) = self.nodes[n].own_paid.get_mut(&sequence) else { return };
        if kept.due != due || kept.times >= REPEATS {
            return;
        }
        kept.times += 1;
        let (input, times) = (Input::Repeat { packet: kept.bytes.clone() }, kept.times);
        self.repeat_at(n, sequence, self.now + (SILENCE << times));
        self.checks.count("paid datagrams sent again");
        let did = self.input(n, input);
        let stays = |d: &Action| matches!(d, Action::Verdict(Verdict::Reject { link: None, .. }));
        if did.iter().any(stays)
            && let Some(kept) = self.nodes[n].own_paid.get_mut(&sequence)
            && kept.tries < TRIES
        {
            (kept.times, kept.tries) = (times - 1, kept.tries + 1);
            self.repeat_at(n, sequence, self.now + RETRY);
        }
    }

    /// Wakes a node up at a time of its own clock. One timer is in the queue; an
    /// earlier one is put beside it.
    fn wake(&mut self, n: usize, until: Option<Micros>) {
        let node = &mut self.nodes[n];
        let at = until.map_or(Micros::MAX, |at| node.true_time(at).max(self.now));
        if at != node.timer {
            node.timer = at;
            if at != Micros::MAX {
                self.at(at, Event::Timer { node: n, at });
            }
        }
    }

    pub(super) fn durable(&mut self, n: usize, number: u64) {
        let node = &mut self.nodes[n];
        if node.disk_broken {
            return;
        }
        while node.writes.front().is_some_and(|(at, _)| *at <= number) {
            if let Some((at, record)) = node.writes.pop_front() {
                node.write(record);
                node.durable = at;
            }
        }
        loop {
            let node = &mut self.nodes[n];
            let ready = |e: &Effect| e.after.is_none_or(|after| after <= node.durable);
            let Some(at) = node.waiting.iter().position(ready) else { break };
            let effect = node.waiting.remove(at).expect("it is there");
            self.execute(n, effect);
        }
    }

    /// The disk of a node writes all that it was given.
    pub fn sync(&mut self, n: usize) {
        if let Some((number, _)) = self.nodes[n].writes.back() {
            self.durable(n, *number);
        }
    }

    fn when_durable(&mut self, n: usize, effect: Effect) {
        match effect.after {
            Some(after) if after > self.nodes[n].durable => self.nodes[n].waiting.push_back(effect),
            _ => self.execute(n, effect),
        }
    }

    fn execute(&mut self, n: usize, effect: Effect) {
        if let Some(payment) = effect.payment {
            self.check_spent_once(n, payment);
        }
        match effect.what {
            What::Send(link, bytes, path) => {
                self.flow_packet_leaves(n, &bytes, &path);
                self.send_out(n, link, bytes, path);
            }
            What::Deliver(source, sequence, payload, path) => {
                self.checks.handed_over(n, source, sequence);
                self.account.landed(n, &source, &payload, &path, self.now);
                if self.keep {
                    self.nodes[n].delivered.push((source, payload));
                }
            }
        }
    }

    /// A packet leaves a node: an honest one sends it, another may do what it likes.
    fn send_out(&mut self, n: usize, link: LinkId, mut bytes: Bytes, mut path: Path) {
        if !self.nodes[n].honest && path.len() > 1 {
            if self.blackhole > 0 && self.chance.one_in(self.blackhole) {
                return self.checks.count("swallowed");
            }
            if self.flows.embezzles.contains(&n) && bytes.get(5) == Some(&(Kind::Data as u8)) {
                return self.checks.count("embezzled");
            }
            if self.swapping
                && let Some(other) = self.swapped(n, &bytes)
            {
                (bytes, path) = (other.into(), Path::default().then(n));
            }
            if self.meddling && self.chance.one_in(4) {
                // Another packet now, from here.
                let mut other = bytes.to_vec();
                self.meddle(&mut other);
                (bytes, path) = (other.into(), Path::default().then(n));
            }
        }
        if ![Kind::Datagram, Kind::Data]
            .map(|kind| Some(kind as u8))
            .contains(&bytes.get(5).copied())
        {
            self.nodes[n].control_sent += 1;
        }
        self.transmit(link, bytes, path);
    }

    /// Sets a node's wall clock this far off, in seconds.
    pub fn set_clock(&mut self, n: usize, offset: i64) {
        self.nodes[n].clock_offset = offset;
        let unix = self.unix().saturating_add_signed(offset);
        self.input(n, Input::WallClock { unix });
    }

    /// Stops a node as if its power failed, and starts it again. Of the writes
    /// under way the first few are done, drawn at random.
    pub fn restart(&mut self, n: usize) {
        let under_way = self.nodes[n].writes.len();
        let written = self.chance.index(under_way + 1);
        self.crash(n, written);
    }

    /// The same, after so many of the writes under way are done.
    pub fn crash(&mut self, n: usize, written: usize) {
        self.power_off(n, written);
        self.power_on(n);
    }

    /// A node is gone.
    pub fn leave(&mut self, n: usize) {
        if !self.nodes[n].off {
            self.power_off(n, 0);
            self.nodes[n].off = true;
        }
    }

    /// A node comes, for the first time or again.
    pub fn join(&mut self, n: usize) {
        if std::mem::replace(&mut self.nodes[n].off, false) {
            self.power_on(n);
            for w in 0..self.wires.len() {
                let [a, b] = self.wires[w].ends;
                if a == n || b == n {
                    self.dial(a, b);
                }
            }
        }
    }

    fn power_off(&mut self, n: usize, written: usize) {
        self.checks.count("restarts");
        for conn in self.nodes[n].conns.clone() {
            if !self.conns[conn].open {
                continue;
            }
            if self.chance.one_in(3) {
                // Nobody tells the other end.
                self.silence(conn);
                let [a, b] = self.conns[conn].ends;
                self.at(self.now + SECOND, Event::Dial { a, b });
            } else {
                self.close(conn);
            }
        }
        let node = &mut self.nodes[n];
        if !node.disk_broken {
            for _ in 0..written {
                let Some((_, record)) = node.writes.pop_front() else { break };
                node.write(record);
            }
        }
        let seed = self.chance.bytes32();
        self.nodes[n].reboot(seed);
        self.flows_forgotten(n);
        self.radio_off(n);
        self.stop_channel(n);
    }

    fn power_on(&mut self, n: usize) {
        self.trace.note(self.now, format_args!("boot {n}"));
        for record in self.nodes[n].disk.clone() {
            self.input(n, Input::Persisted { record });
        }
        // A node without records is told the right time when it starts.
        if self.nodes[n].config.payment.volatile {
            self.nodes[n].clock_offset = 0;
        }
        self.set_clock(n, self.nodes[n].clock_offset);
        if self.nodes[n].has_headers {
            self.give_headers(n);
        }
        if self.flows.takes.contains(&n) {
            self.input(n, Input::AcceptFlows { accept: true });
        }
        if self.runs_channels {
            self.start_channel(n);
        }
        self.nodes[n].booted = self.now;
        self.show_promises(n);
    }

    /// Gives a node the newest blocks of the chain.
    pub fn give_headers(&mut self, n: usize) {
        for (header, height) in self.chain.newest(12) {
            self.input(n, Input::BlockHeader { header, height });
        }
    }

    /// The disk of a node takes no more: what was to be written waits.
    pub fn break_disk(&mut self, n: usize) {
        self.nodes[n].disk_broken = true;
        self.input(n, Input::StoreFailed);
    }

    /// The disk of a node takes what waited, and more.
    pub fn mend_disk(&mut self, n: usize) {
        self.nodes[n].disk_broken = false;
        self.sync(n);
        self.input(n, Input::StoreRecovered);
    }
}
