//! A simulated world on the page that nodes have, in real time.

use crate::sim::topology::Topology;
use crate::sim::{World, watch};
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use blvm_mesh_page::{Lines, Page, Snapshot, Source, Token, Totals};
use smol::Executor;
use smol::channel::{Receiver, Sender, bounded};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the world stops for what is asked about it, in real time.
const PAUSE: Duration = Duration::from_millis(50);
/// A world that is this late does not hurry afterwards.
const LATE: Duration = Duration::from_secs(1);

/// What the page asks.
enum Ask {
    Totals(Sender<Totals>),
    Snapshot(Sender<Snapshot>),
}

/// Asks the thread that lives the world.
struct Asking(Sender<Ask>);

impl Asking {
    async fn ask<T>(&self, ask: impl FnOnce(Sender<T>) -> Ask) -> Option<T> {
        let (who, answer) = bounded(1);
        self.0.send(ask(who)).await.ok()?;
        answer.recv().await.ok()
    }
}

impl Source for Asking {
    async fn totals(&self) -> Option<Totals> {
        self.ask(Ask::Totals).await
    }

    async fn snapshot(&self) -> Option<Snapshot> {
        self.ask(Ask::Snapshot).await
    }
}

/// A page that shows a world as it is lived.
pub struct Show {
    url: String,
    asks: Receiver<Ask>,
    speed: f64,
    topology: Topology,
    /// What has happened, told by comparing what was shown last.
    lines: Arc<Lines>,
    shown: Option<Snapshot>,
    /// A moment of real time, and what time it was then in the world.
    begun: Option<(Instant, Micros)>,
}

impl Show {
    /// Serves the page at a loopback address, in a thread that ends with the process. The world is
    /// to be lived `speed` times as fast as real time.
    ///
    /// # Errors
    /// It cannot be served there.
    pub fn start(at: SocketAddr, speed: f64, topology: Topology) -> Result<Self, String> {
        let token = Token::new().map_err(|e| format!("--serve: {e}"))?;
        let lines = Arc::<Lines>::default();
        let page = Page::open(at, token.clone(), lines.clone());
        let page = page.map_err(|e| format!("--serve: {e}"))?;
        let at = page.address().map_err(|e| format!("--serve: {e}"))?;
        let (tell, asks) = bounded(4);
        let serve = move || {
            let executor = Arc::new(Executor::new());
            smol::block_on(executor.run(page.serve(Arc::new(Asking(tell)), &executor)));
        };
        std::thread::Builder::new()
            .name("page".into())
            .spawn(serve)
            .map_err(|e| format!("--serve: {e}"))?;
        let (url, shown, begun) = (Page::url(at, &token), None, None);
        Ok(Self { url, asks, speed, topology, lines, shown, begun })
    }

    /// What to open in a browser.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How often [`Self::pass`] is to be called, in the world's time.
    pub fn every(&self) -> Micros {
        let micros = PAUSE.as_micros() as f64 * self.speed;
        (micros as Micros).clamp(MILLISECOND, SECOND)
    }

    /// Answers what is asked until it is time for what comes next in the world.
    pub fn pass(&mut self, world: &World) {
        let now = Instant::now();
        let (since, from) = *self.begun.get_or_insert((now, world.now));
        let passed = world.now.saturating_sub(from) as f64 / SECOND as f64 / self.speed;
        let due = since + Duration::from_secs_f64(passed);
        if now.saturating_duration_since(due) > LATE {
            self.begun = Some((now, world.now));
        }
        loop {
            while let Ok(ask) = self.asks.try_recv() {
                // Whoever does not wait any more is not told.
                let _ = match ask {
                    Ask::Totals(who) => who.try_send(watch::totals(world)).is_ok(),
                    Ask::Snapshot(who) => who.try_send(self.show(world)).is_ok(),
                };
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(PAUSE / 5));
        }
    }

    /// All of it, and what is new as lines of the log.
    fn show(&mut self, world: &World) -> Snapshot {
        let snapshot = watch::snapshot(world, &self.topology);
        if let Some(before) = self.shown.replace(snapshot.clone()) {
            for text in watch::news(&before, &snapshot) {
                self.lines.add(snapshot.totals.at_ms, "info", "world", text);
            }
        }
        snapshot
    }
}
