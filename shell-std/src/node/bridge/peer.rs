//! A connection of this node's own to the Bitcoin node that it is the gateway of: what others ask
//! about headers, and about transactions where there is no JSON-RPC, is asked there.

use super::super::clock::Clock;
use crate::bridge::Signal;
use crate::bridge::control::random_id;
use crate::bridge::message::{self, Magic, ReadError};
use crate::bridge::table::lock;
use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::p2p::address::Address;
use bitcoin::p2p::message::{NetworkMessage, RawNetworkMessage};
use bitcoin::p2p::message_blockdata::{GetHeadersMessage, Inventory};
use bitcoin::p2p::message_network::VersionMessage;
use bitcoin::p2p::{Magic as NetworkMagic, ServiceFlags};
use bitcoin::{Block, BlockHash, Transaction, Txid};
use smol::channel::{Receiver, Sender};
use smol::io::AsyncWriteExt;
use smol::net::TcpStream;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long the Bitcoin node may take to be connected, and to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pauses before it is connected again, doubled each time.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// It is asked so often whether it is there; and after so long without a word it is not.
const PING: Duration = Duration::from_secs(60);
const SILENT: Duration = Duration::from_secs(180);
/// Messages that wait to be written.
const QUEUE: usize = 64;
/// Protocol version that is spoken (BIP 339).
const VERSION: u32 = 70_016;

/// What an answer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Headers,
    Transaction(Txid),
    Block(BlockHash),
}

#[derive(Debug)]
enum Answer {
    Headers(Vec<Header>),
    /// Whether it has the transaction.
    Transaction(bool),
    Block(Box<Block>),
}

type Waiting = (Key, Sender<Answer>);

/// The Bitcoin node.
#[derive(Debug)]
pub(super) struct BitcoinPeer {
    address: SocketAddr,
    magic: Magic,
    /// Whether transactions are asked about.
    relays: bool,
    write: Sender<NetworkMessage>,
    to_write: Receiver<NetworkMessage>,
    /// It has greeted: before that it hears no questions.
    greeted: AtomicBool,
    waiting: Mutex<VecDeque<Waiting>>,
    /// A question was not answered: what comes now may be for it.
    failed: Signal,
    /// It has a new block, or is connected again.
    pub(super) news: Signal,
}

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a message cannot be read: {0}")]
    Message(#[from] bitcoin::consensus::encode::Error),
    #[error("it does not answer")]
    Silent,
}

impl BitcoinPeer {
    pub(super) fn new(address: SocketAddr, magic: Magic, relays: bool) -> Self {
        let (write, to_write) = smol::channel::bounded(QUEUE);
        let (greeted, waiting) = (AtomicBool::new(false), Mutex::default());
        let (failed, news) = (Signal::default(), Signal::default());
        Self { address, magic, relays, write, to_write, greeted, waiting, failed, news }
    }

    /// Keeps the connection.
    pub(super) async fn run(&self) {
        let mut pause = AGAIN.0;
        let mut told = false;
        loop {
            let begun = Instant::now();
            let lost = match self.connect().await {
                Ok(lost) => lost,
                Err(error) => error.into(),
            };
            self.greeted.store(false, Relaxed);
            lock(&self.waiting).clear();
            while self.to_write.try_recv().is_ok() {}
            if begun.elapsed() > AGAIN.1 {
                (pause, told) = (AGAIN.0, false);
            }
            if !std::mem::replace(&mut told, true) {
                let address = self.address;
                tracing::warn!(%address, "no headers from the Bitcoin node (bitcoin.node): {lost}");
            }
            smol::Timer::after(pause).await;
            pause = (pause * 2).min(AGAIN.1);
        }
    }

    async fn connect(&self) -> io::Result<Lost> {
        let late = async {
            smol::Timer::after(PATIENCE).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        let tcp = smol::future::or(TcpStream::connect(self.address), late).await?;
        let _ = tcp.set_nodelay(true);
        let heard = Mutex::new(Instant::now());
        let ways = smol::future::or(self.read(tcp.clone(), &heard), self.write(tcp.clone()));
        let failed = async {
            self.failed.wait().await;
            Lost::Silent
        };
        let lost = smol::future::or(ways, smol::future::or(self.watch(&heard), failed)).await;
        let _ = tcp.shutdown(std::net::Shutdown::Both);
        Ok(lost)
    }

    /// Asks whether it is there, and ends when it is not.
    async fn watch(&self, heard: &Mutex<Instant>) -> Lost {
        loop {
            smol::Timer::after(PING).await;
            if lock(heard).elapsed() > SILENT {
                return Lost::Silent;
            }
            let _ = self.write.try_send(NetworkMessage::Ping(0));
        }
    }

    async fn write(&self, mut tcp: TcpStream) -> Lost {
        let mut next = self.version();
        loop {
            let message = RawNetworkMessage::new(NetworkMagic::from_bytes(self.magic), next);
            if let Err(error) = tcp.write_all(&serialize(&message)).await {
                return error.into();
            }
            next = match self.to_write.recv().await {
                Ok(next) => next,
                Err(_) => return Lost::Silent,
            };
        }
    }

    fn version(&self) -> NetworkMessage {
        let unix = Clock::unix().unwrap_or_default();
        let nobody = || Address::new(&([0, 0, 0, 0], 0).into(), ServiceFlags::NONE);
        NetworkMessage::Version(VersionMessage {
            version: VERSION,
            services: ServiceFlags::NONE,
            timestamp: i64::try_from(unix).unwrap_or(i64::MAX),
            receiver: nobody(),
            sender: nobody(),
            // Without random bytes it is 0, which no node chooses: it tells connections to oneself.
            nonce: random_id().unwrap_or_default(),
            user_agent: concat!("/blvm-mesh:", env!("CARGO_PKG_VERSION"), "/").into(),
            start_height: 0,
            relay: self.relays,
        })
    }

    async fn read(&self, mut tcp: TcpStream, heard: &Mutex<Instant>) -> Lost {
        let mut first = true;
        loop {
            let message = match message::read(&mut tcp, self.magic, first).await {
                Ok(message) => message,
                Err(error) => return error.into(),
            };
            first = false;
            *lock(heard) = Instant::now();
            // Of the others none is read.
            let read = matches!(
                message::command(&message),
                "version" | "verack" | "ping" | "headers" | "inv" | "tx" | "notfound" | "block"
            );
            if !read {
                continue;
            }
            match deserialize::<RawNetworkMessage>(&message) {
                Ok(message) => self.take(message.into_payload()).await,
                Err(error) => return error.into(),
            }
        }
    }

    async fn take(&self, message: NetworkMessage) {
        match message {
            NetworkMessage::Version(_) => self.say(NetworkMessage::Verack).await,
            NetworkMessage::Verack => {
                self.greeted.store(true, Relaxed);
                self.news.give();
            }
            NetworkMessage::Ping(nonce) => self.say(NetworkMessage::Pong(nonce)).await,
            NetworkMessage::Headers(headers) => self.answer(Key::Headers, Answer::Headers(headers)),
            NetworkMessage::Block(block) => {
                let key = Key::Block(block.block_hash());
                self.answer(key, Answer::Block(Box::new(block)));
            }
            NetworkMessage::Tx(transaction) => {
                let key = Key::Transaction(transaction.compute_txid());
                self.answer(key, Answer::Transaction(true));
            }
            NetworkMessage::NotFound(entries) => {
                for entry in entries {
                    if let Inventory::Transaction(txid) = entry {
                        self.answer(Key::Transaction(txid), Answer::Transaction(false));
                    }
                }
            }
            NetworkMessage::Inv(entries) => {
                let is_block = |entry: &Inventory| {
                    matches!(entry, Inventory::Block(_) | Inventory::WitnessBlock(_))
                };
                if entries.iter().any(is_block) {
                    self.news.give();
                }
            }
            _ => {}
        }
    }

    async fn say(&self, message: NetworkMessage) {
        // Our own end takes them out.
        let _ = self.write.send(message).await;
    }

    fn answer(&self, key: Key, answer: Answer) {
        let mut waiting = lock(&self.waiting);
        if let Some(place) = waiting.iter().position(|(of, _)| *of == key)
            && let Some((_, who)) = waiting.remove(place)
        {
            let _ = who.try_send(answer);
        }
    }

    /// Asks, and waits for the answer; `None`: there is none.
    async fn ask(&self, key: Key, question: NetworkMessage) -> Option<Answer> {
        let (who, answered) = smol::channel::bounded(1);
        {
            let mut waiting = lock(&self.waiting);
            waiting.retain(|(_, who)| !who.is_closed());
            if waiting.len() >= QUEUE || !self.greeted.load(Relaxed) {
                return None;
            }
            // Questions for headers are answered in their order.
            self.write.try_send(question).ok()?;
            waiting.push_back((key, who));
        }
        let late = async {
            smol::Timer::after(PATIENCE).await;
            self.failed.give();
            None
        };
        smol::future::or(async { answered.recv().await.ok() }, late).await
    }

    /// What follows the first block of a locator that the node knows: up to 2,000 headers.
    pub(super) async fn headers(&self, question: GetHeadersMessage) -> Option<Vec<Header>> {
        match self.ask(Key::Headers, NetworkMessage::GetHeaders(question)).await? {
            Answer::Headers(headers) => Some(headers),
            _ => None,
        }
    }

    /// A block.
    pub(super) async fn block(&self, hash: BlockHash) -> Option<Block> {
        let question = NetworkMessage::GetData(vec![Inventory::Block(hash)]);
        match self.ask(Key::Block(hash), question).await? {
            Answer::Block(block) => Some(*block),
            _ => None,
        }
    }

    /// Whether the node has a transaction in its mempool, and tells.
    pub(super) async fn has(&self, txid: Txid) -> Option<bool> {
        let question = NetworkMessage::GetData(vec![Inventory::Transaction(txid)]);
        match self.ask(Key::Transaction(txid), question).await? {
            Answer::Transaction(has) => Some(has),
            _ => None,
        }
    }

    /// Hands the node a transaction. It says nothing to that.
    pub(super) fn hand_over(&self, transaction: Transaction) -> bool {
        self.greeted.load(Relaxed) && self.write.try_send(NetworkMessage::Tx(transaction)).is_ok()
    }
}
