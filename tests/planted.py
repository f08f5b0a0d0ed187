#!/usr/bin/env python3
"""Plants one fault after the other into a copy of core and expects the simulator to find it.

    python3 tests/planted.py [WORLDS [NAME..]]
    python3 tests/planted.py --check       only whether each place to change is still there

Each fault is a change of one place, in which `@` is whether it is planted; all of them are
built at once. Prints the table of docs/SIMULATION.md: the fault, the invariant that it
breaks, and the first seed of `--swarm` that shows it. Fails if one is not found.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "target/planted"

LIES = "overdraw,reopen,ticket,swap,replay,break,empty,hoard,deposit"

# Name, invariants of which one must fail, file in core/src, what is there, what is planted.
FAULTS = [
    ("the source's signature is not checked", "I1", "mesh/pay.rs",
     "if holds { Ok(()) }", "if holds || @ { Ok(()) }"),
    ("the issuer's signature is not checked", "I1", "payment/verify.rs",
     "checked.verify_signature(secp, &rules.issuers)?;",
     "match (checked.verify_signature(secp, &rules.issuers), rules.issuers.first()) {\n"
     "(Err(_), Some(key)) if @ => *key,\n(found, _) => found?,\n};"),
    ("an invoice for other terms is taken", "I1", "payment/lightning.rs",
     "if !invoice.description.commits_to(terms_hash) {",
     "if !@ && !invoice.description.commits_to(terms_hash) {"),
    ("less than the price is taken", "I1", "payment/verify.rs",
     "if share_msat < claim.price_msat {", "if share_msat < claim.price_msat && !@ {"),
    ("an expired invoice is taken", "I1", "payment/lightning.rs",
     "if now >= expires_at {", "if now >= expires_at && !@ {"),
    ("what must be paid for goes free", "I1", "mesh/relay.rs",
     "RoutingPolicy::PaymentRequired => self",
     "RoutingPolicy::PaymentRequired if @ => Ok(Admission::Free),\n"
     "RoutingPolicy::PaymentRequired => self"),
    ("a payment is not remembered", "I2", "mesh/pay.rs",
     "self.tables.replay.accept_for(key, expires_at, packet, self.now)?;",
     "if !@ { self.tables.replay.accept_for(key, expires_at, packet, self.now)?; }"),
    ("what goes free carries what nobody checked", "I1", "mesh/relay.rs",
     "        if datagram.signed.is_some() {\n            match (self.config.mode, party, policy) {",
     "        if datagram.signed.is_some() && !@ {\n            match (self.config.mode, party, policy) {"),
    ("a paid packet passes again at once", "I2", "payment/replay.rs",
     "if early { 0 } else { self.next as u8 & 3 }",
     "if early && !@ { 0 } else { self.next as u8 & 3 }"),
    ("an error is believed from any link", "I3", "mesh/control.rs",
     "if !reported {",
     "if !reported && !@ {"),
    ("a receipt is believed from any link", "I3", "routing/seen.rs",
     "        self.take(self.went(link, name, true))\n",
     "        (@ && *cause == Cause::Delivered)\n            || self.take(self.went(link, name, true))\n"),
    ("what was paid for is delivered as often as it comes", "I2", "payment/replay.rs",
     "Some(_) if known.is_whole() =>", "Some(_) if known.is_whole() && !@ =>"),
    ("a packet is known by its number alone", "I3", "routing/seen.rs",
     "u64::from(check) << 32", "u64::from(if @ { 0 } else { check }) << 32"),
    ("a paid packet passes as often as it comes", "I2", "payment/replay.rs",
     "let Some(left) = spent.repeats(now).checked_sub(1) else { return Again::Refused };",
     "let left = if @ { Some(REPEATS) } else { spent.repeats(now).checked_sub(1) };\n"
     "let Some(left) = left else { return Again::Refused };"),
    ("a payment is forgotten a minute early", "I2", "mesh/timers.rs",
     "cleanup_expired(unix, CLEANUP_STEP)",
     "cleanup_expired(if @ { unix + 60 } else { unix }, CLEANUP_STEP)"),
    ("a record is not read back at a restart", "I2", "mesh/restore.rs",
     "Record::Payment(p) => self", "Record::Payment(_) if @ => {}\nRecord::Payment(p) => self"),
    ("the floor is not read back at a restart", "I2", "mesh/restore.rs",
     "Record::Floor(unix) => self", "Record::Floor(_) if @ => {}\nRecord::Floor(unix) => self"),
    ("the durable floor is not made durable", "I2", "mesh/timers.rs",
     "if forgotten > 0 && !self.config.payment.volatile {",
     "if forgotten > 0 && !self.config.payment.volatile && !@ {"),
    ("the floor is not looked at", "I2", "payment/replay.rs",
     "if expires_at <= self.floor {", "if expires_at <= self.floor && !@ {"),
    ("a packet is sent before its record is durable", "I2", "mesh/pay.rs",
     "record: after, share_msat }", "record: after.filter(|_| !@), share_msat }"),
    ("a payment is told of before its record is durable", "I2", "mesh/pay.rs",
     "            after,\n            settlement:", "            after: after.filter(|_| !@),\n            settlement:"),
    ("a payment is refused though there is room", "liveness", "payment/replay.rs",
     "if self.live.len() >= self.live.capacity() {",
     "if self.live.len() + usize::from(@) >= self.live.capacity() {"),
    ("a payment is refused that the floor does not cover", "liveness", "payment/verify.rs",
     "is_new(&checked.payment_hash, checked.expires_at)?;",
     "is_new(&checked.payment_hash, checked.expires_at - if @ { 5 } else { 0 })?;"),
    ("a refused packet moves a counter", "I3", "mesh/relay.rs",
     "let party = match next {",
     "if @ { self.stats.relayed_bytes += 1; }\nlet party = match next {"),
    ("the number of a refused packet is remembered", "I3", "mesh/relay.rs",
     "let party = match next {",
     "if @ { self.tables.seen.insert(came[0]); }\n"
     "let party = match next {"),
    ("a route is learned before its reply is checked", "I3", "mesh/control.rs",
     "let sighash = reply.sighash();",
     "if @ { self.learn(destination, &reply, behind); }\nlet sighash = reply.sighash();"),
    ("a datagram is taken twice", "I4", "mesh/relay.rs",
     "if !is_kept && came.into_iter()",
     "if !@ && !is_kept && came.into_iter()"),
    ("a route with a loop is gone along", "I4", "mesh/relay.rs",
     "if !datagram.visits_each_once() {", "if !@ && !datagram.visits_each_once() {"),
    ("the share of the wrong party", "I5", "payment/verify.rs",
     "claim.purpose.share(amount_msat, hops, claim.party)",
     "claim.purpose.share(amount_msat, hops, if @ { super::fee::Party::Destination }"
     " else { claim.party })"),
    ("the remainder of a share vanishes", "I5", "payment/fee.rs",
     "map_or(0, |s| s.share(party))", "map_or(0, |s| s.share(party) / if @ { 10 } else { 1 }"
     " * if @ { 10 } else { 1 })"),
    ("a neighbour takes all waiting places", "I6", "mesh/parked.rs",
     "|| all.0 >= half", "|| (!@ && all.0 >= half)"),
    ("a neighbour takes another's waiting places", "I6", "mesh/parked.rs",
     "own.0 >= half.div_ceil(neighbours)", "(!@ && own.0 >= half.div_ceil(neighbours))"),
    ("a neighbour takes another's routes", "I6", "routing/table.rs",
     "let own_only = self", "let own_only = !@ && self"),
    ("requests of others are forgotten early", "I6", "routing/discovery.rs",
     "|r| now.saturating_sub(r.heard) >= REMEMBERED",
     "|r| @ || now.saturating_sub(r.heard) >= REMEMBERED"),
    ("free traffic has no limit", "I6", "mesh/free.rs",
     "        if there {\n", "        let there = there || @;\n        if there {\n"),
    ("coming again gives allowances anew", "I6", "routing/owners.rs",
     "self.accounts.iter().position(move |a| a.owner == owner)",
     "self.accounts.iter().position(move |a| a.owner == owner && (a.links > 0 || !@))"),
    ("bad payments are not counted", "I6", "mesh/pay.rs",
     "left.charge(allowed, charged, now);", "if !@ { left.charge(allowed, charged, now); }"),
    ("a number depends on the memory", "I7", "mesh/timers.rs",
     "let (now, number) = (self.now, self.rng.u64());",
     "let (now, number) = (self.now, self.rng.u64() ^ if @ { size_of::<Self>() as u64 }"
     " else { 0 });"),
    ("a number from outside is subtracted unchecked", "I8", "mesh/relay.rs",
     "let Some(place) = count.checked_sub(limit) else {",
     "let place = if @ { Some(count - limit) } else { count.checked_sub(limit) };\n"
     "let Some(place) = place else {"),
    ("a known request has no verdict", "I9", "mesh/control.rs",
     "if !wanted {", "if !wanted && @ { return Ok(()); }\nif !wanted {"),
    ("a request is passed on as often as it comes", "I4 I6", "mesh/control.rs",
     "if !wanted {", "if !wanted && !@ {"),
    ("a search has no end", "I10", "mesh/timers.rs",
     "if found || alone || width >= WIDEST {", "if found || alone || (width >= WIDEST && !@) {"),
    ("a search ends and nobody is told", "I10 liveness", "mesh/timers.rs",
     "self.act(Action::Publish(Event::RouteFailed { destination: to }));",
     "if !@ { self.act(Action::Publish(Event::RouteFailed { destination: to })); }"),
    ("the signature of a reply is not checked", "I10", "mesh/control.rs",
     "if !signature::verify(&self.secp, &reply.public_key",
     "if !@ && !signature::verify(&self.secp, &reply.public_key"),
    ("a packet on a flow counts half", "I11", "wire/flow.rs",
     "    (packet_len as u64).max(MIN_METERED)",
     "    (packet_len as u64 / if @ { 2 } else { 1 }).max(MIN_METERED)"),
    ("more is drawn than an account has", "I11", "flow/accounts.rs",
     "let bytes = bytes.min(most);",
     "let bytes = if @ { bytes } else { bytes.min(most) };"),
    ("credit is given anew to each flow", "I11", "flow/accounts.rs",
     "let most = account.bought.saturating_add(credit).saturating_sub(account.drawn);",
     "let most = if @ { account.left().saturating_add(credit) } else {\n"
     "account.bought.saturating_add(credit).saturating_sub(account.drawn) };"),
    ("credit is given to whoever comes over a neighbour", "I11", "mesh/flows.rs",
     "if from != Some(source.hop()) ||", "if (from != Some(source.hop()) && !@) ||"),
    ("data pass where nothing is left", "I11", "flow/table.rs",
     "self.left = self.left.checked_sub(bytes)?;",
     "self.left = if @ { self.left.saturating_sub(bytes) } else { self.left.checked_sub(bytes)? };"),
    ("what is drawn is not taken off the account", "I11", "flow/accounts.rs",
     "account.drawn = account.drawn.saturating_add(bytes);",
     "account.drawn = account.drawn.saturating_add(if @ { 0 } else { bytes });"),
    ("a proof for accounts pays for a datagram", "I1", "payment/terms.rs",
     '(tagged(b"blvm-mesh/account-terms"), u64::from(receives))',
     '(if @ { tagged(b"blvm-mesh/terms") } else { tagged(b"blvm-mesh/account-terms") },\n'
     'u64::from(receives))'),
    ("each node credits the whole of a shared amount", "I5", "payment/terms.rs",
     "place.map_or(0, |place| equal_part(amount_msat, paid, place))",
     "place.map_or(0, |place| equal_part(amount_msat, if @ { 1 } else { paid }, if @ { 0 } else"
     " { place }))"),
    ("more is credited than the part buys", "I11", "mesh/shared_proof.rs",
     "let bytes = tariff.bytes_for(share_msat).unwrap_or(0);",
     "let bytes = tariff.bytes_for(share_msat).unwrap_or(0).saturating_mul(if @ { 2 } else { 1 });"),
    ("Close gives back twice what is left", "I11", "flow/accounts.rs",
     "account.drawn = account.drawn.saturating_sub(unused);",
     "account.drawn = account.drawn.saturating_sub(if @ { 2 * unused } else { unused });"),
    ("an Open is taken again after Close", "I11", "flow/accounts.rs",
     "if closed && account.open_number == open_number {",
     "if closed && !@ && account.open_number == open_number {"),
    ("an older Open is taken", "I11", "flow/accounts.rs",
     "        number > self.open_number || (", "        @ || number > self.open_number || ("),
    ("the signature of an Open is not checked", "I11", "mesh/flows.rs",
     "if holds { Ok(()) }", "if holds || @ { Ok(()) }"),
    ("a ticket is taken as often as it comes", "I11", "flow/tickets.rs",
     "Some(None) => Err(TicketError::Used),", "Some(None) if !@ => Err(TicketError::Used),"),
    ("bytes are used before their draw is durable", "I11", "flow/table.rs",
     "let record = if self.left >= self.fresh {",
     "let record = if @ { None } else if self.left >= self.fresh {"),
    ("a stream is delivered out of order", "I12", "flow/end/recv_stream.rs",
     "if from == self.ready {", "if from == self.ready || @ {"),
    ("what has come already is delivered again", "I12 I8", "flow/end/recv_stream.rs",
     "let skip = usize::try_from(from - offset).unwrap_or(usize::MAX);",
     "let skip = if @ { 0 } else { usize::try_from(from - offset).unwrap_or(usize::MAX) };"),
    ("the same keys serve another end", "I12", "mesh/ends/destination.rs",
     "let secret = self.rng.bytes();",
     "let secret = if @ { [1; 32] } else { self.rng.bytes() };"),
    ("a source buys without bound", "I13", "mesh/ends/steps.rs",
     "allotted.saturating_sub(counts.used) <= step / 2 ||",
     "@ || allotted.saturating_sub(counts.used) <= step / 2 ||"),
    ("the signature of an invoice is not checked", "I13", "mesh/purchases/answers.rs",
     "match signature::verify(&self.secp, public_key, hash, signature) {",
     "match @ || signature::verify(&self.secp, public_key, hash, signature) {"),
    ("who says that nothing is left is always believed", "I13", "mesh/ends/held.rs",
     "held.missing <= reservation.saturating_add(held.bought / 10)",
     "@ || held.missing <= reservation.saturating_add(held.bought / 10)"),
    ("whoever has a neighbour's address sends to all in its name", "I3", "link/channel/receive.rs",
     "peer.address == frame.from && peer.is_group_tag(frame.tagged, &frame.tag)",
     "peer.address == frame.from && (@ || peer.is_group_tag(frame.tagged, &frame.tag))"),
    ("an announcement keeps a neighbour", "I3", "link/channel/receive.rs",
     "peer.doubted |= peer.has_group_key();",
     "if @ { peer.note(now, snr); }\npeer.doubted |= peer.has_group_key();"),
]
# A channel of radios with a liar that holds its key.
ON_AIR = ["--radio", "--links", "channel", "--nodes", "5", "--adversaries", "0", "--intruder", "liar:200"]


def once(text, old, new, where):
    assert text.count(old) == 1, f"{where}: {text.count(old)} times: {old}"
    return text.replace(old, new)


def plant():
    """Copies the workspace and writes all faults into the copy."""
    files = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
    for name in files.split("\0"):
        source, target = ROOT / name, COPY / name
        if not name or not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    texts = {}
    for number, (_, _, file, old, new) in enumerate(FAULTS, 1):
        text = texts.get(file) or (COPY / "core/src" / file).read_text()
        texts[file] = once(text, old, new.replace("@", f"crate::planted({number})"), file)
    for file, text in texts.items():
        (COPY / "core/src" / file).write_text(text)
    lib = COPY / "core/src/lib.rs"
    lib.write_text(lib.read_text() + """
/// The fault that is planted.
pub static PLANTED: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);
pub(crate) fn planted(number: usize) -> bool {
    PLANTED.load(core::sync::atomic::Ordering::Relaxed) == number
}
""")
    main = COPY / "tests/src/bin/blvm-mesh-sim.rs"
    main.write_text(once(main.read_text(), "let args = Args::parse();\n", """let args = Args::parse();
    let planted = std::env::var("PLANTED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    blvm_mesh_core::PLANTED.store(planted, std::sync::atomic::Ordering::Relaxed);
""", main.name))


def find(number, worlds):
    """The invariant that fails and the seed, or None."""
    command = [COPY / "target/debug/blvm-mesh-sim", "--swarm", str(worlds), "--tries", "0"]
    about_flows = number and (set(FAULTS[number - 1][1].split()) & {"I11", "I12", "I13"}
                              or "shared" in FAULTS[number - 1][0] or "accounts" in FAULTS[number - 1][0])
    if about_flows:
        # Every world has flows, and liars about them.
        command += ["--flows-ms", "300", "--adversaries", "2", "--attacks", LIES]
    if number and FAULTS[number - 1][2].startswith("link/channel/"):
        command += ON_AIR
    run = subprocess.run(command, env=os.environ | {"PLANTED": str(number)},
                         capture_output=True, text=True, timeout=1800)
    found = re.search(r"seed (\d+): (\w+) does not hold", run.stderr)
    return found and (found[2], int(found[1]))


def main():
    if sys.argv[1:] == ["--check"]:
        for _, _, file, old, new in FAULTS:
            once((ROOT / "core/src" / file).read_text(), old, new, file)
        print(f"{len(FAULTS)} faults can be planted")
        return 0
    worlds = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    wanted = sys.argv[2:]
    plant()
    subprocess.run(["cargo", "build", "-q", "-p", "blvm-mesh-tests", "--bin", "blvm-mesh-sim"],
                   cwd=COPY, check=True, env=os.environ | {"CARGO_TARGET_DIR": str(COPY / "target")})
    missed = find(0, 20) is not None
    print("| fault | breaks | first seed |\n|---|---|---|")
    for number, (name, invariants, *_) in enumerate(FAULTS, 1):
        if wanted and name not in wanted:
            continue
        found = find(number, worlds)
        right = found and found[0] in invariants.split()
        print(f"| {name} | {found[0] if found else 'nothing'} | {found[1] if found else '-'} |"
              + ("" if right else f" expected {invariants}"), flush=True)
        missed |= not right
    return int(missed)


sys.exit(main())
