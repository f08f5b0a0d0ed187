//! A node with a wallet buys bytes of flows from one with an issuer, and the ledgers of both have
//! it.

use super::paid::TestIssuer;
use super::*;
use crate::issuer::Issuer;
use crate::lightning::fake::Fake;
use crate::lightning::{Lightning, Till};
use crate::rpc::types::{GetLedger, Ledger, PurchaseState, PurchaseStats};
use crate::store::Store;
use crate::wallet::{
    Bill, Limits, Outcome, PaymentStatus, Purchases, RegtestWallet, Spending, Wallet,
};
use bitcoin::hashes::{Hash, sha256};
use std::path::Path;

const BYTES: u64 = 100_000;
const AMOUNT: u64 = 50_000;

fn memory() -> Arc<Store> {
    let disk = redb::backends::InMemoryBackend::new;
    Arc::new(Store::with_backend(Path::new("memory"), disk).unwrap())
}

fn payer(store: &Arc<Store>, limits: Limits) -> Payer {
    let spending = Spending::new(store.clone(), limits).unwrap();
    let wallet = RegtestWallet::on(Network::Regtest).unwrap();
    Payer { wallet: Arc::new(wallet), spending: Arc::new(spending) }
}

fn ledger(store: &Store) -> Ledger {
    store.ledger(&GetLedger::default()).unwrap()
}

/// The second of two nodes buys at the first, until that has ended.
async fn buy(
    bed: &Bed,
    issuer: Arc<dyn Issue>,
    payer: Option<Payer>,
    [books, purse]: [&Arc<Store>; 2],
) -> PurchaseStats {
    let none = || std::iter::empty::<Result<Record, String>>();
    let mut settings = settings(MeshMode::PaymentGated);
    let executor = &bed.executor;
    let seller =
        Node::start(&settings, &secret(1), books.clone(), none(), Some(issuer), None, executor);
    let seller = seller.unwrap();
    settings.peers = vec![address(&seller)];
    let buyer = Node::start(&settings, &secret(2), purse.clone(), none(), None, payer, executor);
    let buyer = buyer.unwrap();
    linked(&buyer, &seller).await;
    let node = seller.handle().id().hop();
    let input = move |engine: &mut engine::Engine| {
        let now = engine.shell.clock.now();
        let (hops, bytes, amount_msat, open_number) = (&[], BYTES, AMOUNT, 0);
        engine.give(now, Input::Buy { hops, node, bytes, amount_msat, open_number });
    };
    buyer.handle().job(input).await.unwrap();
    let stats = async || buyer.handle().ask(Command::Stats).await.unwrap().purchases;
    until("the purchase has ended", async || {
        let stats = stats().await;
        stats.credited + stats.not_paid > 0
    })
    .await;
    let stats = stats().await;
    until("its end is in the ledger", async || {
        let purchases = ledger(purse).purchases;
        purchases.iter().all(|purchase| purchase.state == PurchaseState::Credited)
    })
    .await;
    buyer.stop().await;
    seller.stop().await;
    stats
}

#[test]
fn bytes_are_bought_with_play_money_and_both_ledgers_have_it() {
    Bed::run(async |bed| {
        let (books, purse) = (memory(), memory());
        let issuer = Arc::new(Issuer::from_secret(secret(77)));
        let payer = payer(&purse, Limits::default());
        let stats = buy(&bed, issuer, Some(payer), [&books, &purse]).await;
        assert_eq!((stats.paid, stats.credited, stats.not_paid), (1, 1, 0));
        assert_eq!((stats.credited_bytes, stats.last_hour_msat), (BYTES, AMOUNT));
        let (sold, bought) = (ledger(&books), ledger(&purse));
        let ([sale], [purchase]) = (&sold.sales[..], &bought.purchases[..]) else {
            panic!("{sold:?}, {bought:?}")
        };
        assert_eq!((sale.payment, sale.amount_msat), (purchase.payment, AMOUNT));
        assert_eq!((sale.account_bytes, purchase.bytes), (BYTES, BYTES));
        assert_eq!(
            purchase.node,
            NodeId::from_public_key(&secret(1).public_key(&Secp256k1::new()))
        );
        assert_eq!((sold.purchases.len(), bought.sales.len()), (0, 0));
    });
}

#[test]
fn nothing_is_bought_without_a_wallet_beyond_the_limit_or_from_a_real_issuer() {
    Bed::run(async |bed| {
        let limits = Limits::default();
        let nothing = Limits { max_msat_per_hour: 0, ..limits };
        let little = Limits { max_msat_per_hour: AMOUNT, ..limits };
        let regtest: Arc<dyn Issue> = Arc::new(Issuer::from_secret(secret(77)));
        let real: Arc<dyn Issue> = Arc::new(TestIssuer(secret(77)));
        let cases = [
            (&regtest, None, "no wallet", 0),
            (&regtest, Some(nothing), "budget.max_msat_per_hour is 0", 1),
            (&regtest, Some(little), "leaves no room for 55000 msat", 1),
            (&real, Some(limits), "no regtest issuer wrote the invoice", 0),
        ];
        for (issuer, limits, why, over_limit) in cases {
            let (books, purse) = (memory(), memory());
            let payer = limits.map(|limits| payer(&purse, limits));
            let stats = buy(&bed, issuer.clone(), payer, [&books, &purse]).await;
            let told = stats.last_refusal.unwrap();
            assert!(told.contains(why), "{told}");
            assert_eq!((stats.not_paid, stats.over_limit, stats.paid), (1, over_limit, 0));
            assert_eq!(stats.last_hour_msat, 0);
            assert_eq!((ledger(&books).sales, ledger(&purse).purchases), (vec![], vec![]));
        }
    });
}

/// Pays, writes that down or not, and comes no further. Later it knows what it has paid.
struct Killed {
    purse: Arc<Store>,
    writes: bool,
    revealed: Arc<std::sync::Mutex<Option<[u8; 32]>>>,
    paid: smol::channel::Sender<()>,
    never: smol::channel::Receiver<()>,
}

impl Wallet for Killed {
    fn pay(&self, bill: &Bill, max_fee_msat: u64) -> Outcome {
        let wallet = RegtestWallet::on(Network::Regtest).unwrap();
        let Outcome::Paid { preimage, fee_msat } = wallet.pay(bill, max_fee_msat) else { panic!() };
        let hash = sha256::Hash::hash(&preimage).to_byte_array();
        *self.revealed.lock().unwrap() = Some(preimage);
        if self.writes {
            self.purse.paid(&hash, &preimage, fee_msat).unwrap();
        }
        let _ = self.paid.send_blocking(());
        let _ = self.never.recv_blocking();
        Outcome::Unknown("it was killed".into())
    }

    fn look_up(&self, _: &[u8; 32]) -> Result<PaymentStatus, String> {
        let preimage = self.revealed.lock().unwrap().ok_or("it was not asked")?;
        Ok(PaymentStatus::Paid { preimage, fee_msat: 0 })
    }

    fn key(&self) -> Option<[u8; 33]> {
        None
    }
}

#[test]
fn what_was_paid_for_before_a_crash_is_credited_after_it() {
    killed_after_paying(true);
}

#[test]
fn what_turns_out_to_be_paid_after_a_crash_is_credited() {
    killed_after_paying(false);
}

/// `writes`: whether the payment was still written down.
fn killed_after_paying(writes: bool) {
    Bed::run(async |bed| {
        let none = || std::iter::empty::<Result<Record, String>>();
        let (books, purse, executor) = (memory(), memory(), &bed.executor);
        let mut settings = settings(MeshMode::PaymentGated);
        let issuer: Arc<dyn Issue> = Arc::new(Issuer::from_secret(secret(77)));
        let seller =
            Node::start(&settings, &secret(1), books.clone(), none(), Some(issuer), None, executor);
        let seller = seller.unwrap();
        settings.peers = vec![address(&seller)];
        let (paid, told) = smol::channel::bounded(1);
        let (hold, never) = smol::channel::bounded(1);
        let revealed = Arc::default();
        let wallet = Arc::new(Killed { purse: purse.clone(), writes, revealed, paid, never });
        let with_it = || Payer { wallet: wallet.clone(), ..payer(&purse, Limits::default()) };
        let killed = with_it();
        let start = |payer| {
            Node::start(&settings, &secret(2), purse.clone(), none(), None, Some(payer), executor)
        };
        let buyer = start(killed).unwrap();
        linked(&buyer, &seller).await;
        let node = seller.handle().id().hop();
        let input = move |engine: &mut engine::Engine| {
            let now = engine.shell.clock.now();
            let (hops, bytes, amount_msat, open_number) = (&[], BYTES, AMOUNT, 0);
            engine.give(now, Input::Buy { hops, node, bytes, amount_msat, open_number });
        };
        buyer.handle().job(input).await.unwrap();
        told.recv().await.unwrap();
        drop(buyer);
        drop(hold);
        let state = ledger(&purse).purchases[0].state;
        assert_eq!(state == PurchaseState::Paid, writes, "{state:?}");
        assert_eq!(ledger(&books).sales.len(), 0);
        for expected in [1, 0] {
            // The second start asks only what is left.
            let buyer = start(with_it()).unwrap();
            until("the bytes are in both ledgers", async || {
                let state = ledger(&purse).purchases[0].state;
                ledger(&books).sales.len() == 1 && state == PurchaseState::Credited
            })
            .await;
            linked(&buyer, &seller).await;
            let stats = buyer.handle().ask(Command::Stats).await.unwrap().purchases;
            assert_eq!((stats.credited, stats.paid), (expected, 0));
            buyer.stop().await;
        }
        assert_eq!(ledger(&purse).bought.bytes, BYTES);
        seller.stop().await;
    });
}

#[test]
fn one_lightning_node_buys_bytes_from_another() {
    Bed::run(async |bed| {
        for (sells, pays) in [("cln", "lnd"), ("phoenixd", "lnbits")] {
            let fakes = [Fake::start(sells), Fake::start(pays)];
            let [seller, buyer] = fakes.each_ref().map(|fake| {
                let key = fake.with(|model| model.key());
                Lightning::new(fake.settings.open(), Network::Regtest, key)
            });
            let (books, purse) = (memory(), memory());
            let till = Arc::new(Till::new(seller, books.clone()));
            let spending = Spending::new(purse.clone(), Limits::default()).unwrap();
            let payer = Payer { wallet: Arc::new(buyer), spending: Arc::new(spending) };
            let stats = buy(&bed, till, Some(payer), [&books, &purse]).await;
            assert_eq!((stats.paid, stats.credited, stats.unknown), (1, 1, 0), "{sells}, {pays}");
            assert_eq!((stats.credited_bytes, stats.last_day_msat), (BYTES, AMOUNT + 2_000));
            let [sale, purchase] = [ledger(&books), ledger(&purse)]
                .map(|ledger| (ledger.sales.len(), ledger.purchases.first().map(|p| p.fee_msat)));
            assert_eq!((sale, purchase), ((1, None), (0, Some(2_000))));
            assert_eq!(fakes[1].with(|model| model.told_to_pay), 1);
        }
    });
}
