//! A bridged connection: between a Bitcoin node's TCP connection and a [channel](crate::bridge::channel).

use super::super::progress::Progress;
use super::shared::Bridge;
use crate::bridge::Signal;
use crate::bridge::channel::Datagram;
use crate::bridge::control::{Control, Flags, Kind};
use crate::bridge::lists;
use crate::bridge::message::{self, ReadError};
use crate::bridge::table::{Connection, lock};
use blvm_mesh_core::mesh::{MeshError, NetworkReason, RoutingReason};
use blvm_mesh_core::policy::Reason;
use blvm_mesh_core::policy::detect::explain;
use blvm_mesh_core::time::Micros;
use smol::channel::Receiver;
use smol::io::AsyncWriteExt;
use smol::net::TcpStream;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Pauses after a datagram that this node could not send: its queue is full, or there is no route.
const PAUSE: Duration = Duration::from_millis(100);
const NO_ROUTE_PAUSE: Duration = Duration::from_secs(2);
/// How long there may be no route.
const WITHOUT_ROUTE: Duration = Duration::from_secs(20);
/// Datagrams whose reports are waited for.
const MOST_FOLLOWED: usize = 256;
/// How long the other end may take over the last messages.
const LINGER: Duration = Duration::from_secs(20);

/// How a connection has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the Bitcoin node at this end has closed it")]
    Here,
    #[error("the Bitcoin node at the other end has closed it")]
    There,
    #[error("the Bitcoin node at this end: {0}")]
    Failed(String),
    /// The other end, or the way there, has failed.
    #[error("{0}")]
    Lost(String),
}

fn failed(text: impl ToString) -> Ended {
    Ended::Failed(text.to_string())
}

fn lost(text: impl ToString) -> Ended {
    Ended::Lost(text.to_string())
}

/// Runs a connection until it ends, and why it did.
pub(super) async fn run(bridge: &Bridge, connection: &Connection, tcp: TcpStream) -> Ended {
    // Messages are written whole.
    let _ = tcp.set_nodelay(true);
    let work = Work { bridge, connection };
    let ended = smol::future::or(
        work.read(tcp.clone()),
        smol::future::or(work.write(tcp.clone()), work.send()),
    )
    .await;
    if !matches!(ended, Ended::There) {
        let heard = matches!(ended, Ended::Here) && connection.channel().is_delivered();
        if !heard {
            work.reset().await;
        }
    }
    let _ = tcp.shutdown(std::net::Shutdown::Both);
    ended
}

struct Work<'a> {
    bridge: &'a Bridge,
    connection: &'a Connection,
}

/// Gives up a connection that never began at this end.
pub(super) async fn give_up(bridge: &Bridge, connection: &Connection) {
    Work { bridge, connection }.reset().await;
}

impl Work<'_> {
    fn now(&self) -> Micros {
        self.bridge.node.now()
    }

    /// From the node at this end into the channel.
    async fn read(&self, mut tcp: TcpStream) -> Ended {
        let mut first = true;
        loop {
            while !self.connection.channel().has_room() {
                self.connection.room.wait().await;
            }
            let message = match message::read(&mut tcp, self.bridge.magic, first).await {
                Ok(message) => message,
                Err(ReadError::Closed) => break,
                Err(error) => return failed(error),
            };
            first = false;
            if let Err(error) = self.enter(message) {
                return failed(error);
            }
        }
        self.connection.channel().finish();
        self.connection.to_send.give();
        // The other end is to have what was said before.
        let until = Instant::now() + LINGER;
        while !self.connection.channel().is_delivered() && Instant::now() < until {
            self.wait(&self.connection.room, until).await;
        }
        Ended::Here
    }

    /// Checks a message of this end's node and gives it to the channel.
    fn enter(&self, message: Vec<u8>) -> Result<(), String> {
        let command = message::command(&message).to_owned();
        match explain(&message, self.bridge.scope) {
            Ok(_) => {}
            Err(why) if why.reason == Reason::UnknownCommand => {
                if lock(&self.connection.traffic).drop_unknown(&message) {
                    tracing::info!(
                        command,
                        "a message of a kind that is not known is not passed on"
                    );
                }
                return Ok(());
            }
            Err(why) => {
                return Err(format!("its \"{command}\" message: {why}"));
            }
        }
        let settings = &self.bridge.settings;
        if self.connection.channel().is_narrow(settings.narrow_rate)
            && !lock(&self.connection.narrow).lets_pass(
                self.now(),
                &message,
                settings.narrow_blocks,
            )
        {
            if lock(&self.connection.traffic).hold_back(&message) {
                tracing::info!(command, "the route is narrow: such messages are held back");
            }
            return Ok(());
        }
        let most = self.bridge.largest(&self.connection.peer);
        match lists::cut(self.bridge.magic, message, most) {
            Ok(parts) => {
                let mut traffic = lock(&self.connection.traffic);
                parts.iter().for_each(|part| traffic.sent.passed(part.bytes()));
                drop(traffic);
                self.connection.channel().push(parts);
                self.connection.to_send.give();
            }
            Err(message) => {
                if lock(&self.connection.traffic).hold_back(&message) {
                    let bytes = message.len();
                    tracing::warn!(
                        command,
                        bytes,
                        most,
                        "a message is larger than the nodes on the way take, and is held back"
                    );
                }
            }
        }
        Ok(())
    }

    /// From the channel to the node at this end.
    async fn write(&self, mut tcp: TcpStream) -> Ended {
        loop {
            let message = self.connection.channel().pop();
            match message {
                Some(message) => {
                    message::each(&message)
                        .for_each(|one| lock(&self.connection.traffic).received.passed(one));
                    if let Err(error) = tcp.write_all(&message).await {
                        return failed(error);
                    }
                    self.connection.channel().consumed(self.now());
                    self.connection.to_send.give();
                }
                None if self.connection.channel().has_ended() => {
                    let _ = tcp.close().await;
                    // The acknowledgement goes out before.
                    self.flush().await;
                    return Ended::There;
                }
                None => self.connection.came.wait().await,
            }
        }
    }

    /// Sends a last acknowledgement.
    async fn flush(&self) {
        let most = self.bridge.largest(&self.connection.peer);
        let datagram = self.connection.channel().next_datagram(self.now(), most);
        if let Ok(Some(datagram)) = datagram {
            let _ = self.bridge.send(self.connection.peer, datagram.payload).await;
        }
    }

    /// From the channel to the other end.
    async fn send(&self) -> Ended {
        let mut followed = VecDeque::<(u64, Receiver<Progress>)>::new();
        let mut no_route = None::<Instant>;
        loop {
            let Some(most) = self.bridge.route(&self.connection.peer).await else {
                return lost("the node is stopping");
            };
            self.hear(&mut followed);
            let now = self.now();
            let (next, failure, timer) = {
                let mut channel = self.connection.channel();
                if channel.timer() <= now {
                    channel.timeout(now);
                }
                (channel.next_datagram(now, most), channel.failure(), channel.timer())
            };
            if let Some(failure) = failure {
                return lost(failure);
            }
            match next {
                Err(bytes) => {
                    return lost(format!(
                        "a message of {bytes} bytes is larger than the nodes on the way take now"
                    ));
                }
                Ok(None) => {
                    let pause = Duration::from_micros(timer.saturating_sub(now).max(1000));
                    self.wait(&self.connection.to_send, Instant::now() + pause).await;
                }
                Ok(Some(Datagram { payload, transmission })) => {
                    let (told, progress) =
                        match self.bridge.send(self.connection.peer, payload).await {
                            Some(told) => told,
                            None => return lost("the node is stopping"),
                        };
                    let no_way = matches!(
                        told,
                        Err(MeshError::RoutingError(
                            RoutingReason::NoRoute | RoutingReason::NextHopGone
                        ))
                    );
                    let since = *no_route.get_or_insert_with(Instant::now);
                    if no_way && since.elapsed() > WITHOUT_ROUTE {
                        return lost("there is no route to the other end any more");
                    }
                    no_route = no_route.filter(|_| no_way);
                    match (told, transmission) {
                        (Ok(()), Some(transmission)) => {
                            if followed.len() >= MOST_FOLLOWED {
                                followed.pop_front();
                            }
                            followed.push_back((transmission, progress));
                        }
                        (Ok(()), None) => {}
                        (Err(reason), transmission) => self.refused(reason, transmission).await,
                    }
                }
            }
        }
    }

    /// Reports about datagrams that were sent.
    fn hear(&self, followed: &mut VecDeque<(u64, Receiver<Progress>)>) {
        followed.retain(|(transmission, progress)| match progress.try_recv() {
            Ok(Progress::Stopped { .. }) => {
                self.connection.channel().stopped(self.now(), *transmission);
                false
            }
            Ok(_) => true,
            Err(error) => !error.is_closed(),
        });
    }

    /// This node did not send a datagram.
    async fn refused(&self, reason: MeshError, transmission: Option<u64>) {
        if let Some(transmission) = transmission {
            self.connection.channel().not_sent(transmission);
        }
        tracing::debug!(peer = %self.connection.peer, "a bridged datagram was not sent: {reason}");
        let pause = match reason {
            MeshError::RoutingError(RoutingReason::TooLargeForHop { .. }) => {
                self.bridge.forget_route(&self.connection.peer);
                PAUSE
            }
            MeshError::NetworkError(NetworkReason::Congested) => PAUSE,
            _ => NO_ROUTE_PAUSE,
        };
        smol::Timer::after(pause).await;
    }

    /// Tells the other end that the connection is given up.
    async fn reset(&self) {
        let flags = Flags { reset: true, ..Flags::default() };
        let mut payload = Vec::new();
        Control::of(Kind::Connection, self.connection.id, flags)
            .write(self.bridge.magic, &mut payload);
        let late = async {
            smol::Timer::after(Duration::from_secs(1)).await;
            None
        };
        let _ = smol::future::or(self.bridge.send(self.connection.peer, payload), late).await;
    }

    /// Waits for a signal, or until a time.
    async fn wait(&self, signal: &Signal, until: Instant) {
        let late = async {
            smol::Timer::at(until).await;
        };
        smol::future::or(signal.wait(), late).await;
    }
}
