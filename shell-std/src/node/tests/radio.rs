//! Nodes with radios: modems of both kinds behind TCP servers, and the air between them.

use super::serial::peers;
use super::*;
use crate::radio::Dialect;
use crate::radio::fake::{FakeModem, Wrong};
use crate::rpc::types::{PeerState, RadioState, RadioStats, Stats};
use crate::rpc::{Handler, Reply, Request};
use blvm_mesh_core::link::channel::lora;
use smol::channel::{Receiver, Sender};
use smol::future::or;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};

/// What all radios are set to: fast, so that a test is.
const CHANNEL: &str = "region=OTHER&frequency=868000000&bandwidth=500000";

/// A modem behind a TCP server.
struct Station {
    fake: Mutex<FakeModem>,
    dialect: Dialect,
    port: u16,
    /// There are bytes for its host.
    wake: (Sender<()>, Receiver<()>),
    /// It is pulled out.
    pull: (Sender<()>, Receiver<()>),
}

impl Station {
    fn address(&self) -> String {
        format!("lora+{}+tcp://127.0.0.1:{}?{CHANNEL}", self.dialect.name(), self.port)
    }

    /// Serves whoever connects, one after the other.
    async fn serve(&self, listener: TcpListener, at: usize, air: Sender<(usize, Vec<u8>)>) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let talk = self.talk(&mut stream, at, &air);
            let pulled = async {
                let _ = self.pull.1.recv().await;
            };
            or(talk, pulled).await;
        }
    }

    async fn talk(&self, stream: &mut TcpStream, at: usize, air: &Sender<(usize, Vec<u8>)>) {
        let mut buffer = [0; 1000];
        loop {
            let mut reader = stream.clone();
            let read = async { reader.read(&mut buffer).await.unwrap_or(0) };
            let woken = async {
                let _ = self.wake.1.recv().await;
                usize::MAX
            };
            let len = or(read, woken).await;
            let (out, frames) = {
                let mut fake = self.fake.lock().unwrap();
                match len {
                    0 => return,
                    usize::MAX => {}
                    len => fake.take(&buffer[..len]),
                }
                (std::mem::take(&mut fake.out), std::mem::take(&mut fake.to_air))
            };
            if stream.write_all(&out).await.is_err() {
                return;
            }
            for frame in frames {
                let _ = air.send((at, frame)).await;
            }
        }
    }

    fn wake(&self) {
        let _ = self.wake.0.try_send(());
    }
}

/// Radios that hear each other, one after the other.
struct Air {
    stations: Vec<Arc<Station>>,
    log: Arc<Mutex<Vec<Vec<u8>>>>,
    _tasks: Vec<Task<()>>,
}

impl Air {
    async fn new(bed: &Bed, kinds: &[(Dialect, Wrong)]) -> Self {
        let (to_air, waiting) = smol::channel::unbounded();
        let (mut stations, mut tasks) = (Vec::new(), Vec::new());
        for (at, (dialect, wrong)) in kinds.iter().enumerate() {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let station = Arc::new(Station {
                fake: Mutex::new(FakeModem::new(*dialect, *wrong)),
                dialect: *dialect,
                port: listener.local_addr().unwrap().port(),
                wake: smol::channel::bounded(1),
                pull: smol::channel::bounded(1),
            });
            stations.push(station.clone());
            let to_air = to_air.clone();
            let serve = async move { station.serve(listener, at, to_air).await };
            tasks.push(bed.executor.spawn(serve));
        }
        let log = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        tasks.push(bed.executor.spawn(carry(stations.clone(), waiting, log.clone())));
        Self { stations, log, _tasks: tasks }
    }

    fn node(&self, bed: &Bed, at: usize) -> Node {
        let radio = self.stations[at].address().parse().unwrap();
        bed.start_with(1 + at as u8, MeshMode::PaymentGated, &[], Disk::default(), |s| {
            s.listen_addr = None;
            s.radios = vec![radio];
        })
    }

    fn pull(&self, at: usize) {
        let _ = self.stations[at].pull.0.try_send(());
    }
}

/// Frames on the air: while one is, the others hear that it is.
async fn carry(
    stations: Vec<Arc<Station>>,
    waiting: Receiver<(usize, Vec<u8>)>,
    log: Arc<Mutex<Vec<Vec<u8>>>>,
) {
    let modem = lora::Modem {
        spreading: 7,
        bandwidth: 500_000,
        coding: 1,
        preamble: 94,
        duty_permille: 1_000,
    };
    while let Ok((from, frame)) = waiting.recv().await {
        let others = || stations.iter().enumerate().filter(|(at, _)| *at != from);
        others().for_each(|(_, station)| station.fake.lock().unwrap().busy = true);
        smol::Timer::after(Duration::from_micros(modem.airtime(frame.len()))).await;
        for (_, station) in others() {
            let mut fake = station.fake.lock().unwrap();
            fake.busy = false;
            fake.hear(&frame);
        }
        stations[from].fake.lock().unwrap().sent();
        log.lock().unwrap().push(frame);
        stations.iter().for_each(|station| station.wake());
    }
}

async fn radio(node: &Node) -> RadioStats {
    match super::paid::service(node).handle(Request::GetStats, &Default::default()).await {
        Ok(Reply::GetStats(stats)) => {
            let Stats { radios, .. } = *stats;
            radios.into_iter().next().unwrap()
        }
        other => panic!("{other:?}"),
    }
}

/// Waits until two nodes have found each other: beacons and handshakes have their pauses.
async fn linked(a: &Node, b: &Node) {
    let (start, of) = (Instant::now(), [a, b]);
    let sees = async |x: &Node, y: &Node| {
        x.handle().neighbours().await.unwrap().contains(&y.handle().id())
    };
    while !(sees(a, b).await && sees(b, a).await) {
        if start.elapsed() > 9 * PATIENCE {
            panic!("not linked in time: {:#?} {:#?}", radio(of[0]).await, radio(of[1]).await);
        }
        smol::Timer::after(Duration::from_millis(10)).await;
    }
}

const RIGHT: Wrong = Wrong { old: false, one_bandwidth: false, no_radio: false, noise: false };
const NOISY: Wrong = Wrong { noise: true, ..RIGHT };

#[test]
fn radios_of_both_kinds_find_each_other_and_carry_packets_over_a_modem_that_was_pulled_out() {
    Bed::run(async |bed| {
        let air = Air::new(&bed, &[(Dialect::Rnode, RIGHT), (Dialect::Meshcore, NOISY)]).await;
        let (a, b) = (air.node(&bed, 0), air.node(&bed, 1));
        linked(&a, &b).await;
        for nonce in 0..3 {
            send(&a, &b, &ping(nonce), &[], false).await;
            assert_eq!(delivery(&b).await.payload, ping(nonce));
            send(&b, &a, &ping(nonce), &[], false).await;
            assert_eq!(delivery(&a).await.payload, ping(nonce));
        }
        let at_a = peers(&a).await.remove(0);
        assert_eq!(at_a.state, PeerState::Up);
        assert_eq!(at_a.address, format!("lora+rnode+tcp://127.0.0.1:{}", air.stations[0].port));
        // It is told each second.
        let told = async || {
            let neighbours = radio(&a).await.neighbours;
            neighbours.first().is_some_and(|n| n.snr_quarter_db != 0 && n.round_trip_us.is_some())
        };
        until("the state is told", told).await;
        let (of_a, of_b) = (radio(&a).await, radio(&b).await);
        assert_eq!((of_a.state, of_a.error.clone()), (RadioState::Up, None));
        assert_eq!((of_a.modem.as_str(), of_a.firmware.as_deref()), ("RNode", Some("1.86")));
        assert_eq!(of_b.board.as_deref(), Some("RAK 4631"));
        let neighbour = &of_a.neighbours[0];
        assert_eq!((neighbour.node_id, neighbour.snr_quarter_db), (b.handle().id(), 20));
        assert!(of_a.beacons > 0 && of_a.frames_sent > 3 && of_a.frames_heard > 3, "{of_a:?}");
        assert!(of_a.airtime_hour_ms > 0 && of_a.rssi_dbm == Some(-80), "{of_a:?}");
        assert!(of_b.frames_damaged > 0, "what the noisy modem says between: {of_b:?}");

        air.pull(0);
        let down = async || a.handle().neighbours().await.unwrap().is_empty();
        until("the modem is gone", down).await;
        linked(&a, &b).await;
        send(&a, &b, &ping(99), &[], false).await;
        assert_eq!(delivery(&b).await.payload, ping(99));
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn what_all_must_hear_is_one_frame() {
    Bed::run(async |bed| {
        let kinds = [Dialect::Meshcore, Dialect::Rnode, Dialect::Meshcore].map(|d| (d, RIGHT));
        let air = Air::new(&bed, &kinds).await;
        let nodes = [0, 1, 2].map(|at| air.node(&bed, at));
        let [a, b, c] = &nodes;
        for (one, other) in [(a, b), (b, c), (c, a)] {
            linked(one, other).await;
        }
        air.log.lock().unwrap().clear();
        assert_eq!(a.handle().find_route(NodeId([9; 32])).await, Ok(false));
        // To all, from whomever: a packet.
        let is_to_all = |frame: &Vec<u8>| matches!(frame[..], [_, 0, 0, _, _, 3, ..]);
        let searched = async || air.log.lock().unwrap().iter().any(is_to_all);
        until("the search is on the air", searched).await;
        for node in nodes {
            node.stop().await;
        }
    });
}

#[test]
fn a_modem_that_does_not_serve_is_told_of_and_tried_again() {
    Bed::run(async |bed| {
        let old = Wrong { old: true, ..RIGHT };
        let narrow = Wrong { one_bandwidth: true, ..RIGHT };
        let air = Air::new(&bed, &[(Dialect::Rnode, old), (Dialect::Meshcore, narrow)]).await;
        let (a, b) = (air.node(&bed, 0), air.node(&bed, 1));
        let says = async |node: &Node, what: &str| {
            let stats = radio(node).await;
            stats.state != RadioState::Up && stats.error.is_some_and(|error| error.contains(what))
        };
        until("old firmware", async || says(&a, "firmware 1.51").await).await;
        until("no such bandwidth", async || says(&b, "bandwidth").await).await;
        // Its firmware is updated.
        *air.stations[0].fake.lock().unwrap() = FakeModem::new(Dialect::Rnode, RIGHT);
        let up = async || radio(&a).await.state == RadioState::Up;
        until("the modem serves", up).await;
        a.stop().await;
        b.stop().await;
    });
}
