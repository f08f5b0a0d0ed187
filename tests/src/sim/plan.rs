//! What a world is like: everything that is chosen before it begins.

use super::forge::Attack;
use super::radio::{Intruder, Modem};
use super::wires::LinkCode;
use crate::rng::Rng;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};

/// Something that goes wrong without anybody's being dishonest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A wire is cut, or mended, and both ends are told.
    Cut,
    /// The same, and nobody is told.
    Silent,
    /// A node is told that a link's queue is full, or no longer.
    Congest,
    /// A node loses power; some of the writes under way are done.
    Restart,
    /// A node loses power between two writes.
    Crash,
    /// A wall clock jumps.
    Clock,
    /// Monotonic clocks run fast or slow.
    Drift,
    /// A disk takes no more.
    Disk,
    /// Two nodes dial each other at the same time.
    Dial,
    /// Nodes leave, and come again.
    Leave,
    /// Packets get lost.
    Loss,
    /// Packets overtake each other.
    Reorder,
    /// Packets arrive twice.
    Duplicate,
    /// Wires are slow and their queues short.
    Slow,
    /// Somebody changes bytes of a stream on its wire.
    Tamper,
    /// The chain is reorganised.
    Reorg,
    /// For a long time nothing happens.
    Idle,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Cut,
        Self::Silent,
        Self::Congest,
        Self::Restart,
        Self::Crash,
        Self::Clock,
        Self::Drift,
        Self::Disk,
        Self::Dial,
        Self::Leave,
        Self::Loss,
        Self::Reorder,
        Self::Duplicate,
        Self::Slow,
        Self::Tamper,
        Self::Reorg,
        Self::Idle,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Silent => "silent",
            Self::Congest => "congest",
            Self::Restart => "restart",
            Self::Crash => "crash",
            Self::Clock => "clock",
            Self::Drift => "drift",
            Self::Disk => "disk",
            Self::Dial => "dial",
            Self::Leave => "leave",
            Self::Loss => "loss",
            Self::Reorder => "reorder",
            Self::Duplicate => "duplicate",
            Self::Slow => "slow",
            Self::Tamper => "tamper",
            Self::Reorg => "reorg",
            Self::Idle => "idle",
        }
    }
}

/// Everything that is chosen before a world begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Decides everything that this plan leaves open.
    pub seed: u64,
    /// Number of nodes. A topology read from a file has its own.
    pub nodes: usize,
    /// A shape of [`crate::sim::topology::SHAPES`], or a file.
    pub topology: String,
    /// How long it lives, without the liveness phase at its end.
    pub duration: Micros,
    /// The modem, where all links are radio.
    pub radio: Option<Modem>,
    /// A radio that belongs to no node, where all run the core's channel.
    pub intruder: Option<Intruder>,
    /// From when until when it sends; the greeting of the first five minutes is among that time.
    pub intrudes: [Micros; 2],
    /// Mean time in which each node of a moving mesh moves once.
    pub move_gap: Micros,
    /// Latency of a wire, at least and at most.
    pub latency: [Micros; 2],
    /// What carries packets on all links.
    pub code: LinkCode,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Mean time between two faults.
    pub fault_gap: Micros,
    /// How many nodes are dishonest.
    pub adversaries: usize,
    /// What they do.
    pub attacks: Vec<Attack>,
    /// Mean time between two attacks.
    pub attack_gap: Micros,
    /// Mean time between two wishes to send, of all nodes together.
    pub traffic_gap: Micros,
    /// Weights of a free packet, a paid one, a search, and a burst.
    pub traffic: [u64; 4],
    /// Mean time between two flows that are opened, of all nodes together; 0: there are none.
    pub flow_gap: Micros,
    /// Whether some pay by covenant.
    pub covenants: bool,
    /// Which memory the tables live in; `None`: drawn for each node.
    pub heap: Option<bool>,
    /// Whether tables on the heap are no larger than a board's. Those in fixed memory never
    /// are, nor is any in a varied plan.
    pub boards: bool,
    /// Whether each node has a mode, tables and prices of its own.
    pub varied: bool,
    /// Longest life of an invoice, in seconds.
    pub lifetime: u64,
    /// Longest time in which a node learns what it asks about a block.
    pub answer_time: Micros,
    /// How far from now an invoice may be dated, in seconds.
    pub skew: u64,
    /// Longest silence on a link, in milliseconds; 0: for ever.
    pub keepalive_ms: u64,
    /// Whether everything is mended at the end and what is then sent must arrive.
    pub liveness: bool,
    /// Whether the nodes' inputs are recorded.
    pub record: bool,
    /// At every how many received packets all tables are compared; 0: never.
    pub watch: u64,
}

impl Plan {
    /// A calm world of honest nodes on wires, with modest traffic.
    pub fn calm(seed: u64, nodes: usize, topology: &str) -> Self {
        Self {
            seed,
            nodes,
            topology: topology.to_owned(),
            duration: 60 * SECOND,
            radio: None,
            intruder: None,
            intrudes: [0, Micros::MAX],
            move_gap: 20 * SECOND,
            latency: [MILLISECOND, 15 * MILLISECOND],
            code: LinkCode::Packets,
            faults: Vec::new(),
            fault_gap: SECOND,
            adversaries: 0,
            attacks: Attack::ALL.into_iter().filter(|attack| !attack.is_on_flows()).collect(),
            attack_gap: 200 * MILLISECOND,
            traffic_gap: 100 * SECOND / nodes.max(1) as u64,
            traffic: [2, 1, 0, 0],
            flow_gap: 0,
            covenants: false,
            heap: Some(true),
            boards: false,
            varied: false,
            lifetime: 300,
            skew: 10,
            answer_time: 20 * MILLISECOND,
            keepalive_ms: 0,
            liveness: false,
            record: false,
            watch: 64,
        }
    }

    /// A small world with troubles, all drawn from the seed. Each trouble is left
    /// out of some worlds; one in twelve is on radio.
    pub fn drawn(seed: u64) -> Self {
        let (plan, radio) = Self::draw(seed);
        if radio { plan.on_radio() } else { plan }
    }

    /// The same on radio, whatever the seed says of that.
    pub fn drawn_on_radio(seed: u64) -> Self {
        Self::draw(seed).0.on_radio()
    }

    /// The same on wires, whatever the seed says of that.
    pub fn drawn_on_wires(seed: u64) -> Self {
        Self::draw(seed).0
    }

    /// The plan on wires, and whether it is to be on radio.
    fn draw(seed: u64) -> (Self, bool) {
        let mut rng = Rng::new(seed).fork("plan");
        let nodes = rng.within(3, 10) as usize;
        let some = |rng: &mut Rng| rng.within(1, 3);
        let of = some(&mut rng);
        let faults = Fault::ALL.into_iter().filter(|_| rng.below(4) < of).collect();
        let of = some(&mut rng);
        let mut more = Rng::new(seed).fork("more");
        let mut newer = Rng::new(seed).fork("newer lies");
        let mut flows = Rng::new(seed).fork("flows");
        let flow_gap = match flows.one_in(3) {
            true => flows.pick(&[200, 1000, 3000]) * MILLISECOND,
            false => 0,
        };
        let attacks = Attack::ALL.into_iter().filter(|attack| match attack {
            Attack::Blackhole | Attack::Meddle | Attack::Clock => more.one_in(2),
            Attack::Ride | Attack::Resend | Attack::Frame | Attack::Renew | Attack::Receipt => {
                newer.one_in(2)
            }
            attack if attack.is_on_flows() => flow_gap > 0 && flows.one_in(2),
            _ => rng.below(4) < of,
        });
        let attacks = attacks.collect();
        // Of packets that wait long there are many at once, and some wait too long.
        let answers = [20 * MILLISECOND, 20 * MILLISECOND, 2 * SECOND, 15 * SECOND];
        let answer_time = Rng::new(seed).fork("answers").pick(&answers);
        let shapes =
            ["random", "random", "random", "random", "line", "ring", "star", "grid", "tree"];
        let plan = Self {
            nodes,
            topology: rng.pick(&shapes).to_owned(),
            duration: rng.within(5, 15) * SECOND,
            code: match (rng.one_in(4), Rng::new(seed).fork("code").one_in(4)) {
                (true, _) => LinkCode::Stream,
                (_, true) => LinkCode::Datagrams,
                _ => LinkCode::Packets,
            },
            faults,
            fault_gap: rng.pick(&[200, 500, 2000]) * MILLISECOND,
            adversaries: (rng.below(3) as usize).min(nodes - 2),
            attacks,
            attack_gap: rng.pick(&[50, 200, 1000]) * MILLISECOND,
            traffic_gap: rng.pick(&[50, 100, 200]) * MILLISECOND,
            traffic: [1 + rng.below(3), rng.within(2, 8), rng.below(3), rng.below(2)],
            flow_gap,
            covenants: rng.one_in(3),
            heap: None,
            varied: true,
            lifetime: rng.pick(&[20, 60, 300]),
            skew: rng.pick(&[2, 10]),
            answer_time,
            keepalive_ms: rng.pick(&[0, 500, 1000, 5000]),
            liveness: true,
            watch: 1,
            ..Self::calm(seed, nodes, "random")
        };
        match more.below(12) {
            0 => (plan, true),
            1 => (Self { topology: "moving".into(), ..plan }, false),
            2 => (Self { topology: "geometric".into(), ..plan }, false),
            _ => (plan, false),
        }
    }

    /// The same on radio, where nothing is sure to arrive.
    fn on_radio(self) -> Self {
        Self {
            radio: Some(Modem::SHORT),
            code: match self.code {
                LinkCode::Stream => LinkCode::Packets,
                code => code,
            },
            liveness: false,
            duration: 4 * self.duration,
            traffic_gap: 10 * self.traffic_gap,
            flow_gap: 10 * self.flow_gap,
            ..self
        }
    }

    /// Whether something goes wrong.
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}
