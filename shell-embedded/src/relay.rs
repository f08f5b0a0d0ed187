//! The state machine with the lines that its actions go to.

use crate::header_clock::HeaderClock;
use crate::kept::Kept;
use crate::line::Line;
use crate::radio::Beside;
use crate::{Happening, Sent, Storage};
use blvm_mesh_core::id::LinkId;
use blvm_mesh_core::link::aead::Aead;
use blvm_mesh_core::mesh::{
    Action, BoardMesh, Event, Input, MeshError, NetworkReason, PaymentReason, Priority, Remedy,
    Ticket, Verdict,
};
use blvm_mesh_core::payment::headers::HEADER_LEN;
use blvm_mesh_core::time::Micros;
use core::ops::Range;
use heapless::VecView;

/// The state machine and the links.
pub(crate) struct Relay<A: 'static, R> {
    pub(crate) mesh: BoardMesh,
    pub(crate) lines: &'static mut VecView<Line<A>>,
    /// The links on the air.
    pub(crate) beside: R,
    /// When the state machine wants the time at the latest.
    pub(crate) wake: Option<Micros>,
    last_link: LinkId,
    /// What is kept and was not read yet.
    pub(crate) unread: Option<&'static mut dyn Storage>,
    pub(crate) kept: Kept,
    /// Which headers are followed.
    pub(crate) header_clock: Option<HeaderClock>,
}

impl<A: Aead, R: Beside> Relay<A, R> {
    pub(crate) fn new(mesh: BoardMesh, lines: &'static mut VecView<Line<A>>, beside: R) -> Self {
        Self {
            mesh,
            lines,
            beside,
            wake: Some(0),
            last_link: LinkId(0),
            unread: None,
            kept: Kept::EMPTY,
            header_clock: None,
        }
    }

    /// Gives the state machine the records that are kept, and keeps its further ones. Not
    /// a part of its caller, whose stack is in use for ever.
    #[inline(never)]
    pub(crate) fn restore(
        &mut self,
        now: Micros,
        store: &'static mut dyn Storage,
        on: &mut dyn FnMut(Happening<'_>),
    ) {
        match store.load(&mut |record| self.give(now, Input::Persisted { record }, on)) {
            Ok(()) => {
                self.kept.store = Some(store);
                // That it was lost is known by now, and so may be when.
                self.retry(now, on);
            }
            Err(error) => {
                self.kept.unreadable(error);
                on(Happening::StoreFailed(error));
                self.give(now, Input::StoreFailed, on);
            }
        }
    }

    /// Writes once more what could not be written, and says so if it works again.
    pub(crate) fn retry(&mut self, now: Micros, on: &mut dyn FnMut(Happening<'_>)) {
        if self.kept.retry(&self.mesh, now) {
            on(Happening::StoreRecovered);
            self.give(now, Input::StoreRecovered, on);
        }
    }

    /// A number for a link that none has.
    pub(crate) fn link_id(&mut self) -> LinkId {
        self.last_link = self
            .last_link
            .next(|id| self.lines.iter().any(|l| l.id == Some(id)) || self.beside.has(id));
        self.last_link
    }

    /// Hands over an input that carries no bytes.
    pub(crate) fn give(
        &mut self,
        now: Micros,
        input: Input<'_>,
        on: &mut dyn FnMut(Happening<'_>),
    ) {
        // Each input is drained and time does not go back: there is no misuse.
        if self.mesh.handle_relayed(now, input).is_ok() {
            self.drain(now, &[], on);
        }
    }

    /// Hands over a packet that came in.
    pub(crate) fn receive(
        &mut self,
        now: Micros,
        link: LinkId,
        packet: &mut [u8],
        on: &mut dyn FnMut(Happening<'_>),
    ) {
        if self
            .mesh
            .handle_relayed(now, Input::MessageReceived { link, packet: &mut *packet })
            .is_ok()
        {
            self.drain(now, packet, on);
        }
        self.see_headers(now, packet, on);
    }

    /// Follows the headers in a packet.
    #[inline(never)]
    fn see_headers(&mut self, now: Micros, packet: &[u8], on: &mut dyn FnMut(Happening<'_>)) {
        let Some(clock) = &self.header_clock else { return };
        for header in clock.headers(packet) {
            if self.follow(now, header, on)
                && let Some(unix) = self.header_clock.as_mut().and_then(|clock| clock.see(header))
            {
                self.give(now, Input::WallClock { unix }, on);
            }
        }
    }

    /// Gives the state machine a header: whether it is kept.
    pub(crate) fn follow(
        &mut self,
        now: Micros,
        header: &[u8; HEADER_LEN],
        on: &mut dyn FnMut(Happening<'_>),
    ) -> bool {
        // Its height is not known, and nobody asks for it.
        let input = Input::BlockHeader { header, height: 0 };
        self.mesh.handle_relayed(now, input).is_ok() && self.drain(now, &[], on).is_none()
    }

    /// Carries out what follows from an input with these bytes, and tells the state
    /// machine of queues that filled up. What became of the input, if it was a
    /// datagram to send.
    pub(crate) fn drain(
        &mut self,
        now: Micros,
        bytes: &[u8],
        on: &mut dyn FnMut(Happening<'_>),
    ) -> Option<Sent> {
        let (mut sent, asked) = self.carry_out(now, bytes, on);
        if let Some(ticket) = asked {
            // A board keeps no packets while someone looks a block up: what is not
            // among the headers it was given is not known.
            let answer = Input::PaymentVerified { ticket, block: None };
            if self.mesh.handle_relayed(now, answer).is_ok() {
                self.carry_out(now, &[], &mut |what| match what {
                    Happening::NotSent(of, reason) if of == ticket => {
                        sent = Some(Sent::Refused(reason));
                    }
                    what => on(what),
                });
            }
        }
        if let Some((undelivered, error)) = self.kept.take_failure(now) {
            undelivered.iter().for_each(|payment| self.mesh.not_delivered(payment));
            on(Happening::StoreFailed(error));
            if self.mesh.handle_relayed(now, Input::StoreFailed).is_ok() {
                self.carry_out(now, &[], on);
            }
        }
        self.tell_of_links(now, on);
        sent
    }

    /// Tells the state machine of queues that filled up or have room again, and of what
    /// the links have measured.
    pub(crate) fn tell_of_links(&mut self, now: Micros, on: &mut dyn FnMut(Happening<'_>)) {
        let change = |line: &mut Line<A>| {
            let link = line.id?;
            let full = line.change().map(|(lane, full)| Input::Congestion { link, lane, full });
            full.or_else(|| Some(Input::LinkMeasured { link, quality: line.measure()? }))
        };
        while let Some(input) =
            self.lines.iter_mut().find_map(change).or_else(|| self.beside.change())
        {
            if self.mesh.handle_relayed(now, input).is_ok() {
                self.carry_out(now, &[], on);
            }
        }
    }

    fn carry_out(
        &mut self,
        now: Micros,
        bytes: &[u8],
        on: &mut dyn FnMut(Happening<'_>),
    ) -> (Option<Sent>, Option<Ticket>) {
        let Self { mesh, lines, beside, wake, kept, .. } = self;
        let (mut sent, mut asked) = (None, None);
        loop {
            match mesh.poll() {
                Action::Wait { until } => {
                    *wake = until;
                    return (sent, asked);
                }
                Action::Verdict(verdict) => {
                    let mut push = |link, priority, head: &[u8], tail: Range<usize>| {
                        let tail = bytes.get(tail).unwrap_or_default();
                        push(lines, beside, now, (link, priority), head, tail)
                    };
                    match verdict {
                        // What was paid for goes nowhere if the payment is not on record.
                        Verdict::Forward { after, .. } | Verdict::Deliver { after, .. }
                            if kept.lacks(after) => {}
                        Verdict::Originate { after, .. } if kept.lacks(after) => {
                            sent = Some(Sent::Refused(PaymentReason::StoreFailed.into()));
                        }
                        Verdict::Forward { link, priority, packet, .. } => {
                            push(link, priority, &[], packet);
                        }
                        Verdict::Originate { link, priority, packet, sequence, paid, .. } => {
                            // What is sent again has no head.
                            if paid && !packet.head.is_empty() {
                                let payload = bytes.get(packet.tail.clone()).unwrap_or_default();
                                on(Happening::Paid { sequence, head: packet.head, payload });
                            }
                            sent = Some(match push(link, priority, packet.head, packet.tail) {
                                true => Sent::Queued(sequence),
                                false => Sent::Refused(NetworkReason::Congested.into()),
                            });
                        }
                        Verdict::Deliver {
                            source,
                            sequence,
                            payload,
                            protocol,
                            earned_msat,
                            ..
                        } => {
                            let payload = bytes.get(payload).unwrap_or_default();
                            on(Happening::Deliver {
                                source,
                                sequence,
                                payload,
                                protocol,
                                earned_msat,
                            });
                        }
                        Verdict::Absorbed => {}
                        Verdict::Parked { ticket, .. } => sent = Some(Sent::Searching(ticket)),
                        Verdict::Reject { link: None, reason, .. } => {
                            sent = Some(Sent::Refused(reason));
                        }
                        Verdict::Reject { link: Some(link), reason, remedy } => {
                            refuse(lines, beside, link, reason, remedy, on);
                        }
                        // Only where core has purchases, which nobody begins here.
                        #[allow(unreachable_patterns)]
                        _ => {}
                    }
                }
                Action::Send { after, .. } if kept.lacks(after) => {}
                Action::Send { link, packet, .. } => {
                    push(lines, beside, now, (link, Priority::Control), packet, &[]);
                }
                Action::SendAll { except, packet, .. } => beside.push_all(now, except, packet),
                Action::Drop { ticket, link: None, reason } => {
                    on(Happening::NotSent(ticket, reason));
                }
                Action::Drop { link: Some(link), reason, .. } => {
                    refuse(lines, beside, link, reason, Remedy::Ignore, on);
                }
                Action::Close { link, reason } => {
                    close(lines, beside, link, reason);
                }
                Action::Resume { ticket } => on(Happening::SendAgain(ticket)),
                Action::Verify { ticket, .. } => asked = Some(ticket),
                Action::Publish(
                    Event::PaymentVerified { after, .. } | Event::BytesSold { after, .. },
                ) if kept.lacks(after) => {}
                Action::Publish(event) => on(Happening::Event(event)),
                Action::Persist { number, record } => kept.write(number, record),
                // Only where core writes and pays invoices, which nobody does here.
                #[allow(unreachable_patterns)]
                _ => {}
            }
        }
    }
}

/// Puts a packet into the queue of a link; false if it has no room there.
#[inline(never)]
fn push<A: Aead>(
    lines: &mut VecView<Line<A>>,
    beside: &mut impl Beside,
    now: Micros,
    (link, priority): (LinkId, Priority),
    head: &[u8],
    tail: &[u8],
) -> bool {
    match lines.iter_mut().find(|line| line.id == Some(link)) {
        Some(line) => line.push(now, priority, head, tail),
        None => beside.push(now, link, priority, head, tail),
    }
}

/// The state machine wants a link to end.
fn close<A: Aead>(
    lines: &mut VecView<Line<A>>,
    beside: &mut impl Beside,
    link: LinkId,
    reason: MeshError,
) {
    match lines.iter_mut().find(|line| line.id == Some(link)) {
        Some(line) => line.down = line.down.or(Some(reason)),
        None => _ = beside.close(link, reason),
    }
}

/// What a neighbour sent was refused: its line goes down if that is the remedy.
fn refuse<A: Aead>(
    lines: &mut VecView<Line<A>>,
    beside: &mut impl Beside,
    link: LinkId,
    reason: MeshError,
    remedy: Remedy,
    on: &mut dyn FnMut(Happening<'_>),
) {
    // What is on the air is behind all ports.
    let port = lines.iter().position(|line| line.id == Some(link));
    let on_air = beside.has(link).then_some(lines.len());
    let Some(port) = port.or(on_air) else { return };
    if remedy == Remedy::Disconnect {
        close(lines, beside, link, reason);
    }
    on(Happening::Refused { port, reason });
}
