//! What passes on a bridged connection, by message.

use super::message;
use std::collections::BTreeMap;

/// Messages of one command, one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Count {
    fn add(&mut self, message: &[u8]) {
        self.messages += 1;
        self.bytes += message.len() as u64;
    }
}

/// One direction. The commands are those that are recognised, some forty.
#[derive(Debug, Clone, Default)]
pub(crate) struct Direction {
    pub(crate) by_command: BTreeMap<String, Count>,
    /// Height of the chain that the sender has stated in its `version`.
    pub(crate) height: Option<u32>,
    /// Headers that it has announced since, one at a time, as a node does that is in sync.
    pub(crate) announced: u32,
}

impl Direction {
    /// A message has passed.
    pub(crate) fn passed(&mut self, message: &[u8]) {
        let (command, payload) = (message::command(message), message::payload(message));
        match self.by_command.get_mut(command) {
            Some(count) => count.add(message),
            None => self.by_command.entry(command.to_owned()).or_default().add(message),
        }
        match command {
            "version" => self.height = height(payload).or(self.height),
            "headers" if payload.first() == Some(&1) => self.announced += 1,
            "cmpctblock" => self.announced += 1,
            _ => {}
        }
    }
}

/// The height in a `version` message: behind the user agent.
fn height(version: &[u8]) -> Option<u32> {
    let (agent, rest) = version.get(80..)?.split_first()?;
    let field = rest.get(usize::from(*agent)..)?.first_chunk()?;
    u32::try_from(i32::from_le_bytes(*field)).ok()
}

/// Both directions of a connection, and what did not pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traffic {
    /// From the node at this end.
    pub(crate) sent: Direction,
    /// To the node at this end.
    pub(crate) received: Direction,
    /// Messages of this end's node that no node on the way would take, by command.
    pub(crate) held_back: BTreeMap<String, Count>,
    /// Commands of this end's node that are not known here: at most [`MOST_UNKNOWN`].
    pub(crate) unknown: BTreeMap<String, Count>,
}

/// Unknown commands that are told apart.
const MOST_UNKNOWN: usize = 32;

impl Traffic {
    /// A message is not worth its air time, or too large: whether it is the first of its kind.
    pub(crate) fn hold_back(&mut self, message: &[u8]) -> bool {
        let count = self.held_back.entry(message::command(message).to_owned()).or_default();
        count.add(message);
        count.messages == 1
    }

    /// A message whose command is not known: whether it is the first of its kind.
    pub(crate) fn drop_unknown(&mut self, message: &[u8]) -> bool {
        let command = message::command(message);
        if self.unknown.len() >= MOST_UNKNOWN && !self.unknown.contains_key(command) {
            return false;
        }
        let count = self.unknown.entry(command.to_owned()).or_default();
        count.add(message);
        count.messages == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_counted_and_the_height_is_read() {
        let mut payload = vec![0; 80];
        payload.extend_from_slice(b"\x0a/test:0.1/");
        payload.extend_from_slice(&812_345u32.to_le_bytes());
        payload.push(1);
        let (mut version, mut one, mut many) = (Vec::new(), Vec::new(), Vec::new());
        let magic = [0xfa, 0xbf, 0xb5, 0xda];
        message::write(magic, "version", &payload, &mut version);
        message::write(magic, "headers", &[&[1][..], &[0; 81]].concat(), &mut one);
        message::write(magic, "headers", &[&[2][..], &[0; 162]].concat(), &mut many);
        let mut direction = Direction::default();
        [&version, &one, &many, &one].into_iter().for_each(|message| direction.passed(message));
        assert_eq!((direction.height, direction.announced), (Some(812_345), 2));
        let headers = direction.by_command["headers"];
        assert_eq!((headers.messages, headers.bytes), (3, 2 * 106 + 187));
        assert_eq!(direction.by_command["version"].bytes, version.len() as u64);
        // A version that ends early says nothing.
        assert!(height(&payload[..payload.len() - 3]).is_none() && height(&[]).is_none());
    }

    #[test]
    fn unknown_commands_take_bounded_memory() {
        let mut traffic = Traffic::default();
        for n in 0..1000 {
            let mut message = Vec::new();
            message::write([0; 4], &format!("new{n}"), &[], &mut message);
            assert_eq!(traffic.drop_unknown(&message), n < MOST_UNKNOWN, "{n}");
            assert!(!traffic.drop_unknown(&message));
        }
        assert_eq!(traffic.unknown.len(), MOST_UNKNOWN);
    }
}
