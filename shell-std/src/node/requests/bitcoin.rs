//! Bitcoin connections over the mesh.

use super::Service;
use crate::bridge::Newest;
use crate::bridge::table::{Connection, lock};
use crate::bridge::traffic::{self, Direction};
use crate::rpc::types::{
    BitcoinBridge, BridgeStats, BridgedConnection, BridgedMessages, HeaderChain, MessageCount,
};
use std::collections::BTreeMap;

fn count(count: traffic::Count) -> MessageCount {
    MessageCount { messages: count.messages, bytes: count.bytes }
}

fn counts(by_command: &BTreeMap<String, traffic::Count>) -> BTreeMap<String, MessageCount> {
    by_command.iter().map(|(command, n)| (command.clone(), count(*n))).collect()
}

fn messages(direction: &Direction) -> BridgedMessages {
    let Direction { by_command, height, announced } = direction;
    let total = traffic::Count {
        messages: by_command.values().map(|n| n.messages).sum(),
        bytes: by_command.values().map(|n| n.bytes).sum(),
    };
    BridgedMessages {
        height: *height,
        announced: *announced,
        total: count(total),
        by_command: counts(by_command),
    }
}

fn chain(newest: Newest) -> HeaderChain {
    let Newest { height, hash, time, checkpoint, reorganisations, gateway } = newest;
    let (hash, time_unix) = (hash.to_string(), time);
    HeaderChain { height, hash, time_unix, checkpoint, reorganisations, gateway }
}

/// What the other end has told of its chain.
fn height(direction: &Direction) -> Option<u32> {
    Some(direction.height?.saturating_add(direction.announced))
}

impl Service {
    /// Some of the connections, in sum.
    pub(super) fn bridged(&self, of: impl Fn(&Connection) -> bool) -> BridgeStats {
        let mut stats = BridgeStats::default();
        for connection in self.node.bridge.list().iter().filter(|connection| of(connection)) {
            let traffic = lock(&connection.traffic);
            stats.connections += 1;
            stats.height = stats.height.max(height(&traffic.received));
            let ways = [
                (&mut stats.sent, &traffic.sent.by_command),
                (&mut stats.received, &traffic.received.by_command),
            ];
            for (sum, by_command) in ways {
                sum.messages += by_command.values().map(|count| count.messages).sum::<u64>();
                sum.bytes += by_command.values().map(|count| count.bytes).sum::<u64>();
            }
            stats.held_back += traffic.held_back.values().map(|count| count.messages).sum::<u64>();
        }
        stats
    }

    pub(super) fn bitcoin(&self) -> BitcoinBridge {
        let now = self.node.clock.now();
        let settings = &self.node.settings().bridge;
        let shown = |connection: &Connection| {
            let (round_trip_us, repeated) = {
                let channel = connection.channel();
                (channel.round_trip(), channel.repeated())
            };
            let traffic = lock(&connection.traffic);
            BridgedConnection {
                peer: connection.peer,
                gateway: !connection.opened,
                age_ms: now.saturating_sub(connection.since) / 1000,
                round_trip_us,
                sent: messages(&traffic.sent),
                received: messages(&traffic.received),
                repeated,
                held_back: counts(&traffic.held_back),
                unknown: counts(&traffic.unknown),
            }
        };
        BitcoinBridge {
            node: settings.node.map(|node| node.to_string()),
            listen: settings.listen.iter().map(ToString::to_string).collect(),
            headers: self.node.headers.newest().map(chain),
            connections: self.node.bridge.list().iter().map(|c| shown(c)).collect(),
        }
    }
}
