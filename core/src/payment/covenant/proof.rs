//! A covenant proof on the wire. Integers are little-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 2 | output index of the first party |
//! | 2, then that many | template transaction, at most [`MAX_TEMPLATE`] |
//! | 2, then that many | funding transaction, at most [`MAX_FUNDING`] |
//! | 32 | hash of the block that holds the funding transaction |
//! | 4 | position of the funding transaction in the block |
//! | 1, then 32 each | siblings on its Merkle path, at most [`MAX_SIBLINGS`] |
//!
//! Which funding output the template spends is read from the template's input.
//! Both transactions may be with or without witness; without is shorter
//! ([`TxView::write_stripped`](crate::payment::tx::TxView::write_stripped)).

use crate::payment::merkle::MAX_SIBLINGS;

/// Most bytes of a template transaction: room for the longest route.
pub const MAX_TEMPLATE: usize = 2_048;
/// Most bytes of a funding transaction.
pub const MAX_FUNDING: usize = 16_384;
/// Most bytes of a whole proof.
pub const MAX_PROOF: usize = 2 + 2 + MAX_TEMPLATE + 2 + MAX_FUNDING + 37 + 32 * MAX_SIBLINGS;

/// Why bytes are not a covenant proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum ProofError {
    /// A field reaches past the end.
    #[error("the covenant proof ends too early")]
    Truncated,
    /// Bytes follow the last field.
    #[error("bytes follow the covenant proof")]
    TrailingBytes,
    /// The template is longer than [`MAX_TEMPLATE`].
    #[error("the template transaction is longer than 2,048 bytes")]
    LongTemplate,
    /// The funding transaction is longer than [`MAX_FUNDING`].
    #[error("the funding transaction is longer than 16,384 bytes")]
    LongFunding,
    /// The siblings are not whole hashes, or more than [`MAX_SIBLINGS`].
    #[error("the Merkle path is not made of at most 32 whole hashes")]
    BadPath,
    /// The buffer to write to is shorter than the proof.
    #[error("the buffer is too short for the covenant proof")]
    BufferTooShort,
}

/// A covenant proof as a view of its bytes. Lengths are checked when it is read
/// and when it is written, contents by [`check`](super::check).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CovenantProof<'a> {
    /// Template output of the first intermediate, or of the destination if
    /// there is none.
    pub output_index: u16,
    /// The transaction that pays the parties, serialised.
    pub template: &'a [u8],
    /// The transaction that made the coin which the template spends, serialised.
    pub funding: &'a [u8],
    /// Hash of the block that the funding transaction is in, in internal byte order.
    pub block_hash: [u8; 32],
    /// Place of the funding transaction in that block, 0 for the first.
    pub position: u32,
    /// Its Merkle siblings from the bottom up, 32 bytes each.
    pub siblings: &'a [u8],
}

impl<'a> CovenantProof<'a> {
    /// Reads all of `bytes` as one proof.
    ///
    /// # Errors
    /// [`ProofError`]: it is cut short, too long, or bytes are left over.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ProofError> {
        let mut rest = bytes;
        let output_index = u16::from_le_bytes(array(&mut rest)?);
        let template = sized(&mut rest, MAX_TEMPLATE, ProofError::LongTemplate)?;
        let funding = sized(&mut rest, MAX_FUNDING, ProofError::LongFunding)?;
        let block_hash = array(&mut rest)?;
        let position = u32::from_le_bytes(array(&mut rest)?);
        let [count] = array(&mut rest)?;
        if usize::from(count) > MAX_SIBLINGS {
            return Err(ProofError::BadPath);
        }
        let siblings = take(&mut rest, 32 * usize::from(count))?;
        if !rest.is_empty() {
            return Err(ProofError::TrailingBytes);
        }
        Ok(Self { output_index, template, funding, block_hash, position, siblings })
    }

    /// Length in bytes when written.
    pub fn encoded_len(&self) -> usize {
        2 + 2 + self.template.len() + 2 + self.funding.len() + 32 + 4 + 1 + self.siblings.len()
    }

    /// Writes the proof to the start of `out` and returns its length.
    ///
    /// # Errors
    /// [`ProofError`]: a part is too long, or `out` too small.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, ProofError> {
        let template = len_field(self.template, MAX_TEMPLATE).ok_or(ProofError::LongTemplate)?;
        let funding = len_field(self.funding, MAX_FUNDING).ok_or(ProofError::LongFunding)?;
        let count = u8::try_from(self.siblings.len() / 32).map_err(|_| ProofError::BadPath)?;
        if !self.siblings.len().is_multiple_of(32) || usize::from(count) > MAX_SIBLINGS {
            return Err(ProofError::BadPath);
        }
        let mut rest = out.get_mut(..self.encoded_len()).ok_or(ProofError::BufferTooShort)?;
        for field in [
            &self.output_index.to_le_bytes()[..],
            &template,
            self.template,
            &funding,
            self.funding,
            &self.block_hash,
            &self.position.to_le_bytes(),
            &[count],
            self.siblings,
        ] {
            let (head, tail) =
                rest.split_at_mut_checked(field.len()).ok_or(ProofError::BufferTooShort)?;
            head.copy_from_slice(field);
            rest = tail;
        }
        Ok(self.encoded_len())
    }
}

fn len_field(bytes: &[u8], most: usize) -> Option<[u8; 2]> {
    u16::try_from(bytes.len()).ok().filter(|_| bytes.len() <= most).map(u16::to_le_bytes)
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8], ProofError> {
    let (head, tail) = rest.split_at_checked(n).ok_or(ProofError::Truncated)?;
    *rest = tail;
    Ok(head)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ProofError> {
    let (head, tail) = rest.split_first_chunk().ok_or(ProofError::Truncated)?;
    *rest = tail;
    Ok(*head)
}

fn sized<'a>(
    rest: &mut &'a [u8],
    most: usize,
    too_long: ProofError,
) -> Result<&'a [u8], ProofError> {
    let len = usize::from(u16::from_le_bytes(array(rest)?));
    if len > most { Err(too_long) } else { take(rest, len) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    const SMALL: CovenantProof<'_> = CovenantProof {
        output_index: 0x0102,
        template: &[0xaa; 3],
        funding: &[0xbb; 2],
        block_hash: [0xcc; 32],
        position: 0x0304_0506,
        siblings: &[0xdd; 32],
    };

    #[test]
    fn layout_by_hand() {
        let mut out = [0; 128];
        let len = SMALL.emit(&mut out).unwrap();
        let expected = std::format!(
            "0201 0300aaaaaa 0200bbbb {} 06050403 01{}",
            "cc".repeat(32),
            "dd".repeat(32)
        );
        assert_eq!(hex::encode(&out[..len]), expected.replace(' ', ""));
        for n in 0..len {
            assert_eq!(CovenantProof::parse(&out[..n]), Err(ProofError::Truncated));
            assert_eq!(SMALL.emit(&mut { out }[..n]), Err(ProofError::BufferTooShort));
        }
        assert_eq!(CovenantProof::parse(&out[..len + 1]), Err(ProofError::TrailingBytes));
    }

    #[test]
    fn every_length_is_bounded() {
        let long = std::vec![0; MAX_FUNDING + 1];
        let mut out = std::vec![0; 2 * MAX_PROOF];
        let mut emit = |p: CovenantProof<'_>| p.emit(&mut out);
        let most = CovenantProof {
            template: &long[..MAX_TEMPLATE],
            funding: &long[..MAX_FUNDING],
            siblings: &long[..32 * MAX_SIBLINGS],
            ..SMALL
        };
        assert_eq!(emit(most), Ok(MAX_PROOF));
        let template = &long[..MAX_TEMPLATE + 1];
        assert_eq!(emit(CovenantProof { template, ..SMALL }), Err(ProofError::LongTemplate));
        assert_eq!(emit(CovenantProof { funding: &long, ..SMALL }), Err(ProofError::LongFunding));
        for len in [31, 33, 32 * (MAX_SIBLINGS + 1), 32 * 257] {
            let siblings = &long[..len];
            assert_eq!(emit(CovenantProof { siblings, ..SMALL }), Err(ProofError::BadPath));
        }
        // The same from the reader's side, whatever follows.
        let parse = |head: &[u8]| CovenantProof::parse(&[head, &long].concat()).unwrap_err();
        assert_eq!(parse(&[0, 0, 0x01, 0x08]), ProofError::LongTemplate);
        assert_eq!(parse(&[0, 0, 0, 0, 0x01, 0x40]), ProofError::LongFunding);
        assert_eq!(parse(&[&[0; 6 + 36][..], &[33]].concat()), ProofError::BadPath);
    }

    proptest! {
        #[test]
        fn round_trip(
            (output_index, block_hash, position) in any::<(u16, [u8; 32], u32)>(),
            template in vec(any::<u8>(), 0..300),
            funding in vec(any::<u8>(), 0..300),
            siblings in vec(any::<[u8; 32]>(), 0..=MAX_SIBLINGS),
        ) {
            let siblings = siblings.concat();
            let proof = CovenantProof {
                output_index, template: &template, funding: &funding, block_hash, position,
                siblings: &siblings,
            };
            let mut out = std::vec![0; proof.encoded_len()];
            prop_assert_eq!(proof.emit(&mut out), Ok(out.len()));
            prop_assert_eq!(CovenantProof::parse(&out), Ok(proof));
        }

        /// What is read is written back as the same bytes: one form per proof.
        #[test]
        fn arbitrary_bytes(mut bytes in vec(prop_oneof![Just(0), any::<u8>()], 0..400)) {
            if let Ok(proof) = CovenantProof::parse(&bytes) {
                let mut out = std::vec![0; bytes.len()];
                prop_assert_eq!(proof.emit(&mut out), Ok(bytes.len()));
                prop_assert_eq!(&out, &bytes);
            }
            // Lengths that fit, so that many cases get to the end.
            bytes.resize(43, 0);
            bytes[2..6].fill(0);
            bytes[42] = 0;
            prop_assert!(CovenantProof::parse(&bytes).is_ok());
        }
    }
}
