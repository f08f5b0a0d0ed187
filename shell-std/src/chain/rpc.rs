//! What a Bitcoin node is asked over HTTP. It blocks.

use super::{Auth, ChainError, ChainSettings, Whereabouts};
use bitcoin::base64::Engine;
use bitcoin::base64::engine::general_purpose::STANDARD;
use blvm_mesh_core::payment::headers::KnownHeader;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use ureq::Agent;

/// Longest answer that is read, in bytes; the real ones have a few hundred.
const MAX_ANSWER: u64 = 64 * 1024;
/// `RPC_INVALID_ADDRESS_OR_KEY` of Bitcoin Core: here, no such block.
const NOT_FOUND: i64 = -5;
/// `RPC_VERIFY_ALREADY_IN_UTXO_SET` of Bitcoin Core: the transaction is in a block.
const IN_A_BLOCK: i64 = -27;
/// Characters of a node's own message that are shown.
const MOST_SHOWN: usize = 200;

/// A client of a Bitcoin node.
#[derive(Debug)]
pub struct BitcoinRpc {
    settings: ChainSettings,
    agent: Agent,
}

#[derive(Deserialize)]
struct Response {
    result: Option<Value>,
    error: Option<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    code: i64,
    message: String,
}

/// What is read of `getblockheader`'s answer.
#[derive(Deserialize)]
struct Header {
    hash: String,
    merkleroot: String,
    time: u32,
    confirmations: i64,
}

/// What is read of `getblockchaininfo`'s answer.
#[derive(Deserialize)]
struct ChainInfo {
    chain: String,
}

impl BitcoinRpc {
    /// A client; connects with the first question.
    pub fn new(settings: ChainSettings) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Neither a proxy nor another address is to see the credentials.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build();
        Self { settings, agent: Agent::new_with_config(config) }
    }

    /// Where it asks.
    pub fn url(&self) -> &str {
        &self.settings.rpc_url
    }

    /// Longest time that a look-up may take.
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// What the node knows of a block; `hash` in internal byte order. A block that is
    /// not in the best chain has no confirmations.
    ///
    /// # Errors
    /// Any but [`ChainError::WrongChain`].
    pub fn block_header(
        &self,
        hash: &[u8; 32],
        deadline: Instant,
    ) -> Result<Option<KnownHeader>, ChainError> {
        let shown = reversed(*hash);
        let header: Header = match self.call("getblockheader", json!([shown, true]), deadline) {
            Err(ChainError::Rpc { code: NOT_FOUND, .. }) => return Ok(None),
            other => other?,
        };
        if !header.hash.eq_ignore_ascii_case(&shown) {
            return Err(ChainError::Answer("it is about another block".into()));
        }
        let wrong = |_| ChainError::Answer("merkleroot is not 64 hex digits".into());
        let mut merkle_root = [0; 32];
        hex::decode_to_slice(&header.merkleroot, &mut merkle_root).map_err(wrong)?;
        merkle_root.reverse();
        // -1 says that the block is stale.
        let confirmations = u32::try_from(header.confirmations.max(0)).unwrap_or(u32::MAX);
        Ok(Some(KnownHeader { merkle_root, time: header.time, confirmations }))
    }

    /// The name of the chain that the node follows.
    ///
    /// # Errors
    /// Any but [`ChainError::WrongChain`].
    pub fn chain(&self, deadline: Instant) -> Result<String, ChainError> {
        self.call("getblockchaininfo", json!([]), deadline).map(|info: ChainInfo| info.chain)
    }

    /// Has the node send a transaction, in hex, to the network. One that is there already
    /// is no error.
    ///
    /// # Errors
    /// Any but [`ChainError::WrongChain`].
    pub fn broadcast(&self, transaction: &str, deadline: Instant) -> Result<(), ChainError> {
        match self.call::<String>("sendrawtransaction", json!([transaction]), deadline) {
            Ok(_) | Err(ChainError::Rpc { code: IN_A_BLOCK, .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Where a transaction is; `txid` in internal byte order.
    ///
    /// # Errors
    /// Any but [`ChainError::WrongChain`].
    pub fn transaction(
        &self,
        txid: &[u8; 32],
        deadline: Instant,
    ) -> Result<Whereabouts, ChainError> {
        let shown = reversed(*txid);
        match self.call::<Value>("getmempoolentry", json!([shown]), deadline) {
            Ok(_) => return Ok(Whereabouts::Mempool),
            Err(ChainError::Rpc { code: NOT_FOUND, .. }) => {}
            Err(e) => return Err(e),
        }
        match self.call::<String>("gettxoutproof", json!([[shown]]), deadline) {
            Ok(proof) => {
                let wrong = |_| ChainError::Answer("the proof is not in hex".into());
                Ok(Whereabouts::Block { proof: hex::decode(proof).map_err(wrong)? })
            }
            Err(ChainError::Rpc { code: NOT_FOUND, .. }) => Ok(Whereabouts::Nowhere),
            Err(e) => Err(e),
        }
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: Value,
        deadline: Instant,
    ) -> Result<T, ChainError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ChainError::Timeout);
        }
        let body = json!({"jsonrpc": "1.0", "id": "blvm-mesh", "method": method, "params": params});
        let mut request = self
            .agent
            .post(&self.settings.rpc_url)
            .config()
            .timeout_global(Some(left))
            .build()
            .content_type("application/json");
        if let Some(credentials) = self.credentials()? {
            request = request.header("Authorization", credentials);
        }
        let mut response = request.send(body.to_string()).map_err(|e| transport(&e))?;
        let status = response.status().as_u16();
        match status {
            401 => return Err(ChainError::Unauthorized),
            403 => return Err(ChainError::Forbidden),
            _ => {}
        }
        let read = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
        let text = read.map_err(|e| transport(&e))?;
        // An error of JSON-RPC comes with status 404 or 500, or with 200.
        let answer: Response = serde_json::from_slice(&text).map_err(|e| match status {
            200 => ChainError::Answer(e.to_string()),
            _ => ChainError::Status(status),
        })?;
        match answer {
            Response { error: Some(Fault { code, message }), .. } => {
                let message = message.chars().take(MOST_SHOWN).collect();
                Err(ChainError::Rpc { code, message })
            }
            Response { result, error: None } => {
                let result = result.unwrap_or_default();
                serde_json::from_value(result).map_err(|e| ChainError::Answer(e.to_string()))
            }
        }
    }

    /// The value of the header `Authorization` (RFC 7617).
    fn credentials(&self) -> Result<Option<String>, ChainError> {
        let pair = match &self.settings.auth {
            Auth::None => return Ok(None),
            Auth::User { name, password } => format!("{name}:{}", password.reveal()),
            Auth::Cookie(path) => {
                let read = std::fs::read_to_string(path);
                let at = |e: std::io::Error| ChainError::Cookie {
                    path: path.clone(),
                    error: e.to_string(),
                };
                read.map_err(at)?.trim().to_owned()
            }
        };
        Ok(Some(format!("Basic {}", STANDARD.encode(pair))))
    }
}

fn transport(error: &ureq::Error) -> ChainError {
    match error {
        ureq::Error::Timeout(_) => ChainError::Timeout,
        ureq::Error::BodyExceedsLimit(most) => {
            ChainError::Answer(format!("it is longer than {most} bytes"))
        }
        other => ChainError::Unreachable(other.to_string()),
    }
}

/// A hash as it is printed.
fn reversed(mut hash: [u8; 32]) -> String {
    hash.reverse();
    hex::encode(hash)
}

#[cfg(test)]
mod tests {
    use super::super::Secret;
    use super::super::fake::{Fake, Reply};
    use super::*;

    /// Block 100,000 of the main chain.
    const HASH: &str = "000000000003ba27aa200b1cecaad478d2b00432346c3f1f3986da1afd33e506";
    const ROOT: &str = "f3e94742aca4b5ef85488dc37c06c3282295ffec960994b2c0d5ac2a25a95766";

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn client(fake: &Fake, auth: Auth) -> BitcoinRpc {
        let settings = ChainSettings { rpc_url: fake.url(), auth, timeout: Duration::from_secs(5) };
        BitcoinRpc::new(settings)
    }

    fn internal(shown: &str) -> [u8; 32] {
        let mut bytes: [u8; 32] = hex::decode(shown).unwrap().try_into().unwrap();
        bytes.reverse();
        bytes
    }

    fn header(confirmations: i64) -> Value {
        json!({"hash": HASH, "confirmations": confirmations, "height": 100_000, "version": 1,
               "merkleroot": ROOT, "time": 1_293_623_863, "bits": "1b04864c"})
    }

    #[test]
    fn a_block_is_asked_for_and_read_in_the_order_of_the_rpc() {
        for (said, confirmations) in [(7, 7), (0, 0), (-1, 0), (i64::MAX, u32::MAX)] {
            let fake = Fake::start(move |method, params| {
                assert_eq!(method, "getblockheader");
                assert_eq!(*params, json!([HASH, true]));
                Reply::result(header(said))
            });
            let known = client(&fake, Auth::None).block_header(&internal(HASH), soon());
            let expected =
                KnownHeader { merkle_root: internal(ROOT), time: 1_293_623_863, confirmations };
            assert_eq!(known, Ok(Some(expected)));
        }
    }

    #[test]
    fn an_unknown_block_is_no_error_and_everything_else_is() {
        let ask = |reply: Reply| {
            let fake = Fake::start(move |_, _| reply.clone());
            client(&fake, Auth::None).block_header(&internal(HASH), soon())
        };
        assert_eq!(ask(Reply::error(-5, "Block not found")), Ok(None));
        // As Bitcoin Core answers to version 2.0 of JSON-RPC.
        let body = json!({"jsonrpc": "2.0", "error": {"code": -5, "message": ""}, "id": "x"});
        assert_eq!(ask(Reply::status(200, body.to_string())), Ok(None));
        let warming = ask(Reply::error(-28, &"x".repeat(1_000))).unwrap_err();
        assert_eq!(warming, ChainError::Rpc { code: -28, message: "x".repeat(200) });
        let status = |status, body: &str| Reply::status(status, body);
        assert_eq!(ask(status(401, "")), Err(ChainError::Unauthorized));
        assert_eq!(ask(status(403, "")), Err(ChainError::Forbidden));
        assert_eq!(ask(status(503, "Work queue depth exceeded")), Err(ChainError::Status(503)));
        assert_eq!(ask(status(302, "")), Err(ChainError::Status(302)));
        let mut other = header(1);
        other["hash"] = ROOT.into();
        let mut short = header(1);
        short["merkleroot"] = "00".into();
        let unreadable = [
            status(200, "hello"),
            status(200, &" ".repeat(100_000)),
            Reply::result(json!(null)),
            Reply::result(json!({"hash": HASH})),
            Reply::result(other),
            Reply::result(short),
        ];
        for reply in unreadable {
            let error = ask(reply.clone());
            assert!(matches!(error, Err(ChainError::Answer(_))), "{reply:?} {error:?}");
        }
    }

    #[test]
    fn a_transaction_is_sent_once_or_is_there_already() {
        let ask = |reply: Reply| {
            let fake = Fake::start(move |method, params| {
                assert_eq!((method, params), ("sendrawtransaction", &json!(["00ff"])));
                reply.clone()
            });
            client(&fake, Auth::None).broadcast("00ff", soon())
        };
        assert_eq!(ask(Reply::result(json!(HASH))), Ok(()));
        assert_eq!(ask(Reply::error(-27, "Transaction outputs already in utxo set")), Ok(()));
        let refused = ask(Reply::error(-26, "min relay fee not met"));
        assert!(matches!(refused, Err(ChainError::Rpc { code: -26, .. })), "{refused:?}");
    }

    #[test]
    fn silence_ends_at_the_deadline_and_nobody_there_is_said() {
        let fake = Fake::start(|_, _| Reply::Never);
        let client = client(&fake, Auth::None);
        let deadline = Instant::now() + Duration::from_millis(100);
        assert_eq!(client.chain(deadline), Err(ChainError::Timeout));
        assert!(Instant::now() >= deadline);
        assert_eq!(client.chain(Instant::now()), Err(ChainError::Timeout), "not even asked");
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let settings = ChainSettings { rpc_url: format!("http://{free}"), ..client.settings };
        let error = BitcoinRpc::new(settings).chain(soon());
        assert!(matches!(error, Err(ChainError::Unreachable(_))), "{error:?}");
    }

    #[test]
    fn credentials_are_sent_and_never_printed() {
        let fake = Fake::start(|_, _| Reply::result(json!({"chain": "regtest"})));
        let password = Secret::new("s3:cret");
        let user = Auth::User { name: "mesh".into(), password };
        assert!(!format!("{user:?}").contains("s3"));
        let client_of = client(&fake, user);
        assert_eq!(client_of.chain(soon()).as_deref(), Ok("regtest"));
        // `printf mesh:s3:cret | base64`
        assert_eq!(fake.authorization().as_deref(), Some("Basic bWVzaDpzMzpjcmV0"));

        let dir = tempfile::tempdir().unwrap();
        let cookie = dir.path().join(".cookie");
        let client_of = client(&fake, Auth::Cookie(cookie.clone()));
        let error = client_of.chain(soon()).unwrap_err().to_string();
        assert!(error.contains(".cookie") && error.contains("when it starts"), "{error}");
        // It changes whenever the node starts anew.
        for (text, encoded) in [("__cookie__:1\n", "X19jb29raWVfXzox"), ("u:2", "dToy")] {
            std::fs::write(&cookie, text).unwrap();
            assert_eq!(client_of.chain(soon()).as_deref(), Ok("regtest"));
            assert_eq!(fake.authorization(), Some(format!("Basic {encoded}")));
        }
    }
}
