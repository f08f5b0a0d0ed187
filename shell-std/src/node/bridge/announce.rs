//! What a gateway does about headers for others: it answers their questions by its Bitcoin node, and
//! tells them of new blocks; and boards, which cannot ask, are sent each header.

use super::headers::HeaderSync;
use super::peer::BitcoinPeer;
use super::questions::Questions;
use super::shared::Bridge;
use crate::bridge::headers::{self, Said};
use crate::bridge::table::{About, lock};
use crate::headers::MOST_IN_MESSAGE;
use crate::rpc::types::PeerState;
use bitcoin::block::Header;
use blvm_mesh_core::id::NodeId;
use smol::channel::Receiver;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a node is told of new blocks that asked for it.
const FOLLOWS: Duration = Duration::from_secs(5400);
/// Nodes that are told, and of them those by one neighbour.
const MOST: usize = 256;
const BY_ONE: usize = MOST / 2;
/// More new headers than that at once are not told: who misses some asks.
const MOST_TOLD: usize = 12;
/// Headers in the first answer to a node. The next has twice as many if it was asked for within
/// [`QUICK`], and half as many after [`SLOW`]: a line of any speed is to carry an answer well
/// within the patience of whoever asks.
const FIRST_ANSWER: usize = 100;
const FEWEST: usize = 25;
const QUICK: Duration = Duration::from_secs(4);
const SLOW: Duration = Duration::from_secs(8);
/// Headers in one message to a board: their number is one byte, and a board holds a message whole.
const TO_BOARD: usize = 12;
/// Headers before the new ones that a board is sent again: one may have been lost.
const REPEATED: u32 = 2;
/// How often it is looked whether a board was started again, and the pause between messages to it.
const LOOK: Duration = Duration::from_secs(10);
const BOARD_PAUSE: Duration = Duration::from_millis(50);

/// A node that is told of new blocks.
#[derive(Debug, Clone, Copy)]
struct Follower {
    /// Names its question.
    id: u64,
    /// The neighbour that brought it.
    by: NodeId,
    until: Instant,
    pace: Pace,
}

/// How many headers a node is sent at once, and when it was sent the last of which there are more.
#[derive(Debug, Clone, Copy)]
struct Pace {
    most: usize,
    sent: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { most: FIRST_ANSWER, sent: None }
    }
}

impl Pace {
    /// Another question: how many headers are sent now.
    fn asked(&mut self, now: Instant) -> usize {
        if let Some(sent) = self.sent.take() {
            let took = now.saturating_duration_since(sent);
            if took <= QUICK {
                self.most = (self.most * 2).min(MOST_IN_MESSAGE);
            } else if took > SLOW {
                self.most = (self.most / 2).max(FEWEST);
            }
        }
        self.most
    }
}

/// Those that are told.
#[derive(Debug, Default)]
pub(super) struct Followers(Mutex<HashMap<NodeId, Follower>>);

impl Followers {
    /// A node asks to be told. Nobody takes more than half of the places by one neighbour, whatever
    /// sources it names. Returns how many headers it is sent now.
    fn add(&self, node: NodeId, id: u64, by: NodeId, now: Instant) -> usize {
        let mut all = lock(&self.0);
        all.retain(|_, follower| follower.until > now);
        let mut pace = all.get(&node).map_or_else(Pace::default, |follower| follower.pace);
        let most = pace.asked(now);
        let new = Follower { id, by, until: now + FOLLOWS, pace };
        let others = all.iter().filter(|(other, _)| **other != node);
        let (in_all, by_it) = others.fold((0, 0), |(all, by), (_, follower)| {
            (all + 1, by + usize::from(follower.by == new.by))
        });
        if in_all < MOST && by_it < BY_ONE {
            all.insert(node, new);
        }
        most
    }

    /// A node was sent headers after which there are more.
    fn sent_some(&self, node: &NodeId, now: Instant) {
        if let Some(follower) = lock(&self.0).get_mut(node) {
            follower.pace.sent = Some(now);
        }
    }

    fn list(&self, now: Instant) -> Vec<(NodeId, u64)> {
        let mut all = lock(&self.0);
        all.retain(|_, follower| follower.until > now);
        all.iter().map(|(node, follower)| (*node, follower.id)).collect()
    }
}

/// Takes the questions of others.
pub(super) async fn sort(arrivals: Receiver<About>, questions: Arc<Questions>) {
    while let Ok(about) = arrivals.recv().await {
        questions.put(about);
    }
}

/// Answers questions.
pub(super) async fn answer(
    bridge: Arc<Bridge>,
    peer: Arc<BitcoinPeer>,
    questions: Arc<Questions>,
    followers: Arc<Followers>,
) {
    let magic = bridge.magic;
    loop {
        let About { source, from: by, id, messages, .. } = questions.next().await;
        let Some(Said::Ask { question, follow }) = headers::said(magic, &messages) else {
            continue;
        };
        let most = match follow {
            true => followers.add(source, id, by, Instant::now()),
            false => FIRST_ANSWER,
        };
        if let Some(headers) = peer.headers(question).await {
            let some = headers.get(..most).unwrap_or(&headers);
            let all = headers.len() < MOST_IN_MESSAGE && some.len() == headers.len();
            let payload = |room| headers::answer(magic, id, some, all, room);
            bridge.answer_fitting(source, payload).await;
            if !all {
                followers.sent_some(&source, Instant::now());
            }
        }
    }
}

/// Tells of new blocks.
pub(super) async fn tell(bridge: Arc<Bridge>, sync: Arc<HeaderSync>, followers: Arc<Followers>) {
    let boards: Vec<_> = bridge
        .settings
        .announce_to
        .iter()
        .map(|(board, begins)| Board { node: *board, begins: *begins, told: *begins, link: None })
        .collect();
    let boards = Mutex::new(boards);
    let telling = async {
        loop {
            sync.new.wait().await;
            let Some(from) = sync.take_new() else { continue };
            tell_boards(&bridge, &sync, &boards, Some(from)).await;
            let headers = sync.some(from, MOST_TOLD + 1);
            if headers.is_empty() || headers.len() > MOST_TOLD {
                continue;
            }
            for (node, id) in followers.list(Instant::now()) {
                let payload = |room| headers::answer(bridge.magic, id, &headers, true, room);
                bridge.answer_fitting(node, payload).await;
            }
        }
    };
    let looking = async {
        loop {
            tell_boards(&bridge, &sync, &boards, None).await;
            if lock(&boards).is_empty() {
                std::future::pending::<()>().await;
            }
            smol::Timer::after(LOOK).await;
        }
    };
    smol::future::or(telling, looking).await
}

/// A board that follows headers which come by.
#[derive(Debug, Clone, Copy)]
struct Board {
    node: NodeId,
    /// The height of the block that it is configured with.
    begins: u32,
    /// The height up to which it was told, since it was started.
    told: u32,
    /// The link over which that was.
    link: Option<u32>,
}

/// Sends boards what they have not been sent since their link came up: before that they may have been
/// started again, and know nothing any more. `from`: a chain has replaced another from there on.
async fn tell_boards(
    bridge: &Bridge,
    sync: &HeaderSync,
    boards: &Mutex<Vec<Board>>,
    from: Option<u32>,
) {
    let all = lock(boards).clone();
    if all.is_empty() {
        return;
    }
    let Some(peers) = bridge.node.peers().await else { return };
    for (place, mut board) in all.into_iter().enumerate() {
        let up = peers.iter().find(|peer| {
            peer.node_id == board.node && peer.state == PeerState::Up && peer.link.is_some()
        });
        let Some(link) = up.and_then(|peer| peer.link) else { continue };
        if board.link != Some(link) {
            (board.told, board.link) = (board.begins, Some(link));
        }
        if let Some(from) = from {
            board.told = board.told.min(from.saturating_sub(1)).max(board.begins);
        }
        if board.told < sync.height() {
            let again = board.told.saturating_sub(REPEATED).max(board.begins);
            board.told = feed(bridge, sync, board.node, again).await;
        }
        if let Some(kept) = lock(boards).get_mut(place) {
            *kept = board;
        }
    }
}

/// Sends a board the headers after a height: up to which they were sent.
async fn feed(bridge: &Bridge, sync: &HeaderSync, board: NodeId, after: u32) -> u32 {
    let mut told = after;
    loop {
        let Some(room) = bridge.route(&board).await else { return told };
        let most = headers::fit(room).min(TO_BOARD);
        let some: Vec<Header> = sync.some(told.saturating_add(1), most);
        if some.is_empty() {
            return told;
        }
        let sent = bridge.send(board, headers::plain(bridge.magic, &some)).await;
        if !matches!(sent, Some((Ok(()), _))) {
            return told;
        }
        told = told.saturating_add(some.len() as u32);
        smol::Timer::after(BOARD_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_neighbour_has_all_places_and_they_are_free_again() {
        let (followers, now) = (Followers::default(), Instant::now());
        let add = |node: u16, by: u8, now: Instant| {
            let mut id = [0; 32];
            id[..2].copy_from_slice(&node.to_le_bytes());
            followers.add(NodeId(id), node.into(), NodeId([by; 32]), now);
        };
        (0..400).for_each(|node| add(node, 1, now));
        assert_eq!(followers.list(now).len(), BY_ONE);
        (400..800).for_each(|node| add(node, 2, now));
        assert_eq!(followers.list(now).len(), MOST);
        add(900, 3, now);
        assert_eq!(followers.list(now).len(), MOST);
        // Asking again keeps a place, and takes no second one.
        add(5, 1, now + FOLLOWS / 2);
        let later = now + FOLLOWS;
        assert_eq!(followers.list(later).iter().map(|(_, id)| *id).collect::<Vec<_>>(), [5]);
        add(900, 3, later);
        assert_eq!(followers.list(later).len(), 2);
    }

    #[test]
    fn a_slow_line_is_given_few_headers_at_once_and_a_fast_one_many() {
        let (node, by, begin) = (NodeId([1; 32]), NodeId([2; 32]), Instant::now());
        // Each answer takes its time on a line of so many bytes a second.
        let sizes = |bytes_per_s: f64| -> Vec<usize> {
            let (followers, mut now) = (Followers::default(), begin);
            let answer = |_| {
                let most = followers.add(node, 1, by, now);
                followers.sent_some(&node, now);
                now += Duration::from_secs_f64((most * 81) as f64 / bytes_per_s);
                most
            };
            (0..7).map(answer).collect()
        };
        assert_eq!(sizes(1e6), [100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(sizes(11_520.0), [100, 200, 400, 800, 800, 800, 800]);
        assert_eq!(sizes(960.0), [100, 50, 50, 50, 50, 50, 50][..]);
        assert_eq!(sizes(240.0), [100, 50, 25, 25, 25, 25, 25]);
        // New blocks are asked for long after: that tells nothing of the line.
        let followers = Followers::default();
        for hours in 0..3 {
            let now = begin + Duration::from_secs(3_600 * hours);
            assert_eq!(followers.add(node, 1, by, now), FIRST_ANSWER);
        }
    }
}
