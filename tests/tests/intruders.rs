//! Radios that belong to no node: one that jams, and one that holds the channel's key and lies. They move nothing of
//! neighbours, and cost air time.

use blvm_mesh_core::time::{Micros, SECOND};
use blvm_mesh_tests::sim::radio::{Intruder, Modem};
use blvm_mesh_tests::sim::{LinkCode, Plan, World};

const MINUTE: Micros = 60 * SECOND;
/// Time in which all find each other.
const GREETING: Micros = 5 * MINUTE;

fn plan(seed: u64, intruder: Option<Intruder>, intrudes: [Micros; 2]) -> Plan {
    let mut plan = Plan::calm(seed, 20, "geometric");
    (plan.radio, plan.code) = (Some(Modem::SHORT), LinkCode::Channel);
    (plan.duration, plan.traffic_gap, plan.lifetime) = (10 * MINUTE, 5 * SECOND, 3_600);
    (plan.intruder, plan.intrudes) = (intruder, intrudes);
    plan
}

/// What was sent in some minutes, and what of it arrived.
fn arrived(world: &World, minutes: std::ops::Range<usize>) -> [u64; 2] {
    let all = &world.account.by_minute[minutes];
    [0, 1].map(|which| all.iter().map(|minute| minute[which]).sum())
}

/// What arrived of so much, in thousandths.
fn permille([sent, arrived]: [u64; 2]) -> u64 {
    arrived * 1000 / sent.max(1)
}

fn count(world: &World, what: &str) -> u64 {
    world.checks.counts.get(what).copied().unwrap_or_default()
}

#[test]
fn after_a_jammer_all_is_as_before_and_meanwhile_nobody_is_beyond_its_budget() {
    // In the second ten of thirty minutes, half of each ten seconds.
    let times = [GREETING + 10 * MINUTE, GREETING + 20 * MINUTE];
    let (mut sums, mut sessions) = ([[0; 2]; 3], [0; 3]);
    for seed in 1..=4 {
        let mut plan = plan(seed, Some(Intruder::Jammer(50)), times);
        plan.duration = 30 * MINUTE;
        let (mut before, mut during) = (0, 0);
        let mut look = |world: &World| {
            let linked: usize = (0..20).map(|n| world.on_air(n).neighbours).sum();
            if world.now <= times[0] {
                before = linked;
            } else if world.now <= times[1] {
                during = linked;
            }
            for n in 0..20 {
                let air = world.on_air(n);
                // All that five minutes may have at once, and what came back since.
                let most = (world.now + GREETING) * u64::from(Modem::SHORT.duty_permille) / 1000;
                assert!(air.sent <= most, "{n}: {} of {most}", air.sent);
            }
        };
        let life = plan.live(&mut look, None).expect("a world");
        let world = &life.world;
        let after: usize = (0..20).map(|n| world.on_air(n).neighbours).sum();
        for (sum, minutes) in sums.iter_mut().zip([5..15, 15..25, 25..35]) {
            let [sent, came] = arrived(world, minutes);
            (sum[0], sum[1]) = (sum[0] + sent, sum[1] + came);
        }
        for (sum, linked) in sessions.iter_mut().zip([before, during, after]) {
            *sum += linked;
        }
    }
    let [first, jammed, then] = sums.map(permille);
    let [before, during, after] = sessions;
    println!("arrived {first} per mille, jammed {jammed}, then {then}");
    println!("sessions {before}, jammed {during}, then {after}");
    assert!(jammed < first, "the jammer is heard");
    assert!(then + 50 >= first && then >= 850, "{first} {then}");
    assert!(during * 3 >= before * 2, "sessions are lost: {before} {during}");
    assert!(after * 20 >= before * 19, "{before} {after}");
}

/// The same frames at the same times, once as lies and once as noise. That none of them moves a neighbour is
/// checked at each (I3).
#[test]
fn beside_a_liar_with_the_channels_key_most_arrives_and_no_lie_moves_a_neighbour() {
    let (mut lied, mut noise) = ((0, 0, 0), (0, 0, 0));
    for seed in 1..=4 {
        for (intruder, sum) in
            [(Intruder::Liar(1000), &mut lied), (Intruder::Noise(1000), &mut noise)]
        {
            let plan = plan(seed, Some(intruder), [GREETING, Micros::MAX]);
            let mut before = None;
            let ended = |world: &World| count(world, "channel sessions that ended");
            let look = &mut |world: &World| _ = before.get_or_insert(ended(world));
            let life = plan.live(look, None).expect("a world");
            let world = &life.world;
            sum.0 += world.account.sent;
            sum.1 += world.account.arrived;
            sum.2 += ended(world) - before.unwrap_or_default();
            let lies = count(world, "lies on the air");
            assert_eq!(lies > 400, matches!(intruder, Intruder::Liar(_)), "{lies}");
        }
    }
    println!("with lies {lied:?}, with noise {noise:?}: sent, arrived, sessions that ended");
    let share = |(sent, arrived, _): (u64, u64, u64)| arrived * 1000 / sent;
    assert!(share(noise) >= 850, "{noise:?}");
    // It has nodes dial others that do not exist, which is bounded: of 1000 some 830 arrive, and 600 without.
    assert!(share(lied) >= 750, "{lied:?} {noise:?}");
}
