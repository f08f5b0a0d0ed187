//! The air time of a modem in the last hour, kept over restarts of the node: the law limits the
//! transmitter, not the process.

use super::super::super::clock::Clock;
use crate::private_file;
use bitcoin::hashes::{Hash, sha256};
use blvm_mesh_core::link::channel::Hour;
use blvm_mesh_core::time::{Micros, SECOND};
use std::path::{Path, PathBuf};

/// Pause between two writes.
const PAUSE: Micros = 10 * SECOND;
const MINUTE: Micros = 60 * SECOND;
/// The clock begins at the node's start: times in the hour are so much later, so that there are some
/// before it.
const BEFORE: Micros = 61 * MINUTE;
/// First word of the file, with its version.
const HEAD: &str = "blvm-mesh-airtime-1";

/// What was sent in the last hour, and the file that has it.
pub(super) struct KeptHour {
    hour: Hour,
    /// `None`: the node has no data directory.
    file: Option<PathBuf>,
    changed: bool,
    /// When it may be written again.
    write_at: Micros,
}

impl KeptHour {
    /// What the data directory has of the modem at a place.
    pub(super) fn load(data_dir: &Path, place: &str, now: Micros) -> Self {
        let name = hex::encode(&sha256::Hash::hash(place.as_bytes())[..8]);
        let file = data_dir.is_dir().then(|| data_dir.join(format!("airtime-{name}")));
        let mut hour = Hour::default();
        if let Some(file) = &file {
            match private_file::read(file) {
                Ok(bytes) => match restore(&bytes, Clock::unix(), now) {
                    Some(kept) => hour = kept,
                    None => tracing::warn!(
                        "{} is no record of air time: the hour begins anew",
                        file.display()
                    ),
                },
                Err(error) if error.is_not_found() => {}
                Err(error) => tracing::warn!("the hour of air time begins anew: {error}"),
            }
        }
        Self { hour, file, changed: false, write_at: 0 }
    }

    /// See [`Hour`].
    pub(super) fn add(&mut self, now: Micros, airtime: Micros) {
        self.hour.add(now.saturating_add(BEFORE), airtime);
        self.changed = true;
    }

    pub(super) fn used(&mut self, now: Micros) -> Micros {
        self.hour.used(now.saturating_add(BEFORE))
    }

    pub(super) fn is_full(&mut self, now: Micros, airtime: Micros, duty_permille: u16) -> bool {
        self.hour.is_full(now.saturating_add(BEFORE), airtime, duty_permille)
    }

    /// Has it written if it has changed: the first time at once, then now and then.
    pub(super) fn keep(&mut self, now: Micros) {
        let Some(file) = self.file.clone().filter(|_| self.changed && now >= self.write_at) else {
            return;
        };
        (self.changed, self.write_at) = (false, now.saturating_add(PAUSE));
        let text = text(&mut self.hour, Clock::unix().unwrap_or_default(), now);
        let write = move || {
            if let Err(error) = private_file::replace(&file, text.as_bytes()) {
                tracing::warn!("air time is not kept in {}: {error}", file.display());
            }
        };
        smol::unblock(write).detach();
    }
}

/// The file's content: when it was written, and of each minute how long ago it was and what was sent.
fn text(hour: &mut Hour, unix: u64, now: Micros) -> String {
    let mut text = format!("{HEAD} {unix}\n");
    for (ago, airtime) in hour.minutes(now.saturating_add(BEFORE)) {
        text.push_str(&format!("{ago} {airtime}\n"));
    }
    text
}

/// Where the clock was set back, or is not set, all of it counts as sent just now.
fn restore(bytes: &[u8], unix: Option<u64>, now: Micros) -> Option<Hour> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    let written: u64 = lines.next()?.strip_prefix(HEAD)?.trim().parse().ok()?;
    let since = unix.map_or(0, |unix| unix.saturating_sub(written)) / 60;
    let mut minutes = Vec::new();
    for line in lines {
        let (ago, airtime) = line.split_once(' ')?;
        let (ago, airtime): (u64, Micros) = (ago.parse().ok()?, airtime.parse().ok()?);
        if airtime > MINUTE {
            return None;
        }
        minutes.push((ago.saturating_add(since), airtime));
    }
    let mut hour = Hour::default();
    // The oldest first, as they were sent.
    minutes.sort_unstable_by(|a, b| b.cmp(a));
    for (ago, airtime) in minutes.into_iter().filter(|(ago, _)| *ago < 60) {
        hour.add(now.saturating_add(BEFORE).saturating_sub(ago * MINUTE), airtime);
    }
    Some(hour)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = 5 * SECOND;

    #[test]
    fn what_was_sent_counts_after_a_restart_until_it_is_an_hour_old() {
        let dir = tempfile::tempdir().unwrap();
        let mut hour = KeptHour::load(dir.path(), "ttyUSB0", NOW);
        let later = NOW + 20 * MINUTE;
        hour.add(NOW, 2 * SECOND);
        hour.add(later, SECOND);
        let written = text(&mut hour.hour, 1_000_000, later);
        let used = |minutes: u64| {
            let unix = Some(1_000_000 + 60 * minutes);
            restore(written.as_bytes(), unix, NOW).unwrap().used(NOW + BEFORE)
        };
        assert_eq!([0, 39, 40, 59, 60].map(used), [3, 3, 1, 1, 0].map(|s| s * SECOND));
        for unix in [None, Some(0), Some(999_999)] {
            let mut hour = restore(written.as_bytes(), unix, NOW).unwrap();
            assert_eq!(hour.used(NOW + BEFORE), 3 * SECOND, "the clock went back");
        }
        let file = hour.file.clone().unwrap();
        let written = text(&mut hour.hour, Clock::unix().unwrap(), later);
        private_file::replace(&file, written.as_bytes()).unwrap();
        let mut again = KeptHour::load(dir.path(), "ttyUSB0", NOW);
        assert_eq!(again.used(NOW), 3 * SECOND);
        assert!(again.is_full(NOW, 34 * SECOND, 10) && !again.is_full(NOW, 33 * SECOND, 10));
        assert_eq!(KeptHour::load(dir.path(), "ttyUSB1", NOW).used(NOW), 0, "another modem");
    }

    #[test]
    fn it_is_written_at_once_and_then_now_and_then() {
        let dir = tempfile::tempdir().unwrap();
        let mut hour = KeptHour::load(dir.path(), "ttyUSB0", NOW);
        hour.keep(NOW);
        assert!(!hour.changed && hour.write_at == 0, "nothing was sent");
        hour.add(NOW, SECOND);
        hour.keep(NOW);
        assert!(!hour.changed);
        hour.add(NOW + 1, SECOND);
        hour.keep(NOW + 1);
        assert!(hour.changed);
        hour.keep(NOW + PAUSE);
        assert!(!hour.changed);
        let mut none = KeptHour::load(&dir.path().join("none"), "ttyUSB0", NOW);
        none.add(NOW, SECOND);
        none.keep(NOW);
        assert!(none.file.is_none());
    }

    #[test]
    fn what_is_no_record_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeptHour::load(dir.path(), "ttyUSB0", NOW).file.unwrap();
        for text in [
            "",
            "x",
            "blvm-mesh-airtime-1",
            "blvm-mesh-airtime-1 x\n",
            "blvm-mesh-airtime-1 5\n1",
            "blvm-mesh-airtime-1 5\n1 -2\n",
            "blvm-mesh-airtime-1 5\n1 99999999999\n",
            "blvm-mesh-airtime-2 5\n",
        ] {
            private_file::replace(&file, text.as_bytes()).unwrap();
            assert_eq!(restore(text.as_bytes(), Some(9), NOW), None, "{text}");
            assert_eq!(KeptHour::load(dir.path(), "ttyUSB0", NOW).used(NOW), 0);
        }
        let most = format!("{HEAD} 5\n{}", "59 60000000\n".repeat(60));
        assert!(restore(most.as_bytes(), Some(u64::MAX), NOW).is_some());
    }
}
