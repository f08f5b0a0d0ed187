//! The log on standard error, and its bound: lines of one kind that come thick and fast are
//! counted and not written.

use crate::page::ForPage;
use blvm_mesh_page::Lines;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::Subscriber;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// Lines of one kind that may come at once, and how many a second may follow.
const BURST: u64 = 50;
const PER_SECOND: u64 = 1;
/// How often it is told what was left out.
pub(crate) const REPORT: Duration = Duration::from_secs(10);

/// Lines that were left out, of all kinds.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// Lines of the log that were left out because too many of their kind came at once.
pub(crate) fn left_out() -> u64 {
    LEFT_OUT.load(Ordering::Relaxed)
}

/// The log of this process; cheap to clone.
#[derive(Clone)]
pub(crate) struct Log {
    calm: Calm,
    set: Arc<dyn Fn(Targets) -> Result<(), String> + Send + Sync>,
}

impl Log {
    /// Lets through what another filter says from now on.
    pub(crate) fn set(&self, filter: &str) -> Result<(), String> {
        (self.set)(targets(filter).map_err(|e| e.to_string())?)
    }

    /// Tells what was left out since the last time.
    pub(crate) fn report(&self) {
        self.calm.report();
    }
}

fn targets(filter: &str) -> Result<Targets, ParseError> {
    let filter: Targets = filter.parse()?;
    // It prints requests to the Bitcoin node as they are, with what lets us in.
    Ok(filter.with_target("ureq_proto::util", LevelFilter::OFF))
}

/// Writes what the filter lets through to standard error, and keeps it for the page where there is
/// one.
pub(crate) fn to_stderr(filter: &str, page: Option<Arc<Lines>>) -> Result<Log, ParseError> {
    let (filter, handle) = reload::Layer::new(targets(filter)?);
    let calm = Calm::default();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    // Fails only where this process logs already.
    let all = tracing_subscriber::registry().with(lines).with(page.map(ForPage));
    let _ = all.with(calm.clone()).with(filter).try_init();
    let set = move |filter| handle.reload(filter).map_err(|e| e.to_string());
    Ok(Log { calm, set: Arc::new(set) })
}

/// A token bucket for each place in the code that logs. What is only for those who look for
/// an error, from `debug` on, it lets through.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calm(Arc<Mutex<HashMap<Identifier, Kind>>>);

#[derive(Debug)]
struct Kind {
    left: u64,
    filled: Instant,
    name: String,
    left_out: u64,
}

impl Kind {
    fn new(name: String, now: Instant) -> Self {
        Self { left: BURST, filled: now, name, left_out: 0 }
    }

    fn allows(&mut self, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.filled).as_secs();
        if seconds > 0 {
            self.left = BURST.min(self.left.saturating_add(seconds.saturating_mul(PER_SECOND)));
            self.filled += Duration::from_secs(seconds);
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => {
                self.left_out = self.left_out.saturating_add(1);
                LEFT_OUT.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }
}

impl Calm {
    fn allows(&self, kind: &'static Metadata<'static>, now: Instant) -> bool {
        if *kind.level() > Level::INFO {
            return true;
        }
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = || format!("{}:{}", kind.target(), kind.line().unwrap_or_default());
        kinds.entry(kind.callsite()).or_insert_with(|| Kind::new(name(), now)).allows(now)
    }

    /// Tells what was left out since the last time.
    pub(crate) fn report(&self) {
        let mut told = Vec::new();
        for kind in self.0.lock().unwrap_or_else(PoisonError::into_inner).values_mut() {
            if kind.left_out > 0 {
                told.push((kind.name.clone(), std::mem::take(&mut kind.left_out)));
            }
        }
        told.sort();
        for (kind, more) in told {
            tracing::warn!(kind, more, "log lines of this kind were left out");
        }
    }
}

// What is wanted at all is for the other filter: this one is asked afterwards.
impl<S: Subscriber> Layer<S> for Calm {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.allows(event.metadata(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_flood_of_one_kind_is_counted_and_other_lines_are_written() {
        let (out, calm) = (Out::default(), Calm::default());
        let writer = out.clone();
        let lines = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let all = tracing_subscriber::registry().with(lines).with(calm.clone());
        let before = left_out();
        tracing::subscriber::with_default(all.with(LevelFilter::DEBUG), || {
            for n in 0..100 {
                tracing::trace!(n, "not asked for");
            }
            for n in 0..10_000 {
                tracing::info!(n, "flood");
            }
            tracing::info!("something else");
            for n in 0..100 {
                tracing::debug!(n, "asked for");
            }
            calm.report();
        });
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
        assert!((50..60).contains(&count("flood")), "{}", count("flood"));
        assert_eq!((count("something else"), count("asked for")), (1, 100), "{text}");
        assert_eq!(count("were left out"), 1, "{text}");
        assert!(left_out() - before >= 9_940);
    }

    #[test]
    fn a_kind_that_was_quiet_may_speak_again() {
        let start = Instant::now();
        let mut kind = Kind::new(String::new(), start);
        let mut count = |at| (0..1000).filter(|_| kind.allows(at)).count() as u64;
        assert_eq!(count(start), BURST);
        assert_eq!(count(start + Duration::from_millis(999)), 0);
        assert_eq!(count(start + Duration::from_secs(3)), 3 * PER_SECOND);
        assert_eq!(count(start + Duration::from_secs(3600)), BURST);
    }
}
