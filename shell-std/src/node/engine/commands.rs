//! What clients want of the engine.

use super::payments::Wanting;
use super::reports;
use super::shell::{FollowUp, Origin, Outcome};
use super::{Command, Engine, chain};
use crate::wallet::Kept;
use blvm_mesh_core::mesh::{Input, MeshError};
use blvm_mesh_core::time::Micros;
use smol::channel::Sender;

/// Whoever does not wait any more is not told.
fn answer<T>(who: &Sender<T>, answer: T) {
    let _ = who.try_send(answer);
}

impl Engine {
    pub(super) fn command(&mut self, now: Micros, command: Command) {
        self.tell_inbox(now);
        let (mesh, shell) = (&self.mesh, &self.shell);
        match command {
            Command::Send(own) => self.send(now, *own),
            Command::Find { destination, accepted, found } => {
                self.find(now, destination, accepted, found);
            }
            Command::FindMembers { group, found } => {
                self.shell.own.search_members(group, found);
                self.give(now, Input::FindMembers { group });
            }
            Command::Headers { headers, height, refused } => {
                answer(&refused, self.headers(now, &headers, height));
            }
            Command::LookedUp(hash, block) => self.looked_up(&hash, &block),
            Command::InvoiceWritten(ticket, invoice) => {
                self.shell.todo.push_back(FollowUp::Invoice(ticket, invoice));
                self.settle(now);
            }
            Command::InvoicePaid(ticket, ended) => {
                if let Some(preimage) = self.shell.payments.ended(ticket, ended) {
                    self.shell.todo.push_back(FollowUp::Paid(ticket, preimage));
                }
            }
            Command::PaymentResolved(resolved, kept) => {
                match self.shell.payments.resolved(resolved) {
                    Some((ticket, preimage)) => {
                        self.shell.todo.push_back(FollowUp::Paid(ticket, preimage));
                    }
                    // The purchase is one of before the start.
                    None => self.ask_for(kept.into_iter().collect()),
                }
            }
            Command::InvoiceAsked(payment_hash, expires_at, done) => {
                self.give(now, Input::InvoiceAsked { payment_hash, expires_at });
                answer(&done, ());
            }
            Command::BenchSink(on, done) => {
                self.bench.set_sink(on);
                answer(&done, ());
            }
            Command::Bench(plan, trial, figures) => {
                answer(&figures, self.bench.start(plan, trial, now));
            }
            Command::AnswerProbes(on, done) => {
                self.probes.answers = on;
                answer(&done, ());
            }
            Command::Ping(to, heard, progress) => self.ping(now, to, heard, progress),
            Command::Reconfigure(changed, done) => {
                let (config, own) = *changed;
                self.mesh.reconfigure(&config);
                for link in self.shell.links.set_own(own) {
                    self.mesh.make_own(link);
                }
                // What neighbours are to learn goes out.
                self.give(now, Input::Timer);
                answer(&done, ());
            }
            Command::Part(node, reason, who) => {
                let links = self.shell.links.with(&node);
                for link in &links {
                    self.close(now, *link, reason);
                }
                answer(&who, links.len());
            }
            Command::Untrusted(to, who) => answer(&who, mesh.untrusted_way(&to)),
            Command::WasReached(who) => answer(&who, shell.links.accepted() > 0),
            Command::Peers(who) => answer(&who, reports::peers(mesh, &shell.links, now)),
            Command::Routes(most, who) => answer(&who, reports::routes(mesh, most, now)),
            Command::WidestRoute(to, who) => answer(&who, reports::widest(mesh, &to, now)),
            Command::Route(to, who) => answer(&who, reports::route(mesh, &to, now)),
            Command::Accepts(to, who) => answer(&who, reports::accepts(mesh, &shell.links, &to)),
            Command::Quote(to, bytes, who) => {
                answer(&who, reports::quote(mesh, &shell.links, &to, bytes, now));
            }
            Command::QuoteAccounts(to, bytes, who) => {
                answer(&who, self.quote_accounts(now, &to, bytes));
            }
            Command::Prepay(hops, node, purchase, who) => {
                self.prepay(now, &hops, node, purchase, who);
            }
            Command::Plan(to, bytes, who) => {
                answer(&who, reports::plan(mesh, &shell.payments, &to, bytes));
            }
            Command::AskFor(wanting, bill) => {
                let Wanting { hops, node, bytes, amount_msat } = *wanting;
                let input = Input::Buy { hops: &hops, node, bytes, amount_msat, open_number: 0 };
                match self.drive(now, input, Origin::Other) {
                    Outcome::Buying(ticket) => self.shell.payments.hand_out(ticket, bill),
                    Outcome::Refused(reason) => answer(&bill, Err(reason.to_string())),
                    _ => {}
                }
            }
            Command::Redeem(kept, credited) => {
                let Kept { node, promise, preimage, .. } = *kept;
                let input = Input::Paid { node, promise, preimage };
                match self.drive(now, input, Origin::Other) {
                    Outcome::Buying(ticket) => self.shell.payments.redeem(ticket, credited),
                    Outcome::Refused(reason) => answer(&credited, Err(reason.to_string())),
                    _ => answer(&credited, Err("the promise cannot be read".into())),
                }
            }
            Command::Flows(most, who) => answer(&who, reports::flows(mesh, most, now)),
            Command::Stats(who) => {
                answer(&who, Box::new(reports::stats(mesh, shell, &self.hub.memory)))
            }
            Command::Counted(who) => answer(&who, Box::new(reports::counted(mesh, shell))),
            Command::LinkTowards(to, who) => answer(&who, reports::link_towards(mesh, &to, now)),
            Command::Sight(link, who) => {
                answer(&who, reports::sight(mesh, &shell.links, link, now))
            }
            Command::IsQuiet(who) => answer(&who, !shell.durable.waits()),
            Command::Stop(links) => {
                self.stop = true;
                self.shell.durable.close();
                self.give_up(now);
                answer(&links, self.shell.links.finish());
            }
            #[cfg(test)]
            Command::Inspect(look) => look(self),
        }
        self.settle(now);
    }

    /// Gives block headers, the first of this height. Stops at the first that is refused,
    /// and tells its place and why: it is no neighbour's, and not counted.
    fn headers(
        &mut self,
        now: Micros,
        headers: &[[u8; 80]],
        height: u32,
    ) -> Option<(usize, MeshError)> {
        for (place, (header, height)) in headers.iter().zip(height..).enumerate() {
            let input = Input::BlockHeader { header, height };
            if let Outcome::Refused(reason) = self.drive(now, input, Origin::Other) {
                return Some((place, reason));
            }
        }
        None
    }

    /// A look-up in the chain has ended.
    fn looked_up(&mut self, hash: &chain::BlockHash, answer: &chain::Answer) {
        let block = *answer.as_ref().unwrap_or(&None);
        let tickets = self.shell.chain.answered(hash, answer);
        self.shell.todo.extend(tickets.into_iter().map(|ticket| FollowUp::Block(ticket, block)));
    }
}
