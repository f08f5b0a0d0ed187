//! What of the configuration, and of who is an own neighbour, changes while the state machine runs.

use super::Mesh;
use crate::config::Config;
use crate::id::{LinkId, Standing};
use crate::tables::Memory;

impl Config {
    /// Takes of another configuration what may change while a node runs: prices, issuers,
    /// confirmations, allowances, credit and trust. The sizes of tables, the mode and all else stay:
    /// they are laid down at the start.
    pub fn adopt(&mut self, new: &Self) {
        let (rules, news) = (&mut self.payment, &new.payment);
        rules.tariff = news.tariff;
        rules.issuers.clone_from(&news.issuers);
        rules.min_confirmations = news.min_confirmations;
        self.flows.receive = new.flows.receive;
        (self.free_rate, self.free_burst) = (new.free_rate, new.free_burst);
        (self.plain, self.rare) = (new.plain, new.rare);
        self.bad_payments = new.bad_payments;
        self.capacities.per_prefix = new.capacities.per_prefix;
        self.credit.clone_from(&new.credit);
        self.strangers_relay_paid = new.strangers_relay_paid;
        self.trusted.clone_from(&new.trusted);
    }
}

impl<M: Memory> Mesh<M> {
    /// [Takes](Config::adopt) what may change of another configuration. From now on payments and
    /// packets are held to it; a neighbour learns of it by a hello, which is due at once: give
    /// [`Input::Timer`](super::Input::Timer) next. What was promised with an invoice stays
    /// promised.
    pub fn reconfigure(&mut self, new: &Config) {
        self.config.adopt(new);
        self.renew_trust();
        let now = self.now;
        for neighbour in self.tables.routing.neighbours.iter_mut() {
            neighbour.liveness.greet_at(now);
        }
        self.wake_at(now);
    }

    /// The neighbour on a link is an own one from now on: nobody takes its place, and it has
    /// allowances of its own and is trusted. Does nothing if there is none, or if it is one already.
    pub fn make_own(&mut self, link: LinkId) {
        let neighbour = self.tables.routing.neighbours.get(link);
        let Some((node, before)) =
            neighbour.filter(|n| n.standing != Standing::Own).map(|n| (n.node, n.owner))
        else {
            return;
        };
        let owner = self.allowances_of(node, Standing::Own);
        let routing = &mut self.tables.routing;
        routing.owners.leave(before);
        if let Some(neighbour) = routing.neighbours.get_mut(link) {
            (neighbour.standing, neighbour.owner) = (Standing::Own, owner);
            neighbour.trusted = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_world::World;
    use super::*;
    use crate::config::MeshMode;
    use crate::id::Network;
    use crate::mesh::Input;
    use crate::payment::fee::Tariff;
    use crate::tables::Heap;

    #[test]
    fn neighbours_learn_of_a_new_price_at_once_and_tables_stay() {
        let mut world = World::<Heap>::new(2, |_| Config::host(Network::Regtest));
        world.wire(0, 1);
        world.run();
        let price = |world: &World<Heap>| {
            let seen = world.nodes[1].table().neighbours.by_hop(world.id(0).hop());
            seen.unwrap().tariff
        };
        assert_eq!(price(&world), Config::host(Network::Regtest).payment.tariff);
        let mut new = Config::host(Network::Regtest);
        new.payment.tariff = Tariff { base_msat: 7, per_kib_msat: 8 };
        (new.mode, new.capacities.routes) = (MeshMode::Open, 1);
        world.nodes[0].reconfigure(&new);
        world.give(0, Input::Timer);
        world.run();
        assert_eq!(price(&world), new.payment.tariff);
        let kept = world.nodes[0].config();
        assert_eq!((kept.mode, kept.capacities.routes), (MeshMode::PaymentGated, 4096));
    }
}
