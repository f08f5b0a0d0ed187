//! What a dishonest neighbour sends.

mod control;
mod data;
mod deposits;
mod flows;
mod parts;

pub(in crate::sim) use flows::{about_flows, account_in};
pub use parts::{Parts, seal};

use super::World;
use super::bytes::Path;
use blvm_mesh_core::wire::route_error::Cause;

/// What an adversary does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attack {
    /// Packets that came by, with other sources, sequences, hops; and routes with a
    /// loop.
    Forge,
    /// Packets that came by, cut, grown and with wrong checks.
    Mangle,
    /// Every byte of one packet that came by, changed one after the other.
    Tamper,
    /// Bytes that are no packet.
    Garbage,
    /// Proofs that prove nothing: an invoice to himself, one not paid, paid too
    /// little, dated wrong, changed afterwards.
    Unpaid,
    /// One payment for several packets, over one and over other relays.
    Twice,
    /// An old payment once more, also after the relay was restarted.
    Again,
    /// The proof that another paid for.
    Steal,
    /// Errors about routes that work.
    Errors,
    /// False hops and costs in replies, in the name of others or his own.
    Poison,
    /// A link between two adversaries that is none.
    Wormhole,
    /// Floods of requests, in his own name and in those of others.
    Flood,
    /// A hello with another price, size and quality.
    Hello,
    /// A payload in a Bitcoin costume.
    Costume,
    /// Connections on which nothing is said.
    HalfOpen,
    /// What he is to pass on disappears ([`World::blackhole`]).
    Blackhole,
    /// What he passes on is changed ([`World::meddling`]).
    Meddle,
    /// Payments dated so far ahead, or so near to their end, as is just taken or no
    /// longer.
    Clock,
    /// Arbitrary bytes in what is not checked of packets that go free.
    Ride,
    /// A paid packet again, too early, too often, over another neighbour, with one byte
    /// changed.
    Resend,
    /// A free packet with the name and the number of a paid one that comes by.
    Frame,
    /// The connection anew, and what is free again.
    Renew,
    /// Receipts for what others have sent and he has not.
    Receipt,
    /// Data on a flow of his own, beyond what he paid for.
    Overdraw,
    /// An Open again, over another neighbour and after its flow was closed.
    Reopen,
    /// A paid ticket again, and as his own at another node.
    Ticket,
    /// His own invoice in place of the one that he passes on ([`World::swapping`]).
    Swap,
    /// Data that came by, on other links.
    Replay,
    /// Answers, reports and farewells of flows that are not his.
    Break,
    /// He takes the money and passes on no data.
    Embezzle,
    /// He says again and again that nothing is left.
    Empty,
    /// Flows that are opened, and never used.
    Hoard,
    /// Invoices that are wanted, and never paid.
    Sales,
    /// A proof for accounts more than once, at other nodes, in another's name, and for a datagram.
    Deposit,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 34] = [
        Self::Forge,
        Self::Mangle,
        Self::Tamper,
        Self::Garbage,
        Self::Unpaid,
        Self::Twice,
        Self::Again,
        Self::Steal,
        Self::Errors,
        Self::Poison,
        Self::Wormhole,
        Self::Flood,
        Self::Hello,
        Self::Costume,
        Self::HalfOpen,
        Self::Blackhole,
        Self::Meddle,
        Self::Clock,
        Self::Ride,
        Self::Resend,
        Self::Frame,
        Self::Renew,
        Self::Receipt,
        Self::Overdraw,
        Self::Reopen,
        Self::Ticket,
        Self::Swap,
        Self::Replay,
        Self::Break,
        Self::Embezzle,
        Self::Empty,
        Self::Hoard,
        Self::Sales,
        Self::Deposit,
    ];

    /// Whether it is about flows.
    pub fn is_on_flows(self) -> bool {
        self >= Self::Overdraw
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forge => "forge",
            Self::Mangle => "mangle",
            Self::Tamper => "tamper",
            Self::Garbage => "garbage",
            Self::Unpaid => "unpaid",
            Self::Twice => "twice",
            Self::Again => "again",
            Self::Steal => "steal",
            Self::Errors => "errors",
            Self::Poison => "poison",
            Self::Wormhole => "wormhole",
            Self::Flood => "flood",
            Self::Hello => "hello",
            Self::Costume => "costume",
            Self::HalfOpen => "halfopen",
            Self::Blackhole => "blackhole",
            Self::Meddle => "meddle",
            Self::Clock => "clock",
            Self::Ride => "ride",
            Self::Resend => "resend",
            Self::Frame => "frame",
            Self::Renew => "renew",
            Self::Receipt => "receipt",
            Self::Overdraw => "overdraw",
            Self::Reopen => "reopen",
            Self::Ticket => "ticket",
            Self::Swap => "swap",
            Self::Replay => "replay",
            Self::Break => "break",
            Self::Embezzle => "embezzle",
            Self::Empty => "empty",
            Self::Hoard => "hoard",
            Self::Sales => "sales",
            Self::Deposit => "deposit",
        }
    }
}

impl World {
    /// One bad deed of a node: packets on its links that no honest node sends.
    pub fn attack(&mut self, m: usize, attack: Attack) {
        let links = self.links(m);
        if links.is_empty() {
            return;
        }
        let (link, victim) = self.rng.pick(&links);
        let packets = match attack {
            Attack::Forge => [self.edited(m, true), self.looped(m, victim)].concat(),
            Attack::Mangle => self.edited(m, false),
            Attack::Tamper => self.every_byte(m),
            Attack::Garbage => self.garbage(),
            Attack::Unpaid => self.unpaid(m, victim),
            Attack::Twice => self.twice(m, victim),
            Attack::Again => self.again(m),
            Attack::Steal => self.stolen(m, victim),
            Attack::Errors => self.errors(m, victim),
            Attack::Poison => self.replies(m, victim),
            Attack::Wormhole => return self.wormhole(m),
            Attack::Flood => self.requests(m),
            Attack::Hello => self.hellos(),
            Attack::Costume => self.costume(m, victim),
            Attack::HalfOpen => return self.half_open(m, victim),
            Attack::Clock => self.dated(m, victim),
            Attack::Ride => self.riding(m, victim),
            Attack::Resend => self.resent(m, victim),
            Attack::Frame => self.framed(m),
            Attack::Receipt => self.receipts(m, victim),
            Attack::Renew => return self.come_again(m, victim),
            // Done when something is to be passed on.
            Attack::Blackhole | Attack::Meddle | Attack::Swap | Attack::Embezzle => return,
            Attack::Overdraw => return self.overdraw(m),
            Attack::Reopen => self.reopened(m, victim),
            Attack::Ticket => self.tickets(m, victim),
            Attack::Replay => self.replayed(m),
            Attack::Break => self.broken_flows(m, None),
            Attack::Empty => self.broken_flows(m, Some(Cause::NothingLeft)),
            Attack::Hoard => self.hoarded(m, victim),
            Attack::Sales => self.wanted_in_vain(m, victim),
            Attack::Deposit => self.deposits(m, victim),
        };
        self.checks.count("attacks");
        self.checks.lied.insert(m);
        let all = self.rng.one_in(3);
        let path = Path::default().then(m);
        for packet in packets {
            let packet = super::Bytes::from(packet);
            for (other, _) in links.iter().filter(|(l, _)| all || *l == link) {
                self.transmit(*other, packet.clone(), path.clone());
            }
        }
    }
}
