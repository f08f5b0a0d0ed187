//! What is shown, scene by scene. `Ok` says what was seen, `Err` what was not as it
//! should be.

use super::actor::{free, unchecked};
use super::stage::{Stage, invoice};
use crate::covenant::{CovenantMakeError, Payout, Template};
use crate::identity::Identity;
use crate::issuer::{Issuer, unix_now};
use crate::regtest;
use crate::rpc::types::{CovenantProof, Proof, Role};
use bitcoin::blockdata::constants::genesis_block;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::p2p::Magic;
use bitcoin::p2p::message::{NetworkMessage, RawNetworkMessage};
use bitcoin::{BlockHash, MerkleBlock};
use blvm_mesh_core::payment::covenant::replay_key;
use blvm_mesh_core::payment::fee::{FeeDistribution, Party};
use std::time::Instant;

/// Satoshi per 1,000 virtual bytes that a covenant's template leaves for miners.
const FEE_RATE: u64 = 1_000;

pub(super) type Shown = Result<String, String>;

/// A scene: its title, and what happens in it.
type Scene = (&'static str, fn(&mut Stage) -> Shown);

/// All scenes, in order: each builds on those before.
pub(super) const ALL: [Scene; 11] = [
    ("Start A - B - C", start),
    ("Genesis block, A to C through B, free", block),
    ("4 KiB of other data without payment", unpaid),
    ("The same with a proof of payment", paid),
    ("The same proof again", replayed),
    ("An invoice by a stranger to himself", self_issued),
    ("The same paid by a covenant, then once more", covenant),
    ("10 MB through a forwarded port, B is killed meanwhile", super::flows::forwarded),
    ("B is killed and restarted, the old proof again", restarted),
    ("D joins, as a second way", joined),
    ("B dies, the route is repaired over D", repaired),
];

pub(super) const A: usize = 0;
pub(super) const B: usize = 1;
pub(super) const C: usize = 2;
const D: usize = 3;

fn start(stage: &mut Stage) -> Shown {
    stage.start("A", &[])?;
    let a = stage.actor(A)?.address();
    stage.start("B", &[a])?;
    let b = stage.actor(B)?.address();
    stage.start("C", &[b])?;
    let (a, c) = (stage.actor(A)?.id()?, stage.actor(C)?.id()?);
    stage.actor(B)?.wait_for_links(&[a, c])?;
    let at = stage.dir().display().to_string();
    Ok(format!("three processes, each with its own key and store in {at}, linked"))
}

/// The first block of the main chain, as a message between Bitcoin nodes.
fn genesis() -> Vec<u8> {
    let block = genesis_block(bitcoin::Network::Bitcoin);
    serialize(&RawNetworkMessage::new(Magic::BITCOIN, NetworkMessage::Block(block)))
}

fn data() -> Vec<u8> {
    (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// How the block went from A to C.
struct Carried {
    hops: u8,
    micros: f64,
    /// How often it was sent: a link that dies takes along what is on it.
    times: u32,
}

/// Sends the block from A to C, again every half second until it arrives.
fn carry_block(stage: &mut Stage) -> Result<Carried, String> {
    let (message, to) = (genesis(), stage.actor(C)?.id()?);
    let start = Instant::now();
    for times in 1..=20 {
        let Ok(sent) = stage.actor(A)?.send(free(to, message.clone()))? else { continue };
        let Some(got) = stage.actor(C)?.receive(500)? else { continue };
        let micros = start.elapsed().as_secs_f64() * 1e6;
        return match got.data == message && got.protocol == "BitcoinP2P" {
            true => Ok(Carried { hops: sent.hops, micros, times }),
            false => Err(format!("C received {} bytes of {}", got.data.len(), got.protocol)),
        };
    }
    Err("C received nothing".into())
}

fn block(stage: &mut Stage) -> Shown {
    carry_block(stage)?;
    let Carried { hops, micros, times } = carry_block(stage)?;
    let bytes = genesis().len();
    match (hops, times) {
        (1, 1) => {
            Ok(format!("{bytes} bytes as BitcoinP2P, {micros:.0} us once the route is known"))
        }
        _ => Err(format!("it went over {hops} hops, and was sent {times} times")),
    }
}

/// Sends the data from A, whatever A thinks of it: B must refuse it for this reason.
fn refused_by_b(stage: &mut Stage, proof: Option<Proof>, reason: &str) -> Shown {
    let (b, to) = (stage.actor(B)?.id()?, stage.actor(C)?.id()?);
    let refusal = match stage.actor(A)?.send(unchecked(to, data(), proof))? {
        Ok(_) => return Err("nobody refused it".into()),
        Err(refusal) => refusal,
    };
    let by_b = refusal.strip_prefix(&format!("{} says: ", b.hop()));
    let Some(sentence) = by_b.filter(|sentence| sentence.contains(reason)) else {
        return Err(refusal);
    };
    match stage.actor(C)?.receive(0)? {
        None => Ok(format!("refused by B: {sentence}")),
        Some(_) => Err("C received it all the same".into()),
    }
}

fn unpaid(stage: &mut Stage) -> Shown {
    refused_by_b(stage, None, "payment is required")
}

fn paid(stage: &mut Stage) -> Shown {
    let (data, to) = (data(), stage.actor(C)?.id()?);
    let quote = stage.actor(A)?.quote(to, data.len())?;
    let (issued, proof) = invoice(&stage.issuer, &quote)?;
    let earned_msat = delivered(stage, &proof)?;
    stage.paid = Some(proof);

    let [a, b, c] = booked(stage, &issued.payment_hash, quote.amount_msat, earned_msat)?;
    let amount = quote.amount_msat;
    Ok(format!("delivered; of {amount} msat C has booked {c} (60 %), B {b} (30 %), A {a} (10 %)"))
}

/// Sends the data from A for this payment and sees it arrive; gives what C earned.
fn delivered(stage: &mut Stage, proof: &Proof) -> Result<u64, String> {
    let (data, to) = (data(), stage.actor(C)?.id()?);
    let mut request = free(to, data.clone());
    request.proof = Some(proof.clone());
    stage.actor(A)?.send(request)??;
    let got = stage.actor(C)?.receive(10_000)?.ok_or("C received nothing")?;
    if got.data != data {
        return Err("C received something else".into());
    }
    Ok(got.earned_msat)
}

/// What A, B and C have booked for a payment: each must have its share of the amount.
fn booked(
    stage: &mut Stage,
    payment: &[u8; 32],
    amount: u64,
    earned_by_c: u64,
) -> Result<[u64; 3], String> {
    let shares = FeeDistribution::new(amount, 1).ok_or("the route is too long")?;
    let expected = [
        (A, Role::Source, Party::Source),
        (B, Role::Intermediate, Party::Intermediate(0)),
        (C, Role::Destination, Party::Destination),
    ];
    let mut booked = [0; 3];
    for ((place, role, party), booked) in expected.into_iter().zip(&mut booked) {
        let entry = stage.actor(place)?.booked(payment)?;
        let share = shares.get(party);
        if (entry.role, entry.amount_msat, entry.share_msat) != (role, amount, share) {
            return Err(format!(
                "the {} should have booked {share} msat, not {entry:?}",
                role.name()
            ));
        }
        *booked = share;
    }
    let [a, b, c] = booked;
    match a + b + c == amount && earned_by_c == c {
        true => Ok(booked),
        false => Err(format!("{a} + {b} + {c} is not {amount} msat, or C did not earn its part")),
    }
}

fn replayed(stage: &mut Stage) -> Shown {
    let proof = stage.paid.clone().ok_or("nothing was paid")?;
    refused_by_b(stage, Some(proof), "used before")
}

fn self_issued(stage: &mut Stage) -> Shown {
    let (bytes, to) = (data().len(), stage.actor(C)?.id()?);
    let quote = stage.actor(A)?.quote(to, bytes)?;
    let stranger = Identity::generate().map_err(|e| e.to_string())?;
    let (_, proof) = invoice(&Issuer::from_secret(*stranger.secret_key()), &quote)?;
    refused_by_b(stage, Some(proof), "not signed by an issuer")
}

/// Pays by a covenant: a template for the quote, funded in a block that is mined here and
/// whose header every node is given.
fn covenant(stage: &mut Stage) -> Shown {
    let (data, to) = (data(), stage.actor(C)?.id()?);
    let quote = stage.actor(A)?.quote(to, data.len())?;
    let mut payouts = Vec::new();
    for place in [A, B, C] {
        let actor = stage.actor(place)?;
        payouts.push(Payout { node: actor.id()?.hop(), script: actor.payout()? });
    }
    let wrong = |e: CovenantMakeError| e.to_string();
    let template = Template::new(&quote, &payouts, FEE_RATE).map_err(wrong)?;
    let fee = template.fee_sat(FEE_RATE).ok_or("the fee is too large")?;
    let sat = template.amount_sat() + fee;
    let funding = regtest::funding(template.locking_scripts().1, sat, quote.terms_hash);
    let time = u32::try_from(unix_now()).map_err(|e| e.to_string())?;
    let block = regtest::mine(BlockHash::all_zeros(), vec![funding.clone()], time);
    let txid = funding.compute_txid();
    let inclusion = MerkleBlock::from_block_with_predicate(&block, |id| *id == txid);
    let paid = template.paid(&quote, &payouts, &funding, &inclusion).map_err(wrong)?;

    let proof = Proof::Covenant(CovenantProof { covenant: paid.proof });
    let header = serialize(&block.header);
    stage.actor(A)?.give_header(header.clone(), 1)?;
    let mut request = free(to, data.clone());
    (request.proof, request.wait_ms) = (Some(proof.clone()), 500);
    let sent = stage.actor(A)?.send(request)??;
    let b = stage.actor(B)?.id()?;
    match sent.repeating {
        Some(why) if why.reporter == b && why.cause.contains("not known to be confirmed") => {}
        other => return Err(format!("B lacks the header, and says {other:?}")),
    }
    // What A sends again by itself arrives then.
    for place in [B, C] {
        stage.actor(place)?.give_header(header.clone(), 1)?;
    }
    let got = stage.actor(C)?.receive(10_000)?.ok_or("C received nothing")?;
    if got.data != data {
        return Err("C received something else".into());
    }
    let earned_msat = got.earned_msat;
    let coin = paid.settlement.input.first().ok_or("nothing is spent")?.previous_output;
    let key = replay_key(&coin.txid.to_byte_array(), coin.vout);
    let amount = template.amount_sat() * 1_000;
    let [a, b, c] = booked(stage, &key, amount, earned_msat)?;
    refused_by_b(stage, Some(proof), "used before")?;
    Ok(format!(
        "stopped by B until it has the block's header, sent again by A and delivered; of {amount} \
         msat C has booked {c}, B {b}, A {a}; once more: refused by B"
    ))
}

fn restarted(stage: &mut Stage) -> Shown {
    stage.actor(B)?.kill()?;
    stage.actor(B)?.restart()?;
    let (a, c) = (stage.actor(A)?.id()?, stage.actor(C)?.id()?);
    let b = stage.actor(B)?.id()?;
    stage.actor(B)?.wait_for_links(&[a, c])?;
    stage.actor(A)?.wait_for_links(&[b])?;
    stage.actor(C)?.wait_for_links(&[b])?;
    replayed(stage)
}

fn joined(stage: &mut Stage) -> Shown {
    let (a, c) = (stage.actor(A)?.address(), stage.actor(C)?.address());
    stage.start("D", &[a, c])?;
    let (a, c) = (stage.actor(A)?.id()?, stage.actor(C)?.id()?);
    stage.actor(D)?.wait_for_links(&[a, c])?;
    carry_block(stage)?;
    Ok("linked to A and C; the block still arrives".into())
}

fn repaired(stage: &mut Stage) -> Shown {
    stage.actor(B)?.kill()?;
    let Carried { hops, micros, times } = carry_block(stage)?;
    let millis = micros / 1000.0;
    match hops {
        1 => Ok(format!("sent {times} x, the block is there {millis:.1} ms after B's death")),
        _ => Err(format!("it went over {hops} hops")),
    }
}
