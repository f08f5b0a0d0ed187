//! How ends go: closed here or by the peer, told to it until it answers, and forgotten.

use super::super::flow_api::{FlowEnded, FlowEvent, FlowId};
use super::super::{Mesh, Tables};
use super::Way;
use super::table::{Leaving, Role};
use crate::flow::end::Ended;
use crate::tables::Memory;
use crate::time::{Micros, SECOND};
use crate::wire::flow;
use crate::wire::route_error::Cause;
use crate::wire::{HEADER_LEN, Kind};

/// How often an end that was closed here tells its peer over one path, and over how many, until it
/// is answered; with a pause four times as long over each further one.
const FAREWELLS: u8 = 3;
pub(super) const FAREWELL_PATHS: u8 = 4;
pub(super) const FAREWELL_PAUSE: Micros = SECOND;
/// Bytes that a source keeps for that.
pub(super) const FAREWELL_BYTES: u64 = 4 * 1024;
/// For how long the streams of a flow that its other end has closed can still be read.
const UNREAD: Micros = 30 * SECOND;

impl<M: Memory> Mesh<M> {
    /// An application closes a flow: what was not sent is dropped.
    pub(in crate::mesh) fn close_flow(&mut self, flow: FlowId, code: u32) {
        self.absorb();
        let now = self.now;
        let Some(entry) = self.tables.ends.get_mut(flow.0) else { return };
        match (&mut entry.end, &mut entry.leaving) {
            // The other end has ended it, what it sent was read, and it waits for the answer.
            (Some(end), Some(leaving)) if end.owes_farewell() && !leaving.here => {
                leaving.at = leaving.at.min(now.saturating_add(FAREWELL_PAUSE));
                self.schedule(flow.0);
            }
            (Some(_), Some(leaving)) if !leaving.here => self.drop_end(flow.0, None),
            (Some(end), _) => {
                end.close(code);
                self.touch(flow.0);
            }
            (None, _) => self.drop_end(flow.0, Some(FlowEnded::By(Ended::Here(code)))),
        }
    }

    /// The peer or the application has ended a flow.
    pub(super) fn ended(&mut self, number: u64, reason: Ended) {
        self.tell(number, FlowEvent::Ended(FlowEnded::By(reason)));
        let now = self.now;
        let here = matches!(reason, Ended::Here(_) | Ended::Broken(_));
        let Some(entry) = self.tables.ends.get_mut(number) else { return };
        // The peer is told until it answers. What has come from it can still be read until the
        // application closes the flow too.
        let pause = if here { FAREWELL_PAUSE } else { UNREAD };
        let at = now.saturating_add(pause);
        let (tells, paths) = (FAREWELLS, FAREWELL_PATHS);
        entry.leaving = Some(Leaving { here, tells, paths, at });
        let (used, left) = (entry.used(), entry.left());
        let Tables { ends, .. } = &mut *self.tables;
        if let Some((source, _)) = ends.source(number) {
            // All that is still said is that it is over: the rest serves other flows at once.
            source.allotted = used.saturating_add(left.min(FAREWELL_BYTES));
            let mut claims = core::mem::take(&mut source.claims);
            ends.held.leave_little(&mut claims, left, FAREWELL_BYTES);
            if let Some((source, _)) = ends.source(number) {
                source.claims = claims;
            }
        }
        self.touch(number);
        self.schedule(number);
    }

    /// An end that was closed here says so once more, or is forgotten.
    pub(super) fn leave(&mut self, number: u64) {
        let now = self.now;
        let Some(entry) = self.tables.ends.get_mut(number) else { return };
        let (telling, has_path, idle_at) = (entry.is_telling(), entry.has_path(), entry.idle_at());
        let Some(leaving) = &mut entry.leaving else { return };
        if leaving.at > now {
            return;
        }
        if !telling || leaving.paths == 0 || idle_at <= now {
            return self.drop_end(number, None);
        }
        if has_path && leaving.tells > 1 {
            leaving.tells -= 1;
            leaving.at = now.saturating_add(leaving.pause());
            if let Some(end) = &mut entry.end {
                end.repeat_farewell();
            }
            return;
        }
        // A destination waits for its source to open the flow again.
        leaving.at = idle_at;
        if has_path {
            leaving.paths -= 1;
            self.flow_interrupted(number, None, Cause::NextHopGone);
        }
        self.tables.ends.drop_streams(number);
    }

    /// An end that was closed here has a path again: the peer is told over it.
    pub(super) fn renew_farewell(&mut self, number: u64) {
        let now = self.now;
        let Some(entry) = self.tables.ends.get_mut(number) else { return };
        if let (Some(leaving), Some(end)) = (&mut entry.leaving, &mut entry.end)
            && end.is_closing()
        {
            (leaving.tells, leaving.at) = (FAREWELLS, now.saturating_add(leaving.pause()));
            end.repeat_farewell();
            self.touch(number);
            self.schedule(number);
        }
    }

    /// Forgets an end, with its place among the flows; its source tells the relays, and keeps
    /// what was not used.
    pub(super) fn drop_end(&mut self, number: u64, told: Option<FlowEnded>) {
        let Some(entry) = self.tables.ends.remove(number) else { return };
        if let Some(told) = told.filter(|_| entry.leaving.is_none()) {
            self.tell(number, FlowEvent::Ended(told));
        }
        if let Some(way) = entry.way {
            self.leave_path(number, way, matches!(entry.role, Role::Source(_)));
        }
        if let Role::Source(source) = &entry.role {
            let left = entry.left();
            self.tables.ends.held.release(&source.claims, left);
        }
    }

    /// Takes this node's place on a path away; as its source it closes it.
    pub(super) fn leave_path(&mut self, number: u64, way: Way, close: bool) {
        if let Some((at, _)) = self.tables.flows.find(way.hop, number) {
            self.end_flow(at, true);
        }
        if close && let Some(link) = self.tables.routing.neighbours.live(way.hop).map(|n| n.link) {
            self.send_control(link, HEADER_LEN, |out| {
                flow::write(Kind::Close, number, way.between, &[], out)
            });
        }
    }
}
