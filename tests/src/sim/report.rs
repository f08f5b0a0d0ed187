//! What a world came to, in numbers.

use super::World;
use super::account::{TABLES, percentile};
use super::plan::Plan;
use blvm_mesh_core::time::SECOND;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a world came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Hash of everything that happened.
    pub trace: u128,
    /// How often things happened.
    pub counts: BTreeMap<String, u64>,
    /// The summary, without anything that depends on the machine.
    pub summary: Value,
}

/// A time in milliseconds.
fn ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

fn percentiles(sample: &[u64], unit: impl Fn(u64) -> Value) -> Value {
    let at = |p| unit(percentile(sample, p));
    json!({ "p5": at(5), "p50": at(50), "p95": at(95), "p99": at(99), "max": at(100) })
}

/// What came of the flows: a payer's loss is what it paid a node for and that was not carried.
fn flows(world: &World) -> Value {
    let all = world.flows.all.values();
    let (bytes, msat) = (world.flows.delivered, world.lightning.paid_msat);
    json!({
        "begun": all.len(),
        "opened": all.clone().filter(|flow| flow.opened).count(),
        "done": all.clone().filter(|flow| flow.is_done()).count(),
        "delivered_bytes": bytes,
        "paid_msat": msat,
        "bytes_per_msat": if msat == 0 { Value::Null } else { json!(bytes as f64 / msat as f64) },
        "largest_loss_msat_at_a_hop": world.largest_loss_msat(),
    })
}

impl Report {
    /// The report of a world at its end.
    pub fn of(world: &World, plan: &Plan) -> Self {
        let a = &world.account;
        let seconds = world.now as f64 / SECOND as f64;
        let per_node = |bytes: u64| bytes as f64 / seconds.max(1e-6) / world.nodes.len() as f64;
        let refusals = |payments: bool| -> BTreeMap<String, u64> {
            let all = world.checks.counts.iter().filter_map(|(name, n)| {
                let (kind, reason) = name.split_once('(')?;
                let payment = matches!(kind, "PaymentVerificationFailed" | "ReplayDetected");
                let closed = ")".repeat(reason.matches('(').count());
                let reason = (reason.to_owned() + &closed).replace("()", "");
                (payment == payments).then_some((reason, *n))
            });
            all.collect()
        };
        // What the parties of payments booked that some party never saw.
        let in_part = a.settled.values().map(|s| s.booked_msat).sum::<u64>() - a.shares_msat;
        let peaks: BTreeMap<_, _> = TABLES.into_iter().zip(a.peaks).collect();
        let radio = world.radio.as_ref().map(|m| {
            json!({
                "frames": m.frames,
                "frames_again": m.again,
                "bytes_per_node_second": per_node(m.bytes),
                "airtime_s": m.airtime as f64 / SECOND as f64,
                "airtime_s_of": m.airtime_of.iter().map(|(kind, time)| (*kind, *time as f64 / SECOND as f64)).collect::<BTreeMap<_, _>>(),
                "received": m.received,
                "collided": m.collided,
                "airtime_share_per_node": m.airtime as f64 / world.now as f64 / world.nodes.len() as f64,
            })
        });
        let summary = json!({
            "seed": plan.seed,
            "nodes": world.nodes.len(),
            "topology": plan.topology,
            "simulated_s": seconds,
            "events": world.events(),
            "inputs": a.inputs,
            "sent": a.sent,
            "arrived": a.arrived,
            "delivery_ratio": if a.sent == 0 { 1.0 } else { a.arrived as f64 / a.sent as f64 },
            "sent_and_arrived_by_minute": a.by_minute,
            "latency_ms": percentiles(&a.latencies, |t| json!(ms(t))),
            "links_crossed": percentiles(&a.hops, |n| json!(n)),
            "discovery_ms": percentiles(&a.discoveries, |t| json!(ms(t))),
            "searches_found": a.discoveries.len(),
            "searches_failed": a.failed_searches,
            "control_packets": a.control_packets,
            "control_bytes_per_node_second": per_node(a.control_bytes),
            "data_packets": a.data_packets,
            "data_bytes_per_node_second": per_node(a.data_bytes),
            "payments_accepted": a.accepted,
            "payments_refused": refusals(true),
            "refused": refusals(false),
            "earned_msat": a.earned,
            "earned_sum_msat": a.earned.iter().sum::<u64>(),
            "paid_msat": a.paid_msat,
            "shares_msat": a.shares_msat,
            "shares_of_undelivered_msat": in_part,
            "shares_sum_to_paid": a.paid_msat == a.shares_msat
                && a.earned.iter().sum::<u64>() == a.shares_msat + in_part,
            "peak_tables": peaks,
            "flows": flows(world),
            "radio": radio,
            "trace": format!("{:032x}", world.trace.hash()),
        });
        Self { trace: world.trace.hash(), counts: world.checks.counts.clone(), summary }
    }
}
