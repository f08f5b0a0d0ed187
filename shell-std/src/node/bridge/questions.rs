//! Questions of other nodes, until the Bitcoin node is asked.

use crate::bridge::Signal;
use crate::bridge::table::{About, lock};
use std::collections::VecDeque;
use std::sync::Mutex;

/// Questions that wait for the Bitcoin node, and of them those that one neighbour brought; whoever
/// asks more asks again.
const QUESTIONS: usize = 16;
const FROM_ONE: usize = QUESTIONS / 2;

/// What waits for the Bitcoin node.
#[derive(Default)]
pub(super) struct Questions {
    waiting: Mutex<VecDeque<About>>,
    more: Signal,
}

impl Questions {
    pub(super) fn put(&self, about: About) {
        let mut waiting = lock(&self.waiting);
        let from_there = waiting.iter().filter(|other| other.from == about.from).count();
        if waiting.len() < QUESTIONS && from_there < FROM_ONE {
            waiting.push_back(about);
            self.more.give();
        }
    }

    pub(super) async fn next(&self) -> About {
        loop {
            let next = lock(&self.waiting).pop_front();
            match next {
                Some(next) => return next,
                None => self.more.wait().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::id::NodeId;

    #[test]
    fn no_neighbour_has_all_places_of_questions() {
        let questions = Questions::default();
        let put = |from: u8, count: usize| {
            for _ in 0..count {
                let (source, from) = (NodeId([1; 32]), NodeId([from; 32]));
                questions.put(About { source, from, id: 0, end: false, messages: Vec::new() });
            }
            lock(&questions.waiting).len()
        };
        assert_eq!((put(1, 20), put(2, 1)), (FROM_ONE, FROM_ONE + 1));
        assert_eq!((put(2, 20), put(3, 20)), (QUESTIONS, QUESTIONS));
        assert_eq!(smol::block_on(questions.next()).from, NodeId([1; 32]));
        assert_eq!(put(1, 20), QUESTIONS);
    }
}
