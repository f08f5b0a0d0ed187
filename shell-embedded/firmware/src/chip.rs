//! The loop's surroundings, the same on every chip.

use crate::{heap_used, stack_used};
use blvm_mesh_core::board::BoardConfig;
use blvm_mesh_core::link::aead::Aead;
use blvm_mesh_core::time::{Micros, SECOND};
use blvm_mesh_embedded::radio::Beside;
use blvm_mesh_embedded::{Board, Happening, Platform, Port, Report, Role, Status};
use core::fmt::Write;

/// What a chip gives the loop.
pub trait Chip {
    /// Longest time between two feedings of its watchdog.
    const WATCHDOG: Micros;

    /// Microseconds since the start.
    fn now(&mut self) -> Micros;

    /// Feeds the watchdog, and forgets what woke the chip: what comes in from now on wakes
    /// it again.
    fn alive(&mut self);

    /// Waits until something happened since [`alive`](Self::alive), at most so long.
    fn wait(&mut self, time: Micros);

    /// Sets the light, where there is one.
    fn light(&mut self, on: bool);
}

/// A chip and a console.
pub struct Machine<C, W> {
    /// The chip.
    pub chip: C,
    /// What goes to the console.
    pub report: Report<W>,
}

impl<C: Chip, W: Write> Platform for Machine<C, W> {
    fn now(&mut self) -> Micros {
        self.chip.now()
    }

    fn wall_clock(&mut self, _: Micros) -> Option<u64> {
        // There is none: the time comes from a neighbour, or from headers.
        None
    }

    fn alive(&mut self) {
        self.chip.alive();
    }

    fn show(&mut self, status: Status) {
        self.chip.light(status.neighbours > 0);
        self.report.status(status);
    }

    fn happened(&mut self, what: Happening<'_>) {
        self.report.happened(&what);
    }

    fn sleep(&mut self, until: Option<Micros>) {
        let now = self.chip.now();
        self.report.summary(now, || (stack_used() as usize, heap_used()));
        let fed = now.saturating_add(C::WATCHDOG.saturating_sub(SECOND));
        let until = [until, self.report.due()].into_iter().flatten().fold(fed, Micros::min);
        if until > now {
            self.chip.wait(until - now);
        }
    }
}

/// Reads the configuration of a board with `N` lines, or says what is wrong with it.
#[inline(never)]
pub fn configured<W: Write, const N: usize>(
    bytes: &[u8],
    report: &mut Report<W>,
) -> Option<(BoardConfig, [Role; N])> {
    let settings = BoardConfig::read(bytes);
    let settings = settings.map_err(|error| report.line(format_args!("{error}"))).ok()?;
    let Ok(roles) = <[Role; N]>::try_from(&settings.lines[..]) else {
        report.line(format_args!("this board has {N} lines: configure so many"));
        return None;
    };
    Some((settings, roles))
}

/// Has a board follow headers that pass, from the configured one on, if there is one.
#[inline(never)]
pub fn follow_headers<A: Aead, P: Port, W: Write, R: Beside, const N: usize>(
    board: &mut Board<A, P, N, R>,
    settings: &BoardConfig,
    report: &mut Report<W>,
) {
    let wrong = settings.checkpoint.is_some_and(|header| !board.follow_headers(&header));
    if wrong {
        report.line(format_args!("the checkpoint is no header of the network"));
    }
}
