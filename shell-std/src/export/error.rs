//! Why the ledger was not booked.

use super::Target;

/// Most characters of a server's own words that are shown.
const MOST_SHOWN: usize = 300;

/// Why the ledger was not booked. None of them holds a password, and nothing is lost: what was not
/// booked waits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// A file that is needed to be let in cannot be used.
    #[error("cannot use {key}: {reason}")]
    File {
        /// The key of the configuration that names it.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection.
    #[error("there is no connection: {0}; does the server run, and is ledger.export right?")]
    Unreachable(String),
    /// It took too long.
    #[error(
        "it did not answer within {0} ms (ledger.timeout_ms) while {1}; is it busy, or does a \
         firewall drop the packets?"
    )]
    Timeout(u128, &'static str),
    /// The server has no TLS.
    #[error(
        "it has no TLS: set `ssl = on` in its postgresql.conf; or, if nobody can listen on the \
         way, sslmode=disable in ledger.export"
    )]
    NoTls,
    /// TLS failed, as where the certificate is not trusted.
    #[error(
        "TLS failed: {0}; let ledger.certificate_file name its certificate or its issuer's, or have \
         the system trust that, and ledger.export name the host as the certificate does"
    )]
    Tls(String),
    /// The connection ended.
    #[error("the connection ended: {0}; it is made again")]
    Cut(String),
    /// What comes is not what PostgreSQL sends.
    #[error("what it sends is not PostgreSQL's protocol: {0}; is another server there?")]
    Protocol(String),
    /// It wants a password, and there is none.
    #[error(
        "it wants a password for {0}: put it in a file that only this user reads, and let \
         ledger.password_file name that"
    )]
    NoPassword(String),
    /// It wants none, and so shows that it is not asked for who it is.
    #[error(
        "it lets {0} in without the password that ledger.password_file has, so it cannot show that \
         it knows it: have its pg_hba.conf ask for scram-sha-256, or take the key out"
    )]
    PasswordNotAsked(String),
    /// It asks for what a listener, or the server, could use elsewhere.
    #[error(
        "it asks for the password in a form that is not given ({0}): have its pg_hba.conf ask for \
         scram-sha-256, with `password_encryption = 'scram-sha-256'` when the password is set"
    )]
    WeakLogin(&'static str),
    /// It does not know the password, or breaks the rules of the exchange.
    #[error("it cannot show that it knows the password ({0}): is it the right server?")]
    Impostor(String),
    /// What it says itself.
    #[error("it says: {message} ({code}){remedy}")]
    Server {
        /// The SQLSTATE.
        code: String,
        /// Its words.
        message: String,
        /// What to do, after a colon; empty where the words must do.
        remedy: String,
    },
    /// A later version of this program has changed the tables.
    #[error(
        "its tables have version {found}, and this program knows {known}: update this node; nothing \
         is lost meanwhile"
    )]
    Newer {
        /// What is there.
        found: i64,
        /// The last that is known.
        known: usize,
    },
    /// This node is booked there with another network.
    #[error(
        "this node is booked there as one on {found}, and is on {own}: give each network a database \
         of its own, or a node of its own"
    )]
    Network {
        /// What is there.
        found: String,
        /// What is configured.
        own: String,
    },
    /// The answer is not what the statement gives.
    #[error("its answer is not what was asked for: {0}")]
    Answer(String),
    /// The node's own store.
    #[error("{0}")]
    Store(String),
    /// The node stops.
    #[error("the node stops")]
    Stopping,
}

impl ExportError {
    /// What the server says, and what to do about it.
    pub(super) fn server(code: &[u8], message: &[u8], target: &Target) -> Self {
        let (code, message) = (shown(code), shown(message));
        let (user, database) = (&target.user, &target.database);
        let remedy = match code.as_str() {
            "28P01" => format!(
                "is the password of {user} that of ledger.password_file? `ALTER ROLE` sets another"
            ),
            "28000" => format!(
                "let its pg_hba.conf have a line for {user}, {database} and this host, and give the \
                 role LOGIN"
            ),
            "3D000" => format!("make it with `createdb --owner {user} {database}`"),
            "42501" => format!(
                "{user} lacks rights: let it own the database, or an owner make the tables and \
                 grant them (docs/OPERATING.md)"
            ),
            "25006" => "it is a standby, or read-only: name the primary server".into(),
            "53100" => "its disk is full".into(),
            "53300" => "raise its max_connections, or the role's CONNECTION LIMIT".into(),
            "57014" | "55P03" => {
                "somebody else holds a lock, or it is busy; ledger.timeout_ms is the limit".into()
            }
            "57P01" | "57P02" | "57P03" => "it stops or starts; it is tried again".into(),
            _ => String::new(),
        };
        let remedy = if remedy.is_empty() { remedy } else { format!(": {remedy}") };
        Self::Server { code, message, remedy }
    }

    /// Whether the server may not even know of it, so that a connection that was long unused may just
    /// have been dead.
    pub(super) fn is_cut(&self) -> bool {
        match self {
            Self::Cut(_) => true,
            // A server that is stopped says so on its connections.
            Self::Server { code, .. } => code.starts_with("57P0"),
            _ => false,
        }
    }
}

/// A text of the other end, fit to be printed.
pub(super) fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.trim().chars().filter(|c| !c.is_control()).take(MOST_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_comes_with_what_to_do_and_cannot_move_the_cursor() {
        let target = "postgres://m@h/d".parse().unwrap();
        let all = [
            ("28P01", "ledger.password_file"),
            ("28000", "pg_hba.conf have a line for m, d"),
            ("3D000", "createdb --owner m d"),
            ("42501", "m lacks rights"),
            ("25006", "primary"),
            ("57P03", "tried again"),
        ];
        for (code, remedy) in all {
            let error = ExportError::server(code.as_bytes(), b"no\x1b[2J", &target).to_string();
            assert!(error.starts_with(&format!("it says: no[2J ({code}): ")), "{error}");
            assert!(error.contains(remedy), "{error}");
        }
        let other = ExportError::server(b"XX000", &[b'x'; 9_999], &target).to_string();
        assert_eq!(other, format!("it says: {} (XX000)", "x".repeat(MOST_SHOWN)));
    }
}
