//! What has happened lately, for clients that subscribe.
//!
//! Each topic keeps so many of its last events, so that what others cause in one (datagrams that
//! they send) pushes nothing out of another. A subscription is a place in the log and no queue:
//! one that is not read costs nothing, holds up nobody, and is told how many events it missed.

use super::types::{Happened, Missed, MissedBecause, Topic};
use serde::{Deserialize, Serialize};
use smol::channel::Sender;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

const TOPICS: usize = Topic::ALL.len();

/// How much of what has happened a client has seen: which run of the node, and how many events of
/// each topic. Written as `RUN-N.N.N.N.N`, which means nothing to anybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor {
    run: u64,
    seen: [u64; TOPICS],
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [deliveries, peers, routes, payments, flows] = self.seen;
        write!(f, "{:016x}-{deliveries}.{peers}.{routes}.{payments}.{flows}", self.run)
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok());
        let parse = || {
            let (run, counts) = text.split_once('-')?;
            let hex = run.len() == 16 && run.bytes().all(|b| b.is_ascii_hexdigit());
            let run = hex.then(|| u64::from_str_radix(run, 16).ok()).flatten()?;
            let counts: Option<Vec<u64>> = counts.split('.').map(|n| number(n).flatten()).collect();
            Some(Self { run, seen: counts?.try_into().ok()? })
        };
        parse().ok_or_else(|| {
            let text: String = text.chars().take(60).collect();
            format!("\"{text}\" is no cursor: give one as it came with an event")
        })
    }
}

impl TryFrom<String> for Cursor {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.to_string()
    }
}

/// The last events of each topic, shared by those who tell and those who read.
#[derive(Debug)]
pub struct EventLog {
    run: u64,
    most: usize,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    kept: [Kept; TOPICS],
    /// Of all topics together: which of them came first.
    next_order: u64,
    readers: BTreeMap<u64, ([bool; TOPICS], Sender<()>)>,
    next_reader: u64,
}

/// Those of one topic.
#[derive(Debug, Default)]
struct Kept {
    /// Number of the oldest, counted from the start of the node.
    first: u64,
    events: VecDeque<Told>,
}

#[derive(Debug, Clone)]
struct Told {
    order: u64,
    time_ms: u64,
    happened: Happened,
}

impl Kept {
    fn end(&self) -> u64 {
        self.first.saturating_add(self.events.len() as u64)
    }

    /// How many of those behind this place are gone.
    fn missed(&self, seen: u64) -> u64 {
        self.first.saturating_sub(seen)
    }

    fn at(&self, seen: u64) -> Option<&Told> {
        self.events.get(usize::try_from(seen.checked_sub(self.first)?).ok()?)
    }
}

impl EventLog {
    /// An empty one, which keeps so many events of each topic.
    pub fn new(most: usize) -> Self {
        let mut run = [0; 8];
        // Without random bytes the time alone tells one run from another.
        let _ = getrandom::fill(&mut run);
        let run = u64::from_le_bytes(run) ^ now_ms();
        Self { run, most: most.max(1), log: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an event, and wakes who reads its topic. Nobody is waited for.
    pub fn tell(&self, topic: Topic, happened: Happened) {
        let mut log = self.lock();
        let order = log.next_order;
        log.next_order = order.wrapping_add(1);
        let Some(kept) = log.kept.get_mut(topic as usize) else { return };
        if kept.events.len() >= self.most {
            kept.events.pop_front();
            kept.first = kept.first.saturating_add(1);
        }
        kept.events.push_back(Told { order, time_ms: now_ms(), happened });
        for (wanted, news) in log.readers.values() {
            if wanted.get(topic as usize) == Some(&true) {
                // A full channel means that the reader is being woken already.
                let _ = news.try_send(());
            }
        }
    }

    /// A place in the log behind this cursor, or behind all that has happened; and what there was
    /// between the cursor and that place. `news` gets something, if it has room, at each event.
    ///
    /// # Errors
    /// The cursor is of this run, and of more events than there were.
    pub fn read(
        self: &Arc<Self>,
        topics: &[Topic],
        since: Option<&Cursor>,
        news: Sender<()>,
    ) -> Result<(Reader, Option<Missed>), String> {
        let mut wanted = [topics.is_empty(); TOPICS];
        for topic in topics {
            wanted.iter_mut().skip(*topic as usize).take(1).for_each(|wanted| *wanted = true);
        }
        let mut log = self.lock();
        let mut seen = match since {
            None => log.kept.each_ref().map(Kept::end),
            Some(cursor) if cursor.run == self.run => cursor.seen,
            Some(_) => [0; TOPICS],
        };
        let mut gone = 0u64;
        for ((seen, kept), wanted) in seen.iter_mut().zip(&log.kept).zip(wanted) {
            if *seen > kept.end() {
                return Err("the cursor is ahead of the node: it has told less than that".into());
            }
            if wanted {
                gone = gone.saturating_add(kept.missed(*seen));
                *seen = (*seen).max(kept.first);
            }
        }
        let reason = match since {
            Some(cursor) if cursor.run != self.run => Some(MissedBecause::Restarted),
            _ => (gone > 0).then_some(MissedBecause::Dropped),
        };
        let number = log.next_reader;
        log.next_reader = number.wrapping_add(1);
        log.readers.insert(number, (wanted, news));
        drop(log);
        let cursor = Cursor { run: self.run, seen };
        let missed = reason.map(|reason| Missed { reason, events: gone });
        Ok((Reader { log: self.clone(), number, wanted, cursor }, missed))
    }
}

/// A client's place in the log.
#[derive(Debug)]
pub struct Reader {
    log: Arc<EventLog>,
    number: u64,
    wanted: [bool; TOPICS],
    cursor: Cursor,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.log.lock().readers.remove(&self.number);
    }
}

/// An event, as one reader comes to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Behind it.
    pub cursor: Cursor,
    /// When it happened, in milliseconds since 1970.
    pub time_ms: u64,
    /// What it is about.
    pub topic: Topic,
    /// What has happened.
    pub happened: Happened,
}

impl Reader {
    /// The place.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The next events, so many at most, in the order in which they happened.
    pub fn take(&mut self, most: usize) -> Vec<Read> {
        let log = self.log.lock();
        let mut events = Vec::new();
        while events.len() < most {
            let places = Topic::ALL.into_iter().zip(&log.kept).zip(&mut self.cursor.seen);
            let wanted = places.zip(self.wanted).filter(|(_, wanted)| *wanted);
            let next = wanted.filter_map(|(((topic, kept), seen), _)| match kept.missed(*seen) {
                0 => kept.at(*seen).map(|told| (Some(told.order), topic, told.clone(), 1, seen)),
                events => {
                    let happened = Happened::Missed { events };
                    let told = Told { order: 0, time_ms: now_ms(), happened };
                    Some((None, topic, told, events, seen))
                }
            });
            // What was missed comes first.
            let Some((_, topic, told, step, seen)) = next.min_by_key(|(order, ..)| *order) else {
                break;
            };
            *seen = seen.saturating_add(step);
            let Told { time_ms, happened, .. } = told;
            events.push(Read { cursor: self.cursor, time_ms, topic, happened });
        }
        events
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
