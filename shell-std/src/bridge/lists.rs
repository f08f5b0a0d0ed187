//! Lists that are larger than a route carries in one packet are cut into valid messages of their
//! kind, and joined again at the other end: a node takes fewer than 2,000 headers for all that
//! there are.

use super::channel::Message;
use super::message::{self, HEADER_LEN, Magic};

/// Bytes of each entry of a list of this command.
fn entry_len(command: &str) -> Option<usize> {
    match command {
        "headers" => Some(81),
        "inv" | "getdata" | "notfound" => Some(36),
        "addr" => Some(30),
        _ => None,
    }
}

/// A CompactSize, and what follows it.
fn count(payload: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = payload.split_first()?;
    let len = match first {
        0xfd => 2,
        0xfe => 4,
        0xff => return None,
        small => return Some((usize::from(*small), rest)),
    };
    let (number, rest) = rest.split_at_checked(len)?;
    let number = number.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte));
    Some((number, rest))
}

fn write_count(count: usize, out: &mut Vec<u8>) {
    let bytes = (count as u32).to_le_bytes();
    match count {
        0..0xfd => out.extend_from_slice(bytes.get(..1).unwrap_or_default()),
        0xfd..0x1_0000 => {
            out.push(0xfd);
            out.extend_from_slice(bytes.get(..2).unwrap_or_default());
        }
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&bytes);
        }
    }
}

/// The entries of a list, if the message is one and holds what it says.
fn entries(list: &[u8]) -> Option<(&[u8], usize)> {
    let len = entry_len(message::command(list))?;
    let (count, entries) = count(message::payload(list))?;
    (entries.len() == count.checked_mul(len)?).then_some((entries, len))
}

fn list(magic: Magic, command: &str, entries: &[u8], len: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(entries.len() + 5);
    write_count(entries.len() / len, &mut payload);
    payload.extend_from_slice(entries);
    let mut out = Vec::with_capacity(HEADER_LEN + payload.len());
    message::write(magic, command, &payload, &mut out);
    out
}

/// Cuts a message into as many as it takes for none to exceed `most` bytes. `Err`: it cannot be
/// cut, and is given back.
pub(crate) fn cut(magic: Magic, whole: Vec<u8>, most: usize) -> Result<Vec<Message>, Vec<u8>> {
    if whole.len() <= most {
        return Ok(vec![Message::Whole(whole)]);
    }
    let Some((all, len)) = entries(&whole) else { return Err(whole) };
    let each = most.saturating_sub(HEADER_LEN + 5) / len * len;
    if each == 0 {
        return Err(whole);
    }
    let command = message::command(&whole);
    let mut parts: Vec<Message> =
        all.chunks(each).map(|part| Message::Part(list(magic, command, part, len))).collect();
    if let Some(last) = parts.last_mut()
        && let Message::Part(bytes) = last
    {
        *last = Message::Whole(std::mem::take(bytes));
    }
    Ok(parts)
}

/// Joins the parts of a list. What does not belong together stays several messages.
pub(crate) fn join(parts: &[Vec<u8>]) -> Vec<u8> {
    let joined = || {
        let first = parts.first()?;
        let (magic, command) = (first.first_chunk::<4>()?, message::command(first));
        let (_, len) = entries(first)?;
        let mut all = Vec::with_capacity(parts.iter().map(Vec::len).sum());
        for part in parts {
            let (some, _) = entries(part).filter(|_| message::command(part) == command)?;
            all.extend_from_slice(some);
        }
        Some(list(*magic, command, &all, len))
    };
    joined().unwrap_or_else(|| parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAGIC: Magic = [0xfa, 0xbf, 0xb5, 0xda];

    proptest! {
        #[test]
        fn a_list_is_the_same_after_it_was_cut_and_joined(
            command in prop::sample::select(vec!["headers", "inv", "getdata", "notfound", "addr"]),
            count in 0..700usize,
            most in 120..9000usize,
        ) {
            let len = entry_len(command).unwrap();
            let bytes: Vec<u8> = (0..count * len).map(|n| n as u8).collect();
            let whole = list(MAGIC, command, &bytes, len);
            let parts = cut(MAGIC, whole.clone(), most).unwrap();
            let (last, others) = parts.split_last().unwrap();
            prop_assert!(matches!(last, Message::Whole(_)));
            prop_assert!(others.iter().all(|part| matches!(part, Message::Part(_))));
            let bytes = |message: &Message| match message {
                Message::Whole(bytes) | Message::Part(bytes) => bytes.clone(),
                Message::End => unreachable!(),
            };
            prop_assert!(parts.iter().all(|part| bytes(part).len() <= most));
            let parts: Vec<_> = parts.iter().map(bytes).collect();
            prop_assert_eq!(join(&parts), whole);
        }
    }

    #[test]
    fn what_cannot_be_cut_is_given_back_and_what_differs_stays_apart() {
        let mut block = Vec::new();
        message::write(MAGIC, "block", &[1; 500], &mut block);
        assert_eq!(cut(MAGIC, block.clone(), 400), Err(block.clone()));
        let inv = list(MAGIC, "inv", &[2; 72], 36);
        assert_eq!(cut(MAGIC, inv.clone(), 40), Err(inv.clone()));
        assert_eq!(join(&[inv.clone(), block.clone()]), [inv, block].concat());
    }
}
