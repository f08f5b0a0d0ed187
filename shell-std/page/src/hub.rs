//! One snapshot for all who look, at most once a second, and only while somebody does.

use crate::history::{History, Totals};
use crate::log::Lines;
use crate::snapshot::Snapshot;
use serde::Serialize;
use smol::channel::{Receiver, Sender, TrySendError, bounded};
use smol::stream::{Stream, unfold};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Browsers that may look at once.
pub const MOST_VIEWERS: usize = 8;
/// Shortest time between two looks at the source.
const PAUSE: Duration = Duration::from_secs(1);
/// How old a snapshot may be that is given to whoever has just come.
const FRESH: Duration = Duration::from_secs(2);
/// How long a viewer hears nothing at most: then he knows that the connection holds.
const SILENCE: Duration = Duration::from_secs(15);

/// Where the data come from. `None` is answered once the node stops.
pub trait Source: Send + Sync + 'static {
    /// What has been counted; asked each second as long as the page is served.
    fn totals(&self) -> impl Future<Output = Option<Totals>> + Send;

    /// All that is shown; asked at most once a second, while somebody looks.
    fn snapshot(&self) -> impl Future<Output = Option<Snapshot>> + Send;
}

/// Keeps what browsers are sent.
#[derive(Debug)]
pub struct Hub {
    lines: Arc<Lines>,
    history: Mutex<History>,
    viewers: Mutex<Viewers>,
}

#[derive(Debug, Default)]
struct Viewers {
    ended: bool,
    told: Vec<Sender<Arc<str>>>,
    newest: Option<(Instant, Arc<str>)>,
}

impl Viewers {
    /// Those that are still there.
    fn present(&mut self) -> usize {
        self.told.retain(|viewer| !viewer.is_closed());
        self.told.len()
    }
}

/// What one browser has been sent.
struct Viewer {
    hub: Arc<Hub>,
    snapshots: Receiver<Arc<str>>,
    line: u64,
    samples: (u64, u64),
    greeted: bool,
}

impl Hub {
    /// One that nobody looks at yet, with the lines of a log.
    pub fn new(lines: Arc<Lines>) -> Arc<Self> {
        let (history, viewers) = (Mutex::default(), Mutex::default());
        Arc::new(Self { lines, history, viewers })
    }

    /// Asks the source until it has no answer; then the streams of all viewers end.
    pub async fn run(&self, source: &impl Source) {
        while let Some(totals) = source.totals().await {
            self.history.lock().unwrap_or_else(PoisonError::into_inner).note(totals);
            if self.viewers().present() > 0 {
                let Some(mut snapshot) = source.snapshot().await else { break };
                snapshot.bound();
                self.show(event("snapshot", &snapshot).into());
            }
            smol::Timer::after(PAUSE).await;
        }
        let mut viewers = self.viewers();
        (viewers.ended, viewers.newest) = (true, None);
        viewers.told.clear();
    }

    /// What another browser is sent, events as they are defined for server-sent events; `None`:
    /// there are [`MOST_VIEWERS`], or the source has ended.
    pub(crate) fn view(self: &Arc<Self>) -> Option<impl Stream<Item = Arc<str>> + Send + use<>> {
        let mut viewers = self.viewers();
        if viewers.ended || viewers.present() >= MOST_VIEWERS {
            return None;
        }
        let (told, snapshots) = bounded(1);
        if let Some((_, newest)) = viewers.newest.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            let _ = told.try_send(newest.clone());
        }
        viewers.told.push(told);
        drop(viewers);
        let hub = self.clone();
        let viewer = Viewer { hub, snapshots, line: 0, samples: (0, 0), greeted: false };
        Some(unfold(viewer, |mut viewer| async move {
            let event = viewer.next().await?;
            Some((event, viewer))
        }))
    }

    fn viewers(&self) -> std::sync::MutexGuard<'_, Viewers> {
        self.viewers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who has not taken the one before in yet does without this one.
    fn show(&self, snapshot: Arc<str>) {
        let mut viewers = self.viewers();
        let has_gone = |told: &Sender<Arc<str>>| {
            matches!(told.try_send(snapshot.clone()), Err(TrySendError::Closed(_)))
        };
        viewers.told.retain(|told| !has_gone(told));
        viewers.newest = Some((Instant::now(), snapshot));
    }
}

impl Viewer {
    /// The events that come next; `None`: there are no more.
    async fn next(&mut self) -> Option<Arc<str>> {
        if !std::mem::replace(&mut self.greeted, true) {
            // A browser that was cut off comes again after two seconds.
            let mut events = "retry: 2000\n\n".to_owned();
            self.catch_up(&mut events);
            return Some(events.into());
        }
        let snapshot = smol::future::or(async { Some(self.snapshots.recv().await.ok()) }, async {
            smol::Timer::after(SILENCE).await;
            None
        });
        match snapshot.await {
            Some(None) => None,
            Some(Some(snapshot)) => {
                let mut events = String::new();
                self.catch_up(&mut events);
                if events.is_empty() {
                    return Some(snapshot);
                }
                events.push_str(&snapshot);
                Some(events.into())
            }
            None => Some(":\n\n".into()),
        }
    }

    /// What was added to the history and to the log.
    fn catch_up(&mut self, events: &mut String) {
        let history = self.hub.history.lock().unwrap_or_else(PoisonError::into_inner);
        let samples = history.since(self.samples);
        drop(history);
        self.samples = samples.next;
        if !samples.is_empty() {
            events.push_str(&event("history", &samples));
        }
        let lines = self.hub.lines.since(self.line);
        if let Some(last) = lines.last() {
            self.line = last.number.saturating_add(1);
            events.push_str(&event("log", &lines));
        }
    }
}

/// An event (HTML, "Server-sent events"): JSON has no line breaks outside of texts, where they are
/// escaped.
fn event(name: &str, data: &impl Serialize) -> String {
    let mut text = String::new();
    // None of the types has a key that JSON cannot hold, and writing to memory cannot fail.
    let data = serde_json::to_string(data).unwrap_or_default();
    let _ = write!(text, "event: {name}\ndata: {data}\n\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::About;
    use smol::stream::StreamExt;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Counts how often it is asked.
    #[derive(Default)]
    struct Counting {
        totals: AtomicU64,
        snapshots: AtomicU64,
        ends_after: Option<u64>,
    }

    impl Source for Counting {
        async fn totals(&self) -> Option<Totals> {
            let number = self.totals.fetch_add(1, Ordering::Relaxed);
            let at_ms = 1000 * number;
            self.ends_after
                .is_none_or(|most| number < most)
                .then_some(Totals { at_ms, ..Totals::default() })
        }

        async fn snapshot(&self) -> Option<Snapshot> {
            let number = self.snapshots.fetch_add(1, Ordering::Relaxed);
            let about = About { title: format!("a\nb {number}"), ..About::default() };
            Some(Snapshot { about, ..Snapshot::default() })
        }
    }

    /// What is awaited while the hub asks the source.
    fn beside<T>(hub: &Hub, source: &Counting, work: impl Future<Output = T>) -> T {
        let run = async {
            hub.run(source).await;
            std::future::pending().await
        };
        smol::block_on(smol::future::or(work, run))
    }

    #[test]
    fn nobody_who_looks_costs_no_snapshot_and_many_cost_one() {
        let hub = Hub::new(Arc::default());
        let source = Counting::default();
        let awaits = async {
            while source.totals.load(Ordering::Relaxed) < 2 {
                smol::Timer::after(Duration::from_millis(5)).await;
            }
        };
        beside(&hub, &source, awaits);
        assert_eq!(source.snapshots.load(Ordering::Relaxed), 0, "nobody looked");
        let mut all: Vec<_> = (0..MOST_VIEWERS).map(|_| Box::pin(hub.view().unwrap())).collect();
        assert!(hub.view().is_none(), "there is no bound");
        let got = beside(&hub, &source, async {
            let mut got = Vec::new();
            for viewer in &mut all {
                got.push([viewer.next().await.unwrap(), viewer.next().await.unwrap()]);
            }
            got
        });
        assert_eq!(source.snapshots.load(Ordering::Relaxed), 1, "one is for all");
        for [first, second] in got {
            assert!(first.starts_with("retry: 2000\n\nevent: history\ndata: {"), "{first}");
            assert!(second.contains("event: snapshot\ndata: {\"about\":"), "{second}");
            assert!(second.contains("a\\nb 0") && second.ends_with("}\n\n"), "{second}");
        }
        drop(all);
        assert!(hub.view().is_some(), "places are not given back");
    }

    #[test]
    fn a_viewer_that_reads_slowly_misses_snapshots_and_no_line_of_the_log() {
        let hub = Hub::new(Arc::default());
        let mut viewer = Box::pin(hub.view().unwrap());
        for number in 0..5 {
            hub.lines.add(0, "info", "a", format!("line {number}"));
            hub.show(format!("snapshot {number}").into());
        }
        let [first, second] =
            smol::block_on(async { [viewer.next().await.unwrap(), viewer.next().await.unwrap()] });
        assert!((0..5).all(|n| first.contains(&format!("line {n}"))), "{first}");
        assert_eq!(&*second, "snapshot 0", "nothing piles up");
        hub.lines.add(0, "info", "a", "line 5".into());
        hub.show("snapshot 5".into());
        let third = smol::block_on(viewer.next()).unwrap();
        assert!(third.contains("line 5") && !third.contains("line 4"), "{third}");
        assert!(third.ends_with("snapshot 5"), "{third}");
    }

    #[test]
    fn who_comes_later_sees_what_there_is_at_once_and_a_source_that_ends_ends_all() {
        let hub = Hub::new(Arc::default());
        hub.show("now".into());
        let mut viewer = Box::pin(hub.view().unwrap());
        let two = smol::block_on(async { [viewer.next().await, viewer.next().await] });
        assert_eq!(two[1].as_deref(), Some("now"));
        let source = Counting { ends_after: Some(1), ..Counting::default() };
        let rest = beside(&hub, &source, async {
            // One more may have been on its way.
            [viewer.next().await, viewer.next().await]
        });
        assert!(rest[1].is_none() && hub.view().is_none(), "{rest:?}");
    }
}
