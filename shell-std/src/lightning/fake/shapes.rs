//! Answers in the shapes of the real ones: LND 0.18.4 (REST), Core Lightning 24.11.1 (JSON-RPC over
//! its socket), phoenixd 0.6.2 and LNbits 1.0 (HTTP), as their documentation and sources have them, and
//! blvm-mesh-lightning 0.1.0 (JSON-RPC over its socket). What nobody here reads is mostly left out.

use super::{Answer, Conduct, Made, Model, Request, SECRET, hash_of};
use bitcoin::base64::Engine;
use bitcoin::base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};

/// What the node holds on its side and on the other, in millisatoshi.
pub(in crate::lightning) const HELD_MSAT: [u64; 2] = [700_000_000, 300_000_000];
/// What each payment costs beyond its amount, in millisatoshi.
pub(in crate::lightning) const FEE_MSAT: u64 = 2_000;
const MINUTE_MS: u64 = 60_000;

pub(super) fn answer(kind: &str, request: &Request, model: &mut Model) -> Answer {
    if !matches!(kind, "cln" | "ldk") {
        let expected = match kind {
            "phoenixd" => format!("Basic {}", STANDARD.encode(format!(":{SECRET}"))),
            _ => SECRET.to_owned(),
        };
        assert_eq!(request.credential, expected, "{}", request.name);
    }
    match kind {
        "lnd" => lnd(request, model),
        "cln" => cln(request, model),
        "phoenixd" => phoenixd(request, model),
        "ldk" => ldk(request, model),
        _ => lnbits(request, model),
    }
}

/// A credential that does not hold any more.
pub(super) fn expired(kind: &str) -> Answer {
    match kind {
        "lnd" => Answer::new(
            500,
            &json!({"code": 2, "message": "verification failed: caveat \"time-before \
                   2026-01-01T00:00:00Z\" not satisfied: macaroon has expired", "details": []}),
        ),
        // It has none: the file's rights say who may ask.
        "cln" | "ldk" => Answer::new(200, &json!({})),
        "phoenixd" => Answer {
            status: 401,
            body: "Invalid authentication (use basic auth with the http password set in \
                   phoenix.conf)"
                .into(),
            is_open: false,
        },
        _ => Answer::new(401, &json!({"detail": "Invalid key or wallet."})),
    }
}

fn text<'a>(body: &'a Value, name: &str) -> &'a str {
    body[name].as_str().unwrap_or_else(|| panic!("{name} in {body}"))
}

fn number(body: &Value, name: &str) -> u64 {
    body[name].as_u64().or_else(|| body[name].as_str()?.parse().ok()).unwrap()
}

fn hash(hex: &str) -> [u8; 32] {
    hex::decode(hex).unwrap().try_into().unwrap()
}

fn lnd(request: &Request, model: &mut Model) -> Answer {
    let network = match model.network {
        blvm_mesh_core::id::Network::Testnet3 => "testnet",
        network => network.name(),
    };
    let error = |status, code, message: &str| {
        Answer::new(status, &json!({"code": code, "message": message, "details": []}))
    };
    // In a stream an error is inside of one more object.
    let streamed = |status, code, message: &str| {
        let error = json!({"code": code, "message": message, "details": []});
        Answer::new(status, &json!({"error": error}))
    };
    let payment = |hash: [u8; 32], made: Made| {
        let (status, preimage, reason, is_open) = match made {
            Made::Paid(preimage) => ("SUCCEEDED", preimage, "FAILURE_REASON_NONE", false),
            Made::Failed => ("FAILED", [0; 32], "FAILURE_REASON_NO_ROUTE", false),
            Made::Held(..) => ("IN_FLIGHT", [0; 32], "FAILURE_REASON_NONE", true),
        };
        let result = json!({
            "payment_hash": hex::encode(hash), "value": "50", "creation_date": "1736900000",
            "fee": "2", "payment_preimage": hex::encode(preimage), "value_sat": "50",
            "value_msat": "50000", "payment_request": "lnbcrt500n1", "status": status,
            "fee_sat": "2", "fee_msat": FEE_MSAT.to_string(),
            "creation_time_ns": "1736900000000000000", "htlcs": [], "payment_index": "4",
            "failure_reason": reason, "first_hop_custom_records": {},
        });
        let body = json!({"result": result}).to_string();
        Answer { status: 200, body, is_open }
    };
    let body = &request.body;
    match request.name.split_once(' ').unwrap() {
        ("GET", "/v1/getinfo") => Answer::new(
            200,
            &json!({
                "version": "0.18.4-beta commit=v0.18.4-beta", "identity_pubkey": model.key().to_string(),
                "alias": "relay", "color": "#3399ff", "num_active_channels": 2,
                "block_height": 880_000, "best_header_timestamp": "1736900000",
                "synced_to_chain": true, "synced_to_graph": true, "testnet": false,
                "chains": [{"chain": "bitcoin", "network": network}], "uris": [],
            }),
        ),
        ("GET", "/v1/balance/channels") => {
            let amount =
                |msat: u64| json!({"sat": (msat / 1_000).to_string(), "msat": msat.to_string()});
            Answer::new(
                200,
                &json!({
                    "balance": "700000", "pending_open_balance": "0",
                    "local_balance": amount(HELD_MSAT[0]), "remote_balance": amount(HELD_MSAT[1]),
                    "unsettled_local_balance": amount(0), "unsettled_remote_balance": amount(0),
                }),
            )
        }
        ("POST", "/v1/invoices") => {
            let (invoice, hash) = model.invoice(
                text(body, "memo"),
                number(body, "value_msat"),
                number(body, "expiry"),
            );
            Answer::new(
                200,
                &json!({
                    "r_hash": STANDARD.encode(hash), "payment_request": invoice,
                    "add_index": "7", "payment_addr": STANDARD.encode([5; 32]),
                }),
            )
        }
        ("POST", "/v2/router/send") => {
            assert!(number(body, "fee_limit_msat") >= FEE_MSAT);
            assert!(number(body, "timeout_seconds") >= 1);
            match model.pay(text(body, "payment_request")) {
                (hash, Some(made)) => match made {
                    // Nothing comes while it is on its way.
                    Made::Held(..) => Answer { status: 200, body: String::new(), is_open: true },
                    made => payment(hash, made),
                },
                (hash, None) if model.made.contains_key(&hash) => {
                    streamed(409, 6, "payment is in transition")
                }
                (_, None) => streamed(500, 2, "self-payments not allowed"),
            }
        }
        ("GET", path) if path.starts_with("/v2/router/track/") => {
            let hash = URL_SAFE.decode(path.rsplit_once('/').unwrap().1).unwrap();
            let hash: [u8; 32] = hash.try_into().unwrap();
            match model.look_up(&hash) {
                Some(made) => payment(hash, made),
                None => streamed(404, 5, "payment isn't initiated"),
            }
        }
        ("GET", path) if path.starts_with("/v1/graph/routes/") => {
            let (way, query) = path.split_once('?').unwrap();
            let mut parts = way.rsplit('/');
            let (sat, payee) = (parts.next().unwrap(), parts.next().unwrap());
            assert!(sat.parse::<u64>().unwrap() > 0 && payee.len() == 66, "{path}");
            assert!(query.starts_with("fee_limit.fixed_msat="), "{path}");
            match model.conduct {
                Conduct::Fails => error(500, 2, "unable to find a path to destination"),
                _ => Answer::new(
                    200,
                    &json!({"routes": [{"total_time_lock": 880_040, "total_fees": "2",
                        "total_amt": sat, "hops": [], "total_fees_msat": FEE_MSAT.to_string(),
                        "total_amt_msat": "52000"}], "success_prob": 0.95}),
                ),
            }
        }
        ("GET", path) if path.starts_with("/v1/invoice/") => {
            match model.invoices.get(&hash(path.rsplit_once('/').unwrap().1)) {
                Some(settled) => {
                    let state = if *settled { "SETTLED" } else { "OPEN" };
                    Answer::new(200, &json!({"memo": "", "state": state, "amt_paid_msat": "0"}))
                }
                None => error(404, 5, "there are no existing invoices"),
            }
        }
        _ => error(404, 5, "Not Found"),
    }
}

fn cln(request: &Request, model: &mut Model) -> Answer {
    let result = |result: Value| {
        Answer::new(200, &json!({"jsonrpc": "2.0", "id": "blvm-mesh", "result": result}))
    };
    let error = |code: i64, message: &str| {
        let error = json!({"code": code, "message": message});
        Answer::new(200, &json!({"jsonrpc": "2.0", "id": "blvm-mesh", "error": error}))
    };
    let body = &request.body;
    match request.name.as_str() {
        "getinfo" => result(json!({
            "id": model.key().to_string(), "alias": "relay", "color": "03ba3d", "num_peers": 1,
            "num_active_channels": 1, "blockheight": 880_000, "network": match model.network {
                blvm_mesh_core::id::Network::Mainnet => "bitcoin",
                network => network.name(),
            },
            "version": "v24.11.1", "fees_collected_msat": 0, "lightning-dir": "/x",
        })),
        "listpeerchannels" => {
            let channel = |state: &str, connected: bool| {
                json!({"peer_id": model.key().to_string(), "peer_connected": connected, "state": state,
                       "spendable_msat": HELD_MSAT[0], "receivable_msat": HELD_MSAT[1]})
            };
            result(json!({"channels": [
                channel("CHANNELD_NORMAL", true), channel("ONCHAIN", true),
                channel("CHANNELD_NORMAL", false),
                {"peer_id": model.key().to_string(), "state": "OPENINGD"},
            ]}))
        }
        "invoice" => {
            let label = text(body, "label");
            assert!(label.starts_with("blvm-mesh/") && label.len() == 42, "{label}");
            let (invoice, hash) = model.invoice(
                text(body, "description"),
                number(body, "amount_msat"),
                number(body, "expiry"),
            );
            result(json!({"payment_hash": hex::encode(hash), "expires_at": 1_800_000_000,
                          "bolt11": invoice, "payment_secret": "05", "created_index": 4}))
        }
        "xpay" => {
            assert!(number(body, "maxfee") >= FEE_MSAT && number(body, "retry_for") >= 1);
            match model.pay(text(body, "invstring")).1 {
                Some(Made::Paid(preimage)) => result(json!({
                    "payment_preimage": hex::encode(preimage), "failed_parts": 0,
                    "successful_parts": 1, "amount_msat": 50_000,
                    "amount_sent_msat": 50_000 + FEE_MSAT,
                })),
                Some(Made::Failed) => error(205, "Failed: Could not find a path"),
                Some(Made::Held(..)) => error(209, "Timed out after 1 seconds"),
                None => error(209, "Already paying this invoice"),
            }
        }
        "getroute" => {
            assert_eq!(text(body, "id").len(), 66);
            let amount = number(body, "amount_msat");
            let hop = |amount: u64| {
                json!({"id": text(body, "id"), "channel": "103x1x0",
                "direction": 1, "amount_msat": amount, "delay": 9, "style": "tlv"})
            };
            match model.conduct {
                Conduct::Fails => error(205, "Could not find a route"),
                _ => result(json!({"route": [hop(amount + FEE_MSAT), hop(amount)]})),
            }
        }
        "listpays" => {
            let hash = hash(text(body, "payment_hash"));
            let pays = model.look_up(&hash).map(|made| {
                let hash = hex::encode(hash);
                match made {
                    Made::Paid(preimage) => json!({
                        "bolt11": "lnbcrt500n1", "payment_hash": hash, "status": "complete",
                        "created_at": 1_736_900_000, "preimage": hex::encode(preimage),
                        "amount_msat": 50_000, "amount_sent_msat": 50_000 + FEE_MSAT,
                    }),
                    Made::Failed => json!({"payment_hash": hash, "status": "failed",
                                           "amount_sent_msat": 0}),
                    Made::Held(..) => json!({"payment_hash": hash, "status": "pending",
                                             "amount_sent_msat": 52_000}),
                }
            });
            result(json!({"pays": pays.into_iter().collect::<Vec<_>>()}))
        }
        "listinvoices" => {
            let found = model.invoices.get(&hash(text(body, "payment_hash")));
            let invoices = found.map(
                |settled| json!({"label": "x", "status": if *settled { "paid" } else { "unpaid" }}),
            );
            result(json!({"invoices": invoices.into_iter().collect::<Vec<_>>()}))
        }
        other => error(-32601, &format!("Unknown command '{other}'")),
    }
}

fn phoenixd(request: &Request, model: &mut Model) -> Answer {
    let plain = |status, text: &str| Answer { status, body: text.into(), is_open: false };
    let missing = || plain(404, "Unknown endpoint (check api doc)");
    let body = &request.body;
    match request.name.split_once(' ').unwrap() {
        ("GET", "/getinfo") => Answer::new(
            200,
            &json!({
                "nodeId": model.key().to_string(),
                "channels": [{"state": "Normal", "channelId": "05", "capacitySat": 1_000_000,
                              "balanceSat": HELD_MSAT[0] / 1_000,
                              "inboundLiquiditySat": HELD_MSAT[1] / 1_000}, {"state": "Closed"}],
                "chain": model.network.name(), "blockHeight": 880_000, "version": "0.6.2-dd9f6ab",
            }),
        ),
        ("GET", "/getbalance") => {
            Answer::new(200, &json!({"balanceSat": HELD_MSAT[0] / 1_000, "feeCreditSat": 0}))
        }
        ("POST", "/createinvoice") => {
            let (amount_sat, expiry) = (number(body, "amountSat"), number(body, "expirySeconds"));
            let (invoice, hash) =
                model.invoice(text(body, "description"), amount_sat * 1_000, expiry);
            Answer::new(
                200,
                &json!({"amountSat": amount_sat, "paymentHash": hex::encode(hash),
                        "serialized": invoice}),
            )
        }
        ("POST", "/payinvoice") => {
            let (hash, made) = model.pay(text(body, "invoice"));
            let failed = |reason: &str| {
                Answer::new(200, &json!({"paymentHash": hex::encode(hash), "reason": reason}))
            };
            match made {
                Some(Made::Paid(preimage)) => Answer::new(
                    200,
                    &json!({
                        "recipientAmountSat": 50, "routingFeeSat": FEE_MSAT / 1_000,
                        "paymentId": "8c3f1f4b-7f6b-4a0e-9f10-000000000000",
                        "paymentHash": hex::encode(hash), "paymentPreimage": hex::encode(preimage),
                    }),
                ),
                Some(Made::Failed) => failed("recipient node is unavailable"),
                Some(Made::Held(..)) => Answer { is_open: true, ..plain(200, "") },
                None if model.made.contains_key(&hash) => failed("payment is already in flight"),
                None => failed("balance is too low"),
            }
        }
        ("GET", path) if path.starts_with("/payments/outgoingbyhash/") => {
            let hash = hash(path.rsplit_once('/').unwrap().1);
            let Some(made) = model.look_up(&hash) else { return missing() };
            let mut found = json!({
                "type": "outgoing_payment", "subType": "lightning",
                "paymentId": "8c3f1f4b-7f6b-4a0e-9f10-000000000000",
                "paymentHash": hex::encode(hash), "isPaid": !matches!(made, Made::Held(..)),
                "sent": 52, "fees": FEE_MSAT, "invoice": "lnbcrt500n1",
                "createdAt": 1_736_900_000_000u64,
            });
            if !matches!(made, Made::Held(..)) {
                found["completedAt"] = (1_736_900_000_000 + MINUTE_MS).into();
            }
            if let Made::Paid(preimage) = made {
                found["preimage"] = hex::encode(preimage).into();
            }
            Answer::new(200, &found)
        }
        ("GET", path) if path.starts_with("/payments/incoming/") => {
            match model.invoices.get(&hash(path.rsplit_once('/').unwrap().1)) {
                Some(settled) => Answer::new(
                    200,
                    &json!({"type": "incoming_payment", "isPaid": settled, "isExpired": false,
                            "receivedSat": 0, "fees": 0}),
                ),
                None => missing(),
            }
        }
        _ => missing(),
    }
}

fn lnbits(request: &Request, model: &mut Model) -> Answer {
    let detail = |status, text: &str| Answer::new(status, &json!({"detail": text}));
    let body = &request.body;
    match request.name.split_once(' ').unwrap() {
        ("GET", "/api/v1/wallet") => {
            Answer::new(200, &json!({"id": "a1", "name": "relay", "balance": HELD_MSAT[0]}))
        }
        ("GET", path) if path.starts_with("/api/v1/payments/fee-reserve?invoice=lnbcrt") => {
            Answer::new(200, &json!({"fee_reserve": FEE_MSAT}))
        }
        ("POST", "/api/v1/payments") if body["out"] == false => {
            assert_eq!(body["unit"], "sat");
            let (amount, expiry) = (number(body, "amount") * 1_000, number(body, "expiry"));
            let (invoice, hash) = model.invoice(text(body, "memo"), amount, expiry);
            Answer::new(
                201,
                &json!({"checking_id": hex::encode(hash), "payment_hash": hex::encode(hash),
                        "wallet_id": "a1", "amount": amount, "fee": 0, "bolt11": invoice,
                        "status": "pending", "memo": body["memo"], "preimage": null}),
            )
        }
        ("POST", "/api/v1/payments") => match model.pay(text(body, "bolt11")) {
            (hash, Some(made @ (Made::Paid(_) | Made::Held(..)))) => {
                let status = if matches!(made, Made::Paid(_)) { "success" } else { "pending" };
                Answer::new(
                    201,
                    &json!({"checking_id": hex::encode(hash), "payment_hash": hex::encode(hash),
                            "status": status, "amount": -50_000, "fee": -(FEE_MSAT as i64)}),
                )
            }
            (_, Some(Made::Failed)) => {
                Answer::new(520, &json!({"detail": "Payment failed: no_route", "status": "failed"}))
            }
            (hash, None) if model.made.contains_key(&hash) => {
                detail(520, "Payment already in progress.")
            }
            (_, None) => detail(520, "Insufficient balance."),
        },
        ("GET", path) if path.starts_with("/api/v1/payments/") => {
            let hash = hash(path.rsplit_once('/').unwrap().1);
            let found = |paid: bool, status: &str, preimage: Option<[u8; 32]>, fee: i64| {
                let preimage = preimage.map(hex::encode);
                Answer::new(
                    200,
                    &json!({
                        "paid": paid, "status": status, "preimage": preimage,
                        "details": {"status": status, "fee": fee, "amount": -50_000,
                                    "payment_hash": hex::encode(hash), "pending": !paid},
                    }),
                )
            };
            let fee = -(FEE_MSAT as i64);
            match (model.look_up(&hash), model.invoices.get(&hash)) {
                (Some(Made::Paid(preimage)), _) => found(true, "success", Some(preimage), fee),
                (Some(Made::Failed), _) => found(false, "failed", None, 0),
                (Some(Made::Held(..)), _) => found(false, "pending", None, fee),
                (None, Some(true)) => found(true, "success", Some([1; 32]), 0),
                (None, Some(false)) => found(false, "pending", None, 0),
                (None, None) => detail(404, "Payment does not exist."),
            }
        }
        _ => detail(404, "Not Found"),
    }
}

fn ldk(request: &Request, model: &mut Model) -> Answer {
    let result =
        |result: Value| Answer::new(200, &json!({"jsonrpc": "2.0", "id": 1, "result": result}));
    let error = |code: i64, message: &str| {
        let error = json!({"code": code, "message": message});
        Answer::new(200, &json!({"jsonrpc": "2.0", "id": 1, "error": error}))
    };
    let payment = |made: Made| match made {
        Made::Paid(preimage) => {
            json!({"status": "paid", "preimage": hex::encode(preimage), "fee_msat": FEE_MSAT})
        }
        Made::Failed => json!({"status": "failed", "reason": "no way to the payee carried it"}),
        Made::Held(..) => json!({"status": "pending"}),
    };
    let body = &request.body;
    match request.name.as_str() {
        "getinfo" => result(json!({
            "node": model.key().to_string(), "alias": "relay", "network": model.network.name(),
            "block_height": 880_000, "synced": true, "version": "0.1.0",
            "listen": ["127.0.0.1:9735"], "channels": 1, "usable_channels": 1,
        })),
        "balance" => result(json!({
            "onchain_sat": 100_000, "onchain_spendable_sat": 75_000, "reserve_sat": 25_000,
            "lightning_sat": HELD_MSAT[0] / 1_000, "payable_msat": HELD_MSAT[0],
            "receivable_msat": HELD_MSAT[1],
        })),
        "invoice" => {
            let (invoice, hash) = model.invoice(
                text(body, "text"),
                number(body, "amount_msat"),
                number(body, "expiry_s"),
            );
            result(json!({"invoice": invoice, "payment_hash": hex::encode(hash),
                          "expires_at": 1_800_000_000}))
        }
        "pay" => {
            assert!(number(body, "max_fee_msat") >= FEE_MSAT);
            match model.pay(text(body, "invoice")) {
                // It begins, and does not wait.
                (_, Some(Made::Failed)) => result(payment(Made::Failed)),
                (_, Some(_)) => result(json!({"status": "pending"})),
                (hash, None) if model.made.contains_key(&hash) => error(
                    1,
                    "it was told to pay this invoice before; lookup tells what became of it",
                ),
                (_, None) => error(1, "the invoice is this node's own"),
            }
        }
        "lookup" => result(match model.look_up(&hash(text(body, "payment_hash"))) {
            Some(made) => payment(made),
            None => json!({"status": "unknown"}),
        }),
        "settled" => result(match model.invoices.get(&hash(text(body, "payment_hash"))) {
            Some(true) => json!({"status": "settled", "amount_msat": 50_000}),
            Some(false) => json!({"status": "open"}),
            None => json!({"status": "unknown"}),
        }),
        other => error(-32_601, &format!("there is no method {other}")),
    }
}

/// What the node says of a payment that is made.
pub(in crate::lightning) fn is_paid(made: Option<Made>, hash: &[u8; 32]) -> bool {
    matches!(made, Some(Made::Paid(preimage)) if hash_of(&preimage) == *hash)
}
