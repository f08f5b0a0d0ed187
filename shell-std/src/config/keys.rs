//! Every key of the configuration, in one table: from it follow what the file, flags and
//! variables are read into, the help, the example, and the table of docs/CLI.md.
//!
//! A row is a key's type and meaning; the setting that it changes, whose value without it is the
//! default; and what else there is of a unit, a range, a default in words, and an example.

use super::ConfigError;
use super::build::{MIN_MAX_PACKET, Places};
use super::key::{DefaultValue, Key, Stored, Written, within};
use super::values::{
    Announced, Backend, Export, ExposedPort, ForwardedTo, Gateway, Group, InterfaceName, Issuer,
    Listen, Millis, Mode, NetworkName, NotUsed, Owing, Peer, Port, SignetMagic,
};
use crate::chain::Secret;
use blvm_mesh_core::config::MAX_HOPS;
use serde::Deserialize;
use std::path::PathBuf;

macro_rules! keys {
    ($(
        $section:literal $table:ident $([$($more:ident: $more_type:ty),*])? {
            $(
                $name:ident: $type:ty, $meaning:literal
                    $(=> $($place:ident).+)?
                    $(, unit $unit:literal)?
                    $(, from $least:tt $(to $most:tt)?)?
                    $(, default $default:literal)?
                    $(, example $example:literal)?;
            )+
        }
    )+) => {
        /// All keys, in the order of the file.
        pub const KEYS: &[Key] = &[$($(Key {
            section: $section,
            name: stringify!($name),
            kind: <$type as Written>::KIND,
            meaning: $meaning,
            unit: keys!(@or "", $($unit)?),
            range: keys!(@range $($least $(, $most)?)?),
            default: keys!(@default [$($($place).+)?] [$($default)?] $type),
            example: keys!(@or "", $($example)?),
        },)+)+];

        $(
            #[doc = concat!("The keys of section `", $section, "`, as they are written.")]
            #[derive(Debug, Default, Deserialize)]
            #[serde(default, deny_unknown_fields)]
            pub(super) struct $table {
                $(pub(super) $name: Option<$type>,)+
                $($(pub(super) $more: $more_type,)*)?
            }

            impl $table {
                /// Puts what is given where it belongs.
                #[allow(unused_variables, reason = "a section may have no key with a place")]
                pub(super) fn apply(&self, places: &mut Places) -> Result<(), ConfigError> {
                    $(if let Some(given) = &self.$name {
                        let range = keys!(@range $($least $(, $most)?)?);
                        let key = concat!($section, ".", stringify!($name));
                        within(key, given, range, keys!(@or "", $($unit)?))?;
                        $(Stored::store(&mut places.$($place).+, given);)?
                    })+
                    Ok(())
                }
            }
        )+
    };

    (@or $other:literal,) => { $other };
    (@or $other:literal, $given:literal) => { $given };
    (@range) => { None };
    (@range $least:tt) => { Some(($least, u64::MAX)) };
    (@range $least:tt, $most:tt) => { Some(($least, $most)) };
    (@default [] [] $type:ty) => { DefaultValue::Nothing };
    (@default [] [$text:literal] $type:ty) => { DefaultValue::Text($text) };
    (@default [$($place:ident).+] [] $type:ty) => {
        DefaultValue::Place(|places| Stored::<$type>::shown(&places.$($place).+))
    };
}

keys! {
    "" File [
        mesh: Mesh, tariff: Tariff, limits: Limits, timing: Timing, payment: Payment,
        flow: Flow, lightning: Lightning, budget: Budget, bitcoin: Bitcoin, lan: Lan, chain: Chain, ledger: Ledger, metrics: Metrics, page: Page, bench: Bench
    ] {
        data_dir: PathBuf, "directory of the node's files", default "~/.blvm-mesh";
        rpc_socket: PathBuf, "socket for commands", default "<data_dir>/rpc.sock";
        log: String, "log filter, as in info or blvm_mesh=debug" => log;
        issuer_key: PathBuf, "key file of a regtest issuer, for trials", example "issuer.key";
    }

    "mesh" Mesh [rate_limit_per_minute: Option<NotUsed>] {
        enabled: bool, "whether `run` starts the node at all" => enabled;
        mode: Mode, "what goes free: bitcoin_only, payment_gated or open" => config.mode;
        listen_addr: Listen, "IP:PORT, serial lines and radios (lora+rnode:///dev/...?region=...) to listen on, \"\": none" => listen;
        radio_key_file: PathBuf, "file with the passphrase of the radio channels, the same for all their nodes; none: a key that everybody knows",
            example "channel.key";
        network: NetworkName, "Bitcoin network: mainnet, testnet3, testnet4, signet or regtest", default "mainnet";
        signet_challenge: SignetMagic,
            "challenge of a signet of its own, a script in hex, as bitcoind's -signetchallenge",
            example "51";
        peers: Vec<Peer>, "nodes to keep a link to: PUBKEY@HOST:PORT/HOST:PORT... (1 to 8 tried in turn), PUBKEY@serial:///dev/...",
            example "PUBKEY@relay.example.org:8338, PUBKEY@serial:///dev/ttyUSB1?baud=115200";
        issuers: Vec<Issuer>, "public keys whose Lightning invoices are accepted",
            example "PUBKEY";
        private_stratum_tlv: bool, "let blvm-node's own Stratum V2 framing go free"
            => config.private_stratum_tlv;
        answer_probes: bool, "answer probes of other nodes (`ping`, `trace`), which tell them the software, prices, allowances and issuers of this one"
            => shell.answer_probes;
        max_peers: u32, "the host node's name for limits.neighbours", from 1 to 65_536,
            example "1024";
    }

    "tariff" Tariff {
        base_msat: u32, "price of a payment" => config.payment.tariff.base_msat, unit "msat";
        per_kib_msat: u32, "price of each started KiB"
            => config.payment.tariff.per_kib_msat, unit "msat";
        receive_base_msat: u32, "price of a payment for bytes of flows that end here (exposed services)"
            => config.flows.receive.base_msat, unit "msat";
        receive_per_kib_msat: u32, "price of each started KiB of them"
            => config.flows.receive.per_kib_msat, unit "msat";
    }

    "limits" Limits {
        max_packet: u32, "largest packet" => config.max_packet, unit "bytes", from MIN_MAX_PACKET;
        free_rate: u64, "free traffic per neighbour" => config.free_rate, unit "bytes/s";
        free_burst: u64, "free traffic at once after a pause" => config.free_burst, unit "bytes";
        min_difficulty: u64, "difficulty of headers and blocks that may use all of it"
            => config.min_difficulty;
        plain_rate: u64, "of it what has no proof of work" => config.plain.rate, unit "bytes/s";
        plain_burst: u64, "the same at once after a pause" => config.plain.burst, unit "bytes";
        rare_rate: u64, "of that commands sent rarely" => config.rare.rate, unit "bytes/s";
        rare_burst: u64, "the same at once after a pause" => config.rare.burst, unit "bytes";
        bad_payments_rate: u32, "bad payments checked per neighbour and second"
            => config.bad_payments.rate, from 1;
        bad_payments_burst: u32, "bad payments checked at once after a pause"
            => config.bad_payments.burst, from 1;
        neighbours: u32, "neighbours at once" => config.capacities.neighbours, from 1 to 65_536;
        per_prefix: u32, "strangers from one IPv4 /24 or IPv6 /48"
            => config.capacities.per_prefix, from 1 to 65_536;
        owners: u32, "neighbours, also gone, whose allowances are remembered"
            => config.capacities.owners, from 1 to 65_536;
        routes: u32, "routes remembered" => config.capacities.routes, from 1 to 1_000_000;
        route_hints: u32, "hints kept of where nodes are, one per node heard of"
            => config.capacities.route_hints, from 1 to 1_000_000;
        relayed_requests: u32, "route requests of others remembered"
            => config.capacities.relayed_requests, from 1 to 1_000_000;
        searches: u32, "own searches at once" => config.capacities.searches, from 1 to 65_536;
        payments: u32, "live payments remembered"
            => config.capacities.payments, from 1 to 100_000_000;
        ends: u32, "flows that may end here" => config.capacities.ends, from 1 to 32_767;
        flows: u32, "flows that may pass" => config.capacities.flows, from 1 to 32_767;
        accounts: u32, "sources that may have bought bytes"
            => config.capacities.accounts, from 1 to 1_000_000;
        tickets: u32, "invoices for bytes, paid or not, in 15 minutes"
            => config.capacities.tickets, from 1 to 1_000_000;
        parked: u32, "packets that may wait for an answer"
            => config.capacities.parked, from 1 to 65_536;
        parked_bytes: u32, "size of these packets, half of it for own ones, at least twice limits.max_packet"
            => config.capacities.parked_bytes, unit "bytes";
        seen: u32, "recent datagrams remembered, a power of two"
            => config.capacities.seen, from 1 to 16_777_216;
        queue_bytes: u32, "queue for one neighbour, at least limits.max_packet" => shell.queue_bytes, unit "bytes";
        link_memory_bytes: u32, "memory of all links together, at least 4 times limits.max_packet" => shell.link_memory, unit "bytes";
        inbox_bytes: u32, "datagrams kept for `recv`, at least limits.max_packet" => shell.inbox_bytes, unit "bytes";
        events: u32, "past events kept of each topic (`events`), for who subscribes with a cursor"
            => shell.events, from 1 to 100_000;
        store_cache_bytes: u32, "memory of the store's cache"
            => shell.store_cache_bytes, unit "bytes";
        threads: u32, "threads that the node's tasks run on" => shell.threads, from 1 to 64;
    }

    "timing" Timing {
        keepalive_ms: Millis, "answer datagrams within this time (0 disables)"
            => config.timing.keepalive, unit "ms";
        hop_round_trip_ms: Millis, "time for a request over a link and back"
            => config.timing.hop_round_trip, unit "ms", from 1;
        first_ring: u8, "links that a search crosses at first"
            => config.timing.first_ring, from 1 to (MAX_HOPS as u64 + 1);
        route_lifetime_ms: Millis, "age at which a route is renewed"
            => config.timing.route_lifetime, unit "ms", from 1;
        verify_timeout_ms: Millis, "longest wait for the host node's answer"
            => config.timing.verify_timeout, unit "ms", from 1;
        handshake_timeout_ms: Millis, "longest handshake of a new link"
            => shell.handshake_timeout, unit "ms", from 1;
        reconnect_min_ms: Millis, "first pause before dialling again, at most timing.reconnect_max_ms"
            => shell.reconnect_min, unit "ms", from 1;
        reconnect_max_ms: Millis, "longest pause before dialling again"
            => shell.reconnect_max, unit "ms", from 1;
    }

    "payment" Payment {
        max_lifetime_s: u32, "longest time to the expiry of a payment"
            => config.payment.max_lifetime, unit "s";
        future_skew_s: u32, "how far in the future a payment may be dated"
            => config.payment.future_skew, unit "s";
        covenants_active: bool, "whether the network enforces OP_CTV (signet and regtest)"
            => config.payment.covenants_active;
        payout_script: String, "script in hex that covenants must pay", example "0014...";
        payout_address: String, "the same as an address", example "tb1q...";
        min_confirmations: u32, "confirmations of a covenant's funding"
            => config.payment.min_confirmations, from 1;
        strangers_relay_paid: bool, "whether strangers relay what this node pays for; else only peers, and whom `peer trust` names; not by itself where lan.enabled"
            => config.strangers_relay_paid;
    }

    "flow" Flow {
        reservation_bytes: u64, "what a flow draws from an account at a time, lost in a crash of this node"
            => config.flows.reservation, unit "bytes", from 65_536;
        expose: Vec<ExposedPort>, "TCP ports that other nodes reach by a name: NAME=IP:PORT",
            example "ssh=127.0.0.1:22";
        forward: Vec<ForwardedTo>, "ports that lead to services of other nodes: LOCAL=NODE:NAME",
            example "127.0.0.1:2222=PUBKEY:ssh";
        max_msat: u64, "most that a flow of a forward, or a datagram that `send --pay` pays for, may cost on its whole route"
            => max_msat, unit "msat";
        inbox: bool, "whether what others send over flows (`send --pay`) is taken for `recv`" => inbox;
        stream_memory_bytes: u64, "memory for the streams of flows that others open"
            => config.flows.stream_memory, unit "bytes";
        pipe_memory_bytes: u64, "memory for what waits between streams of flows and their connections; for each 16 KiB one connection to what is exposed"
            => shell.pipe_memory, unit "bytes", from 1_048_576;
        credit: Vec<Owing>, "bytes of flows that a neighbour may owe which cannot pay first: PUBKEY=BYTES",
            example "PUBKEY=10000000";
        cashier_for: Vec<PathBuf>, "files of `board-config` about boards whose invoices this node writes",
            example "board.tickets";
        account_days: u64, "days after the last payment when what is left is forfeited (0: never)"
            => config.flows.account_days, unit "days";
    }

    "lightning" Lightning {
        backend: Backend, "the operator's Lightning node, which is paid and pays: lnd, cln, phoenixd, lnbits or ldk",
            example "lnd";
        url: String, "where it is (lnd, phoenixd, lnbits) [https://127.0.0.1:8080 of lnd, http://127.0.0.1:9740 of phoenixd]",
            example "https://127.0.0.1:8080";
        socket: PathBuf, "its Unix socket (cln, ldk)", example "~/.lightning/bitcoin/lightning-rpc";
        macaroon_file: PathBuf, "file with the macaroon to be let in by (lnd)",
            example "~/.lnd/blvm-mesh.macaroon";
        certificate_file: PathBuf, "the certificate that it must show, or its issuer's (lnd, lnbits); none: one that the system trusts",
            example "~/.lnd/tls.cert";
        password_file: PathBuf, "file with the password, or phoenix.conf (phoenixd)",
            example "~/.phoenix/phoenix.conf";
        api_key_file: PathBuf, "file with the wallet's admin key (lnbits)",
            example "lnbits.key";
        max_fee_ppm: u32, "most fee of a payment, in millionths of its amount"
            => spending.max_fee_ppm, from 0 to 1_000_000;
        timeout_ms: Millis, "longest wait for its answer" => lightning.answer, unit "ms", from 1;
        payment_timeout_ms: Millis, "longest wait for a payment to end; it is looked up after that"
            => lightning.payment, unit "ms", from 1_000;
    }

    "budget" Budget {
        max_msat_per_payment: u64, "most that the node pays by itself for bytes of flows at a time, fee included (0: nothing)"
            => spending.max_msat_per_payment, unit "msat";
        max_msat_per_hour: u64, "the same in any hour" => spending.max_msat_per_hour, unit "msat";
        max_msat_per_day: u64, "the same in any 24 hours" => spending.max_msat_per_day, unit "msat";
        max_msat_per_destination_day: u64, "the same to one node"
            => spending.max_msat_per_destination_day, unit "msat";
    }

    "bitcoin" Bitcoin {
        node: Port, "P2P port of a Bitcoin node, IP:PORT, which others reach through this node",
            example "127.0.0.1:8333";
        listen: Vec<Port>, "where a Bitcoin node connects that reaches others through the mesh: IP:PORT, one for each of its connections",
            example "127.0.0.1:8433";
        gateways: Vec<Gateway>, "nodes that it is led to, by public key or identity; none: any that is found",
            example "PUBKEY";
        connections: u32, "connections that others may have to bitcoin.node at once"
            => bridged, from 1 to 1_024;
        narrow_rate: u64, "rate below which a route is narrow: addresses and announcements of transactions are then held back"
            => narrow_rate, unit "bytes/s";
        narrow_blocks: bool, "whether whole blocks are fetched over narrow routes" => narrow_blocks;
        headers: bool, "whether a checked chain of block headers is kept; by default where node, listen or gateways are given",
            example "true";
        checkpoint: String, "block that it is followed from, HEIGHT:HEADER, the first of a difficulty period; none: a recent one on mainnet, else the first",
            example "HEIGHT:HEADER";
        announce_to: Vec<Announced>, "neighbours that cannot ask, as boards, which are sent each header after the height that they begin with",
            example "PUBKEY@HEIGHT";
    }

    "lan" Lan {
        enabled: bool, "whether neighbours are looked for on LANs, by IPv6 multicast" => lan.enabled;
        interfaces: Vec<InterfaceName>, "interfaces that are used, with * for any characters; none: all that are up and take multicast, but loopback and point-to-point",
            example "eth0, wl*";
        beacon: bool, "whether this node sends beacons and takes links there" => lan.beacon;
        listen: bool, "whether this node listens for beacons and dials their senders, as strangers" => lan.listen;
        group: Group, "multicast group, of link-local scope (RFC 4291), the same for all" => lan.group;
        port: u32, "its UDP port, the same for all" => lan.port, from 1 to 65_535;
        tcp_port: u32, "TCP port on which links are taken, told in the beacons (0: any that is free)"
            => lan.tcp_port, from 0 to 65_535;
        interval_ms: Millis, "pause between two beacons" => lan.interval, unit "ms", from 200 to 60_000;
    }

    "chain" Chain {
        rpc_url: String, "JSON-RPC of a Bitcoin node that looks up blocks for covenants, as in http://127.0.0.1:8332",
            example "http://127.0.0.1:38332";
        cookie_file: PathBuf, "Bitcoin Core's .cookie, to be let in by it",
            example "~/.bitcoin/signet/.cookie";
        rpc_user: String, "name to be let in by, in the place of the cookie", example "mesh";
        rpc_password: Secret, "its password; better in the environment (BLVM_MESH_CHAIN_RPC_PASSWORD) than in the file";
        timeout_ms: Millis, "longest look-up of a block, less than timing.verify_timeout_ms" => chain_timeout, unit "ms", from 1;
    }

    "ledger" Ledger {
        export: Export, "PostgreSQL database into which the ledger is booked besides, also by other nodes: postgres://USER@HOST:PORT/DB[?sslmode=disable], postgres://USER@/DB?host=DIRECTORY",
            example "postgres://mesh@/mesh?host=/var/run/postgresql";
        password_file: PathBuf, "file with its password, in one line, which only this user may read", example "ledger.password";
        certificate_file: PathBuf, "the certificate that its server must show, or its issuer's; none: one that the system trusts",
            example "/etc/ssl/certs/ssl-cert-snakeoil.pem";
        timeout_ms: Millis, "longest wait for each step of it" => export_step, unit "ms", from 100;
    }

    "metrics" Metrics {
        listen: Port, "where Prometheus reads the node's numbers over HTTP (/metrics); none: nowhere",
            example "127.0.0.1:9338";
        anywhere: bool, "whether that may be an address that other hosts reach: what is told there names nobody's payments, but anybody may read it"
            => metrics_anywhere;
    }

    "page" Page {
        listen: Port, "where the node's page is, for a browser on this host: a loopback address (`blvm-mesh page` prints what to open); none: nowhere",
            example "127.0.0.1:9339";
        token_file: PathBuf, "file with the token that the page asks for, made where there is none", default "<data_dir>/page.token";
    }

    "bench" Bench {
        sink: bool, "let anyone measure the way to this node" => shell.bench_sink;
    }
}

impl File {
    /// Puts what is given in each section where it belongs.
    pub(super) fn place(&self, places: &mut Places) -> Result<(), ConfigError> {
        self.apply(places)?;
        self.mesh.apply(places)?;
        self.tariff.apply(places)?;
        self.limits.apply(places)?;
        self.timing.apply(places)?;
        self.payment.apply(places)?;
        self.flow.apply(places)?;
        self.lightning.apply(places)?;
        self.budget.apply(places)?;
        self.bitcoin.apply(places)?;
        self.lan.apply(places)?;
        self.chain.apply(places)?;
        self.ledger.apply(places)?;
        self.metrics.apply(places)?;
        self.page.apply(places)?;
        self.bench.apply(places)
    }
}
