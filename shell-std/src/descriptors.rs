//! File descriptors: as many as the system lets this process have, and some of them kept for
//! commands, the store and look-ups, whatever connects.

use crate::rpc::types::Descriptors;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

/// Most that are kept back from links.
const MOST_KEPT: u64 = 128;

/// Raises the soft limit to the hard one. What it is then; `None`: there is none.
pub(crate) fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    let raised = Rlimit { current: maximum, maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            current
        }
    }
}

/// How many this process may have; `None`: any number.
pub(crate) fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How many are kept back from links, of so many.
fn kept(limit: Option<u64>) -> u64 {
    limit.map_or(MOST_KEPT, |limit| (limit / 3).min(MOST_KEPT))
}

/// Whether a link may have this socket. A new socket has the lowest number that is free: one
/// among the last few means that hardly any other is.
pub(crate) fn spares(socket: &impl AsFd) -> bool {
    let number = u64::try_from(socket.as_fd().as_raw_fd()).unwrap_or(u64::MAX);
    is_spare(number, getrlimit(Resource::Nofile).current)
}

/// Whether a link may have a socket that is not made yet.
pub(crate) fn are_left() -> bool {
    File::open("/dev/null").is_ok_and(|file| spares(&file))
}

fn is_spare(number: u64, limit: Option<u64>) -> bool {
    limit.is_none_or(|limit| number < limit.saturating_sub(kept(Some(limit))))
}

/// Most connections of commands at once: half of what is kept, the rest is for files and
/// look-ups.
pub(crate) fn most_commands(at_most: usize) -> usize {
    let half = kept(getrlimit(Resource::Nofile).current) / 2;
    usize::try_from(half).unwrap_or(at_most).clamp(2, at_most)
}

/// How many are open and how many may be, where the system tells.
pub(crate) fn now() -> Option<Descriptors> {
    let limit = getrlimit(Resource::Nofile).current?;
    // One of them is the directory that is read.
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64;
    Some(Descriptors { open, limit })
}

/// What to say where a link has to go without.
pub(crate) const NONE_LEFT: &str = "hardly any file descriptor is left: raise `ulimit -n`, or \
                                    have fewer neighbours";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_leave_some_for_others() {
        for (limit, links) in [(64, 43), (256, 171), (1024, 896), (1_048_576, 1_048_448)] {
            assert!(is_spare(links - 1, Some(limit)) && !is_spare(links, Some(limit)), "{limit}");
        }
        assert!(is_spare(1 << 40, None));
    }
}
