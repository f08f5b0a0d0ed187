//! A relay between three UARTs.
//!
//! Its identity and its neighbours come from the debugger's command line:
//!
//! ```text
//! key=HEX32 seed=HEX32 network=regtest mode=payment_gated issuer=PUBKEY dial0=PUBKEY
//! ```
//!
//! `seed` must be random and never be used twice. A UART without `dial` listens for
//! whoever dials there.
#![no_std]
#![no_main]

use bitcoin::hex::FromHex;
use bitcoin::secp256k1::{PublicKey, SecretKey};
use blvm_mesh_core::config::{Config, MeshMode};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_core::mesh::Event;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use blvm_mesh_embedded::{
    Board, BoardMemory, FlashStore, Happening, Platform, Role, Status, StoreError,
};
use blvm_mesh_firmware::{
    Clock, ResetProof, Sleeper, Uart, command_line, exit, heap_used, init_heap, log, paint_stack,
    stack_used, unix_time,
};
use core::str::FromStr;
use cortex_m_rt::entry;
use static_cell::{ConstStaticCell, StaticCell};

/// Packets of 1,280 bytes, frames of 320, queues of 4 KiB.
type Memory = BoardMemory<3, 1280, 320, 4096>;
type Relay = Board<RustCrypto, Uart, 3>;

static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::EMPTY);
static RELAY: StaticCell<Relay> = StaticCell::new();
static STORE: StaticCell<FlashStore<ResetProof>> = StaticCell::new();

struct Settings {
    key: SecretKey,
    seed: [u8; 32],
    config: Config,
    roles: [Role; 3],
}

impl Settings {
    /// Reads a command line; gives the word that is missing or cannot be read.
    fn parse(line: &str) -> Result<Self, &str> {
        let (mut key, mut seed) = (None, None);
        let mut config = Config::board(Network::Mainnet, u32::MAX);
        config.timing.keepalive = SECOND;
        config.timing.hop_round_trip = 500 * MILLISECOND;
        let mut roles = [Role::Listen; 3];
        for word in line.split_ascii_whitespace() {
            // The first word may be the image's name.
            let Some((name, value)) = word.split_once('=') else { continue };
            match name {
                "key" => key = Some(SecretKey::from_str(value).map_err(|_| word)?),
                "seed" => seed = Some(<[u8; 32]>::from_hex(value).map_err(|_| word)?),
                "network" => {
                    let named = Network::ALL.into_iter().find(|n| n.name() == value);
                    config.network = named.ok_or(word)?;
                }
                "mode" => {
                    config.mode = match value {
                        "bitcoin_only" => MeshMode::BitcoinOnly,
                        "payment_gated" => MeshMode::PaymentGated,
                        "open" => MeshMode::Open,
                        _ => return Err(word),
                    }
                }
                "issuer" => {
                    let issuer = PublicKey::from_str(value).map_err(|_| word)?;
                    config.payment.issuers.push(issuer).map_err(|_| word)?;
                }
                _ => {
                    let port = name.strip_prefix("dial").and_then(|n| n.parse::<usize>().ok());
                    let role = port.and_then(|port| roles.get_mut(port)).ok_or(word)?;
                    *role = Role::Dial(PublicKey::from_str(value).map_err(|_| word)?);
                }
            }
        }
        Ok(Self { key: key.ok_or("key=")?, seed: seed.ok_or("seed=")?, config, roles })
    }
}

/// The relay, in its place. A function of its own: its stack is free again afterwards.
#[inline(never)]
fn make() -> &'static mut Relay {
    let mut line = [0; 640];
    let settings = match Settings::parse(command_line(&mut line)) {
        Ok(settings) => settings,
        Err(word) => {
            log!("the command line lacks, or cannot have: {word}");
            exit(false)
        }
    };
    let Settings { key, mut seed, config, roles: [role0, role1, role2] } = settings;
    let (flash, start) = ResetProof::take();
    // No seed is used for two runs.
    seed.iter_mut().zip(start.to_le_bytes()).for_each(|(byte, of)| *byte ^= of);
    let [uart0, uart1, uart2] = Uart::all(115_200);
    let ports = [(uart0, role0), (uart1, role1), (uart2, role2)];
    let store = match FlashStore::new(flash, 0..ResetProof::SIZE) {
        Ok(store) => STORE.init(store),
        Err(error) => give_up(error),
    };
    log!("start {start}");
    RELAY.init_with(|| Relay::with_storage(MEMORY.take(), config, key, seed, ports, store))
}

fn give_up(error: StoreError) -> ! {
    log!("{error}");
    exit(false)
}

/// The board beside its UARTs.
struct Machine {
    clock: Clock,
    sleeper: Sleeper,
    /// When the wall clock is to be read again.
    read_clock: Micros,
    rounds: u32,
}

impl Platform for Machine {
    fn now(&mut self) -> Micros {
        self.clock.now()
    }

    fn wall_clock(&mut self, now: Micros) -> Option<u64> {
        (now >= self.read_clock).then(|| {
            self.read_clock = now.saturating_add(60 * SECOND);
            unix_time()
        })
    }

    fn alive(&mut self) {
        self.sleeper.clear();
        self.rounds = self.rounds.wrapping_add(1);
    }

    fn show(&mut self, Status { neighbours, takes_payments }: Status) {
        let (stack, rounds) = (stack_used(), self.rounds);
        let payments = if takes_payments { "takes" } else { "refuses" };
        log!("{neighbours} links, {payments} payments; {stack} bytes of stack, {rounds} rounds");
    }

    fn happened(&mut self, what: Happening<'_>) {
        match what {
            Happening::LinkDown { port, reason } => log!("down {port}: {reason}"),
            Happening::Refused { port, reason } => log!("refused from {port}: {reason}"),
            Happening::Deliver { source, sequence, payload, earned_msat, .. } => {
                let len = payload.len();
                log!("delivered {len} bytes, number {sequence}, of {source}, earned {earned_msat}");
            }
            Happening::Event(Event::PeerConnected { peer, .. }) => log!("up {peer}"),
            Happening::Event(Event::PeerDisconnected { peer }) => log!("gone {peer}"),
            Happening::Event(Event::PaymentVerified { source, share_msat, .. }) => {
                log!("paid by {source}: {share_msat} for this node");
            }
            Happening::StoreFailed(error) => log!("no more payments: {error}"),
            Happening::Event(_) => {}
            // This image sends nothing of its own.
            Happening::SendAgain(_) | Happening::NotSent(..) => {}
        }
    }

    fn sleep(&mut self, until: Option<Micros>) {
        let until = until.unwrap_or(Micros::MAX).min(self.read_clock);
        let now = self.clock.now();
        if until > now {
            self.sleeper.wait(until - now);
        }
    }
}

#[inline(never)]
fn run(relay: &mut Relay) -> ! {
    let clock = Clock::start();
    relay.run(&mut Machine { clock, sleeper: Sleeper::new(), read_clock: 0, rounds: 0 })
}

#[entry]
fn main() -> ! {
    init_heap();
    paint_stack();
    let relay = make();
    let stack = stack_used();
    paint_stack();
    log!("relay {}: {} bytes of heap, {stack} bytes of stack", relay.mesh().id(), heap_used());
    run(relay)
}
