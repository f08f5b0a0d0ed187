//! Commands that need no node, from their arguments to the answer; and that help,
//! documentation and arguments agree.

use super::*;
use clap::CommandFactory;
use clap::error::ErrorKind;
use serde_json::Value;
use std::path::Path;

/// Answers a command line, which must be well-formed.
pub(super) fn run(arguments: &[&str]) -> Result<Answer, Failure> {
    let all = ["blvm-mesh"].iter().chain(arguments);
    Cli::try_parse_from(all).unwrap_or_else(|e| panic!("{arguments:?}: {e}")).run()
}

fn usage_error(arguments: &[&str]) -> ErrorKind {
    let all = ["blvm-mesh"].iter().chain(arguments);
    Cli::try_parse_from(all).expect_err("bad usage").kind()
}

fn file(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn text<'a>(json: &'a Value, key: &str) -> &'a str {
    json[key].as_str().unwrap_or_else(|| panic!("{key} in {json}"))
}

#[test]
fn arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_help_with_an_example_and_a_page_in_the_documentation() {
    let page = include_str!("../../../docs/CLI.md");
    let mut command = Cli::command();
    command.build();
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let name = sub.get_name();
        let help = sub.clone().render_help().to_string();
        assert!(help.contains("Example"), "{name} --help shows no example");
        assert!(help.contains(&format!("blvm-mesh {name}")), "{name} --help lacks its example");
        assert!(help.contains("--json"), "{name} has no --json");
        assert!(page.contains(&format!("\n## {name}\n")), "docs/CLI.md has no section {name}");
        for argument in sub.get_arguments().filter_map(|a| a.get_long()) {
            if !["help", "version"].contains(&argument) {
                assert!(page.contains(&format!("--{argument}")), "docs/CLI.md lacks --{argument}");
            }
        }
    }
}

#[test]
fn examples_in_the_documentation_are_well_formed() {
    let page = include_str!("../../../docs/CLI.md");
    let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let mut examples = 0;
    for line in page.lines().filter_map(|line| line.trim().strip_prefix("$ ")) {
        // The command itself, without what is before and after it in the shell.
        let Some((_, rest)) = line.split_once("blvm-mesh ") else { continue };
        let rest = rest.split(['|', '>']).next().unwrap_or_default();
        let rest = rest
            .replace("$NODE", key)
            .replace("$ISSUER", key)
            .replace("$PEER", &format!("{key}@h:1"));
        let rest = rest.replace("$PROMISE", &"00".repeat(49));
        let rest = rest.replace("$PREIMAGE", &"00".repeat(32)).replace("$INVOICE", "lnbcrt1");
        let rest = rest.replace("$INVITATION", "blvmmesh1");
        let arguments = ["blvm-mesh"].into_iter().chain(rest.split_whitespace());
        match Cli::try_parse_from(arguments) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::DisplayHelp => {}
            Err(e) => panic!("{line}: {e}"),
        }
        examples += 1;
    }
    assert!(examples >= 18, "{examples} examples are too few to be all");
}

#[test]
fn detect_says_protocol_policy_and_why_not() {
    let dir = tempfile::tempdir().unwrap();
    // A verack of the main network, as in the protocol's documentation.
    let verack = "f9beb4d9 76657261636b000000000000 00000000 5df6e0e2\n";
    let hex = file(dir.path(), "verack.hex", verack);
    let answer = run(&["detect", &hex]).unwrap();
    assert!(answer.yes);
    assert_eq!(text(&answer.json, "protocol"), "BitcoinP2P");
    assert_eq!(text(&answer.json, "policy"), "Free");
    assert!(answer.text.contains("protocol  BitcoinP2P"), "{}", answer.text);
    let bytes: Vec<u8> = hex::decode(verack.replace([' ', '\n'], "")).unwrap();
    let binary = file(dir.path(), "verack.bin", &bytes);
    assert_eq!(run(&["detect", &binary]).unwrap(), answer);

    let other = run(&["detect", &hex, "--network", "regtest"]).unwrap();
    assert!(!other.yes);
    assert!(text(&other.json, "reason").contains("only regtest"), "{}", other.json);

    let mut wrong = bytes.clone();
    wrong[20] ^= 1;
    let wrong = file(dir.path(), "wrong", wrong);
    for (mode, policy) in
        [("bitcoin_only", "Refused"), ("payment_gated", "PaymentRequired"), ("open", "Free")]
    {
        let answer = run(&["detect", &wrong, "--mode", mode]).unwrap();
        assert!(!answer.yes);
        assert_eq!(text(&answer.json, "protocol"), "Unknown");
        assert_eq!(text(&answer.json, "policy"), policy);
        assert!(text(&answer.json, "reason").contains("checksum"), "{}", answer.json);
    }
    // Bytes by class, where they go free.
    let easy = "f9beb4d9686561646572730000000000520000009f75a60f010100000081cd02ab7e569e8bcd9317\
                e2fe99f2de44d49ab2b8851ba4a308000000000000e320b6c2fffc8d750423db8b1eb942ae710e95\
                1ed797f7affc8892b0f1fc122bc7f5d74df2b9441a42a1469500";
    let easy = file(dir.path(), "easy", hex::decode(easy).unwrap());
    let bytes = |more: &[&str]| {
        let answer = run(&[&["detect", &easy], more].concat()).unwrap();
        answer.json.get("free_bytes").cloned()
    };
    let free =
        |worked, plain| Some(serde_json::json!({"worked": worked, "plain": plain, "rare": 0}));
    assert_eq!(bytes(&[]), free(0, 106), "difficulty 244,112");
    assert_eq!(bytes(&["--min-difficulty", "244112"]), free(106, 0));
    assert_eq!(bytes(&["--min-difficulty", "244113"]), free(0, 106));
    assert_eq!(bytes(&["--mode", "open"]), free(106, 0));
    let own = format!("54d26fbd{}", &verack.replace([' ', '\n'], "")[8..]);
    let own = file(dir.path(), "own-signet", hex::decode(own).unwrap());
    assert!(!run(&["detect", &own]).unwrap().yes);
    let signet = ["detect", &own, "--signet-challenge", "51"];
    assert!(run(&[&signet[..], &["--network", "signet"]].concat()).unwrap().yes);
    assert!(run(&signet).unwrap_err().0.contains("--network signet"));
    let unpaid = run(&["detect", &wrong]).unwrap();
    assert_eq!(unpaid.json.get("free_bytes"), None);
    assert!(!unpaid.text.contains("plain"), "{}", unpaid.text);
    // The text of the hex is no message.
    assert!(!run(&["detect", &hex, "--format", "binary"]).unwrap().yes);
    assert!(run(&["detect", "no-such-file"]).unwrap_err().0.contains("no-such-file"));
    assert_eq!(usage_error(&["detect", &hex, "--mode", "closed"]), ErrorKind::ValueValidation);
}

#[test]
fn issuer_and_verify_proof_belong_together() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("issuer.key");
    let key = key.to_str().unwrap();
    let shown = run(&["issuer", "--key", key]).unwrap();
    let issuer = text(&shown.json, "issuer").to_owned();
    let terms = "5e".repeat(32);
    let ask = |more: &[&str]| {
        let mut all = vec!["issuer", "--key", key, "--terms", &terms, "--at", "1750000000"];
        all.extend(more);
        run(&all)
    };
    let issued = ask(&["--amount-msat", "12000", "--expiry", "60"]).unwrap().json;
    assert_eq!(text(&issued, "issuer"), issuer);
    let (invoice, preimage) = (text(&issued, "invoice"), text(&issued, "preimage"));
    let verify = |more: &[&str]| {
        let mut all = vec!["verify-proof", "--invoice", invoice, "--preimage", preimage];
        all.extend(more);
        run(&all).unwrap()
    };

    let good = verify(&["--issuer", &issuer, "--at", "1750000059", "--terms", &terms]);
    assert!(good.yes, "{}", good.json);
    assert_eq!(good.json["verified"], true);
    assert_eq!(good.json["amount_msat"], 12_000);
    assert_eq!(good.json["expires_at"], 1_750_000_060u64);
    assert_eq!(good.json["payment_hash"], issued["payment_hash"]);
    assert_eq!(text(&good.json, "payee"), issuer);
    assert!(verify(&["--issuer", &issuer, "--at", "1750000000"]).yes, "terms may be left out");

    let stranger = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let other_terms = "5f".repeat(32);
    let faults: [(&[&str], &str); 5] = [
        (&["--issuer", &issuer], "expired"),
        (&["--issuer", &issuer, "--at", "1750000060"], "expired"),
        (&["--issuer", stranger, "--at", "1750000000"], "not an accepted issuer"),
        (&["--issuer", &issuer, "--at", "1750000000", "--network", "mainnet"], "mainnet"),
        (&["--issuer", &issuer, "--at", "1750000000", "--terms", &other_terms], "terms"),
    ];
    for (more, reason) in faults {
        let answer = verify(more);
        assert!(!answer.yes && answer.json["verified"] == false, "{more:?}");
        assert!(text(&answer.json, "reason").contains(reason), "{more:?} {}", answer.json);
    }
    let both = ["--issuer", stranger, "--issuer", &issuer, "--at", "1750000000"];
    assert!(verify(&both).yes, "any of the issuers will do");
    let wrong = ["verify-proof", "--invoice", invoice, "--issuer", &issuer, "--preimage"];
    let answer = run(&[&wrong[..], &[&"00".repeat(32)]].concat()).unwrap();
    assert!(text(&answer.json, "reason").contains("preimage"), "{}", answer.json);

    assert!(ask(&[]).unwrap_err().0.contains("--amount-msat"));
    let error = ask(&["--amount-msat", "1", "--network", "mainnet"]).unwrap_err().0;
    assert!(error.contains("regtest only"), "{error}");
    assert_eq!(
        usage_error(&["verify-proof", "--invoice", "x"]),
        ErrorKind::MissingRequiredArgument
    );
}

#[test]
fn an_invoice_for_anything_is_verified_where_no_terms_are_given() {
    use bitcoin::hashes::{Hash, sha256};
    use lightning_invoice::{Currency, InvoiceBuilder, PaymentSecret};
    use secp256k1::{Secp256k1, SecretKey};
    let secret = SecretKey::from_byte_array([5; 32]).unwrap();
    let secp = Secp256k1::new();
    let issuer = secret.public_key(&secp).to_string();
    for with_payee in [false, true] {
        let mut builder = InvoiceBuilder::new(Currency::Bitcoin)
            .description("one coffee".into())
            .payment_hash(sha256::Hash::hash(&[9; 32]))
            .payment_secret(PaymentSecret([1; 32]))
            .duration_since_epoch(std::time::Duration::from_secs(1_750_000_000))
            .min_final_cltv_expiry_delta(18)
            .amount_milli_satoshis(7_000);
        if with_payee {
            builder = builder.payee_pub_key(issuer.parse().unwrap());
        }
        let invoice = builder.build_signed(|m| crate::issuer::sign(m, &secret)).unwrap();
        let (invoice, preimage) = (invoice.to_string(), "09".repeat(32));
        let verify = |issuer: &str, more: &[&str]| {
            let mut all = vec!["verify-proof", "--invoice", &invoice, "--preimage", &preimage];
            all.extend(["--issuer", issuer]);
            all.extend(more);
            run(&all).unwrap()
        };
        let good = verify(&issuer, &["--at", "1750000001"]);
        assert!(good.yes, "{}", good.json);
        assert_eq!(text(&good.json, "payee"), issuer);
        assert_eq!(good.json["expires_at"], 1_750_003_600u64, "the default of BOLT 11");
        assert_eq!(text(&good.json, "terms"), "not checked");
        let stranger = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        assert!(!verify(stranger, &["--at", "1750000001"]).yes);
        assert!(!verify(&issuer, &["--at", "1750003600"]).yes, "expired");
        assert!(!verify(&issuer, &["--at", "1750000001", "--terms", &"00".repeat(32)]).yes);
    }
}

#[test]
fn a_quote_that_was_edited_is_no_terms() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("issuer.key");
    let hops = ["0a".repeat(8)];
    let (source, destination) = ("01".repeat(32), "02".repeat(32));
    let terms_hash = blvm_mesh_core::payment::terms::Terms {
        network: blvm_mesh_core::id::Network::Regtest,
        source: blvm_mesh_core::id::NodeId([1; 32]),
        destination: blvm_mesh_core::id::NodeId([2; 32]),
        hops: &[blvm_mesh_core::id::HopId([10; 8])],
        quota: 4096,
    }
    .hash();
    let quote = serde_json::json!({
        "source": source, "destination": destination, "hops": hops, "network": "regtest",
        "bytes": 4096, "amount_msat": 4666, "terms_hash": hex::encode(terms_hash),
        "description": "", "shares": [], "min_packet": 5000,
    });
    let good = file(dir.path(), "terms.json", quote.to_string());
    let key = key.to_str().unwrap();
    let issued = run(&["issuer", "--key", key, "--terms", &good]).unwrap();
    assert_eq!(issued.json["amount_msat"], 4666);
    let mut edited = quote;
    edited["bytes"] = 5000.into();
    let edited = file(dir.path(), "edited.json", edited.to_string());
    let error = run(&["issuer", "--key", key, "--terms", &edited]).unwrap_err().0;
    assert!(error.contains("not that of its other fields"), "{error}");
    let error = run(&["issuer", "--key", key, "--terms", "nothing"]).unwrap_err().0;
    assert!(error.contains("neither 64 hex digits nor a file"), "{error}");
}

#[test]
fn ctv_hash_of_a_transaction() {
    // Version 2, one input without script, sequence 0, one output of 1000 satoshi to
    // OP_TRUE, lock time 0. The hash was computed from BIP 119's text with Python's
    // hashlib.
    let tx = "0200000001aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
              00000000000000000001e803000000000000015100000000";
    let expected = "d6853267f39fd1df217bc6bf76190cd74b1850dda8d33af1a0a5103fbacc95a3";
    let answer = run(&["ctv-hash", "--tx", tx, "--input", "0"]).unwrap();
    assert_eq!(answer.text, expected);
    let dir = tempfile::tempdir().unwrap();
    for content in [tx.as_bytes().to_vec(), hex::decode(tx).unwrap()] {
        let path = file(dir.path(), "tx", content);
        assert_eq!(run(&["ctv-hash", "--input", "0", &path]).unwrap().text, expected);
    }
    assert_ne!(run(&["ctv-hash", "--tx", tx, "--input", "1"]).unwrap().text, expected);
    let cut = &tx[..tx.len() - 2];
    assert!(!run(&["ctv-hash", "--tx", cut, "--input", "0"]).unwrap().yes);
    assert_eq!(
        usage_error(&["ctv-hash", "--tx", "0g", "--input", "0"]),
        ErrorKind::ValueValidation
    );
    assert_eq!(usage_error(&["ctv-hash", "--tx", tx]), ErrorKind::MissingRequiredArgument);
}

#[test]
fn decode_shows_every_field_or_says_what_is_wrong() {
    use blvm_mesh_core::id::{HopId, NodeId};
    use blvm_mesh_core::wire::datagram::{Emit, Form, head_len};
    let secp = secp256k1::Secp256k1::new();
    let secret = secp256k1::SecretKey::from_byte_array([3; 32]).unwrap();
    let me = blvm_mesh_core::signature::Identity::new(&secp, &secret);
    let emit = Emit {
        hop_limit: 1,
        sequence: 77,
        source: me.id(),
        destination: NodeId([4; 32]),
        proof: Some((me.public_key(), &[9; 40])),
        form: Form::Plain,
    };
    let mut packet = vec![0; head_len(1, 40)];
    let sign = |hash: &[u8; 32]| me.sign(&secp, hash);
    let n = emit.write(&[HopId([1; 8])], b"hi", &mut packet, sign).unwrap();
    packet.truncate(n);
    packet.extend(b"hi");
    let dir = tempfile::tempdir().unwrap();
    let answer = run(&["decode", &file(dir.path(), "packet", &packet)]).unwrap();
    assert!(answer.yes);
    let json = &answer.json;
    assert_eq!((text(json, "kind"), &json["sequence"]), ("Datagram", &77.into()));
    assert_eq!(text(json, "source"), me.id().to_string());
    assert_eq!(json["hops"], serde_json::json!(["0101010101010101"]));
    assert_eq!((&json["signature_valid"], &json["key_is_sources"]), (&true.into(), &true.into()));
    assert_eq!(text(json, "payload"), "6869");
    assert_eq!(text(json, "payload_protocol"), "Unknown");
    assert!(answer.text.contains("sequence: 77\n"), "{}", answer.text);

    // Kinds and versions that nobody knows, and a byte that was changed on the way.
    for (at, reason) in [(0, "MESH"), (4, "version"), (5, "kind"), (packet.len() - 1, "checksum")] {
        let mut wrong = packet.clone();
        wrong[at] ^= 0x40;
        let answer = run(&["decode", &file(dir.path(), "wrong", &wrong)]).unwrap();
        assert!(!answer.yes);
        assert!(answer.text.contains(reason), "{}", answer.text);
    }
}

#[test]
fn keys_are_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let data_dir = data_dir.to_str().unwrap();
    let missing = run(&["id", "--data-dir", data_dir]).unwrap();
    assert!(!missing.yes && missing.text.contains("blvm-mesh keygen"), "{}", missing.text);
    let made = run(&["keygen", "--data-dir", data_dir]).unwrap();
    let shown =
        run(&["id", "--data-dir", data_dir, "--set", "mesh.listen_addr=10.0.0.1:5"]).unwrap();
    assert_eq!(made.json["node_id"], shown.json["node_id"]);
    let key = text(&made.json, "public_key");
    assert_eq!(text(&shown.json, "address"), format!("{key}@10.0.0.1:5"));
    assert_eq!(shown.json["payout_script"], Value::Null);
    let payout = ["id", "--data-dir", data_dir, "--set", "payment.payout_script=0014aa"];
    assert_eq!(text(&run(&payout).unwrap().json, "payout_script"), "0014aa");
    assert!(!run(&["keygen", "--data-dir", data_dir]).unwrap().yes);
    let other = dir.path().join("other.key");
    assert!(
        run(&["keygen", "--data-dir", data_dir, "--out", other.to_str().unwrap()]).unwrap().yes
    );
    let error = run(&["id", "--data-dir", data_dir, "--set", "mode"]).unwrap_err().0;
    assert!(error.contains("KEY=VALUE"), "{error}");
    let error = run(&["id", "--set", "mesh.mood=x"]).unwrap_err().0;
    assert!(error.contains("there is no key \"mesh.mood\""), "{error}");
}

#[test]
fn errors_say_what_was_expected_and_what_to_do() {
    use blvm_mesh_core::link::handshake::HandshakeError;
    let text = HandshakeError::ActTwoShort.to_string();
    assert_eq!(text, "peer closed during the handshake; is PUBKEY right?");
    let all = ["blvm-mesh", "verify-proof", "--preimage", "00", "--invoice", "x", "--issuer", "x"];
    let error = Cli::try_parse_from(all).unwrap_err().to_string();
    assert!(error.contains("expected 64 hex digits"), "{error}");
}

/// No sentence of the old kind comes back.
#[test]
fn no_error_is_worded_so_that_only_its_author_understands_it() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut left: Vec<_> = ["core/src", "shell-std/src"].map(|d| Path::new(root).join(d)).into();
    let bad = [
        "hex digits are wanted",
        "belongs into",
        "did not hold\"",
        "is wanted\"",
        "takes nothing:",
        "offends too often,",
        "is no number\"",
        "by way of",
    ];
    let mut files = 0;
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if !path.ends_with("cli/tests.rs") {
            files += 1;
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for bad in bad {
                let line = text.lines().find(|line| line.contains(bad) && line.contains('"'));
                assert_eq!(line, None, "{}", path.display());
            }
        }
    }
    assert!(files > 100, "{files} files are too few to be all");
}

#[test]
fn init_makes_what_a_first_start_needs_and_overwrites_nothing() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("deep/node");
    let init = ["init", "--data-dir", data_dir.to_str().unwrap()];
    let made = run(&init).unwrap();
    assert!(made.yes, "{}", made.text);
    for (file, mode) in [("", 0o700), ("mesh.toml", 0o600), ("identity.key", 0o600)] {
        assert_eq!(data_dir.join(file).metadata().unwrap().mode() & 0o777, mode, "{file}");
    }
    let shown = run(&["id", "--data-dir", data_dir.to_str().unwrap()]).unwrap();
    assert_eq!(shown.json["public_key"], made.json["public_key"]);
    std::fs::write(data_dir.join("mesh.toml"), "log = \"warn\"").unwrap();
    let again = run(&init).unwrap();
    assert!(!again.yes);
    assert_eq!(again.json["public_key"], made.json["public_key"]);
    assert_eq!(std::fs::read_to_string(data_dir.join("mesh.toml")).unwrap(), "log = \"warn\"");
}

#[test]
fn without_a_node_commands_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let at = ["--data-dir", dir.path().to_str().unwrap()];
    let target = "02".repeat(32);
    let commands: [&[&str]; 9] = [
        &["peers"],
        &["routes"],
        &["stats"],
        &["recv"],
        &["events", "peers"],
        &["ledger"],
        &["find-route", &target],
        &["quote", &target, "5"],
        &["send", &target, "--text", "hi"],
    ];
    for command in commands {
        let error = run(&[command, &at].concat()).unwrap_err().0;
        assert!(error.contains("start one with `blvm-mesh run`"), "{command:?}: {error}");
    }
    // The ledger is read all the same where there is one.
    let store = crate::store::Store::open(&dir.path().join(crate::store::STORE_FILE), 65_536);
    drop(store.unwrap());
    let answer = run(&[&["ledger"], &at[..]].concat()).unwrap();
    assert_eq!(answer.json["entries"], serde_json::json!([]));
    assert_eq!(usage_error(&["send", "me", "--text", "hi"]), ErrorKind::ValueValidation);
    assert_eq!(
        usage_error(&["send", &target, "--invoice", "x"]),
        ErrorKind::MissingRequiredArgument
    );
}

#[test]
fn a_board_is_told_what_it_needs_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let neighbour = "02".repeat(33);
    let (file, key) = (path("board.bin"), path("board.key"));
    let command = ["board-config", &file, "--key", &key, "--network", "regtest"];
    let more = ["--line", "listen", "--line", &neighbour, "--issuer", &neighbour];
    let made = run(&[&command[..], &more, &["--clock-from", &neighbour]].concat()).unwrap();
    let option = text(&made.json, "option");
    assert_eq!(option, format!("-device loader,file={file},addr=0x003ff000,force-raw=on"));
    assert_eq!(made.json["lines"], serde_json::json!(["listen", neighbour]));
    let shown = run(&["board-config", "--show", &file]).unwrap();
    for same in ["node_id", "public_key", "network", "mode", "lines", "issuers", "clock"] {
        assert_eq!(made.json[same], shown.json[same], "{same}");
    }
    // A secret is never overwritten, and the same key makes the same board.
    let error = run(&command).unwrap_err().0;
    assert!(error.contains("is not overwritten"), "{error}");
    let hex = path("board.hex");
    let again = ["board-config", &hex, "--key", &key, "--format", "ihex", "--address", "0xf0000"];
    assert_eq!(run(&again).unwrap().json["node_id"], made.json["node_id"]);
    let shown = run(&["board-config", "--show", &hex]).unwrap();
    assert_eq!(
        (text(&shown.json, "network"), text(&shown.json, "mode")),
        ("mainnet", "payment_gated")
    );
    assert!(shown.text.contains("none: it takes no payment"), "{}", shown.text);
    let two = ["--board", "rak4631", "--radio", "region=EU868", "--line", "listen"];
    let error = run(&[&["board-config", &path("x")][..], &two, &two[4..]].concat()).unwrap_err().0;
    assert!(error.contains("as a rak4631 has lines: 1"), "{error}");

    std::fs::write(path("no"), b"nothing").unwrap();
    std::fs::set_permissions(path("no"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let error = run(&["board-config", "--show", &path("no")]).unwrap_err().0;
    assert!(error.contains("there is no configuration"), "{error}");
}
