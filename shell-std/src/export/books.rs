//! The database as this node writes it: it joins once, and then books batches, each in a
//! transaction.

use super::schema::{self, MIGRATIONS, commit, number};
use super::session::{Answered, Session, Value};
use super::socket::{Duplex, Stop, Stream};
use super::{Batch, ExportError, ExportSettings, Line, Outbox, login};
use crate::rpc::types::{LedgerEntry, Purchase, Sale};
use blvm_mesh_core::id::{Network, NodeId};
use std::time::Duration;

/// 9999-12-31T23:59:59Z, in seconds since 1970: later times are hardly meant, and many programs cannot
/// read them.
const LATEST: u64 = 253_402_300_799;
/// 2000-01-01T00:00:00Z, in seconds since 1970: where PostgreSQL's times begin.
const POSTGRES_EPOCH: i64 = 946_684_800;

const JOIN: &str = "INSERT INTO blvm_mesh.nodes (node, network) VALUES ($1::bytea, $2::text) \
                    ON CONFLICT DO NOTHING";
const KNOWN: &str = "SELECT network, batch, \
                     (SELECT replace(id::text, '-', '') FROM blvm_mesh.database) \
                     FROM blvm_mesh.nodes WHERE node = $1::bytea";
const COUNT: &str = "UPDATE blvm_mesh.nodes SET batch = batch + 1, booked_at = now() \
                     WHERE node = $1::bytea RETURNING batch";
const PAYMENT: &str = "INSERT INTO blvm_mesh.payments (node, payment, accepted_at, expires_at, \
                       method, role, place, source, destination, amount_msat, share_msat) \
                       VALUES ($1::bytea, $2::bytea, $3::timestamptz, $4::timestamptz, $5::text, \
                       $6::text, $7::smallint, $8::bytea, $9::bytea, $10::numeric, $11::numeric) \
                       ON CONFLICT DO NOTHING";
const SALE: &str = "INSERT INTO blvm_mesh.sales (node, payment, accepted_at, source, amount_msat, \
                    account_bytes) VALUES ($1::bytea, $2::bytea, $3::timestamptz, $4::bytea, \
                    $5::numeric, $6::numeric) ON CONFLICT DO NOTHING";
/// Of a purchase that was booked already, only that it was credited since is news.
const PURCHASE: &str = "INSERT INTO blvm_mesh.purchases AS known (node, payment, begun_at, seller, \
                        bytes, amount_msat, fee_msat, state, preimage) VALUES ($1::bytea, \
                        $2::bytea, $3::timestamptz, $4::bytea, $5::numeric, $6::numeric, \
                        $7::numeric, $8::text, $9::bytea) \
                        ON CONFLICT (node, payment, begun_at) DO UPDATE \
                        SET state = excluded.state, bytes = excluded.bytes \
                        WHERE known.state = 'paid' AND excluded.state = 'credited'";
/// What a node needs to book where others have made the tables.
const MISSING: &str = "SELECT privilege || ' on ' || name FROM (VALUES ('migrations', 'SELECT'), \
                       ('database', 'SELECT'), ('nodes', 'SELECT'), ('nodes', 'INSERT'), \
                       ('nodes', 'UPDATE'), ('payments', 'INSERT'), ('sales', 'INSERT'), \
                       ('purchases', 'SELECT'), ('purchases', 'INSERT'), \
                       ('purchases', 'UPDATE')) AS needed (name, privilege) \
                       WHERE NOT has_table_privilege('blvm_mesh.' || name, privilege)";

/// Within the transaction that begins: no statement outlives this node's patience, nor does the
/// transaction this node; and it is on the server's disk when it is said to be.
pub(super) fn limits<S: Duplex>(
    session: &mut Session<S>,
    step: Duration,
) -> Result<(), ExportError> {
    let millis = step.as_millis().clamp(1, i32::MAX as u128).to_string();
    session.execute(
        "SELECT set_config('statement_timeout', $1::text, true), \
         set_config('idle_in_transaction_session_timeout', $1::text, true), \
         CASE current_setting('synchronous_commit') \
         WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END",
        &[Value::Text(millis)],
    )
}

/// A connection by which this node books.
pub struct Books {
    session: Session<Stream>,
    node: NodeId,
    step: Duration,
    /// The last transaction.
    batch: u64,
    schema: i64,
}

/// What a server is found to be; nothing was changed there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// What it calls its version.
    pub server: String,
    /// Whether the connection is in TLS.
    pub is_tls: bool,
    /// The version of the tables; 0: there are none.
    pub schema: i64,
    /// Whether there are older tables or none, and the user may not make them.
    pub may_not_make: bool,
    /// Rights that the user lacks on the tables that there are.
    pub missing: Vec<String>,
}

fn session(settings: &ExportSettings, stop: &Stop) -> Result<Session<Stream>, ExportError> {
    let password = login::password(settings)?;
    let stream = Stream::open(settings, stop)?;
    let is_tls = stream.is_tls();
    let mut session = Session::new(stream, settings.target.clone());
    login::log_in(&mut session, password.as_deref(), is_tls)?;
    Ok(session)
}

/// Looks at the server, and changes nothing. It blocks.
///
/// # Errors
/// [`ExportError`]: it cannot be looked at.
pub(super) fn inspect(settings: &ExportSettings, stop: &Stop) -> Result<Inspection, ExportError> {
    let mut session = session(settings, stop)?;
    session.begin("it was asked for its tables");
    let schema = schema::version(&mut session)?;
    session.execute("SELECT has_database_privilege(current_database(), 'CREATE')", &[])?;
    let may_make = session.sync()?;
    let may_make = one(&may_make)?.first().is_some_and(|may| may.as_deref() == Some("t"));
    let mut missing = Vec::new();
    if schema > 0 {
        session.execute(MISSING, &[])?;
        for answer in session.sync()? {
            missing.extend(answer.rows.into_iter().flatten().flatten());
        }
    }
    let is_old = usize::try_from(schema).is_ok_and(|schema| schema < MIGRATIONS.len());
    let (server, is_tls) = (session.version().to_owned(), session.stream().is_tls());
    session.end();
    Ok(Inspection { server, is_tls, schema, may_not_make: is_old && !may_make, missing })
}

impl Books {
    /// Looks at the server of these settings, and changes nothing. It blocks.
    ///
    /// # Errors
    /// [`ExportError`]: it cannot be looked at.
    pub fn inspect(settings: &ExportSettings) -> Result<Inspection, ExportError> {
        inspect(settings, &Stop::default())
    }

    /// Connects, makes the tables where they are missing or old, and joins as this node. It
    /// blocks.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn join(
        settings: &ExportSettings,
        (node, network): (NodeId, Network),
        outbox: &dyn Outbox,
        stop: &Stop,
    ) -> Result<Self, ExportError> {
        Self::join_with(settings, (node, network), outbox, stop, MIGRATIONS)
    }

    /// The same with other scripts for the tables, the first of them this version's own.
    ///
    /// # Errors
    /// [`ExportError`].
    #[doc(hidden)]
    pub fn join_with(
        settings: &ExportSettings,
        (node, network): (NodeId, Network),
        outbox: &dyn Outbox,
        stop: &Stop,
        migrations: &[&str],
    ) -> Result<Self, ExportError> {
        let (mut session, step) = (session(settings, stop)?, settings.step);
        let schema = schema::migrate(&mut session, migrations, step)?;
        session.begin("this node was to join");
        session.execute("BEGIN", &[])?;
        limits(&mut session, step)?;
        let own = network.name().to_owned();
        session.execute(JOIN, &[Value::Bytes(&node.0), Value::Text(own.clone())])?;
        session.execute(KNOWN, &[Value::Bytes(&node.0)])?;
        let answers = session.sync()?;
        let [Some(found), Some(batch), Some(id)] = one(&answers)? else { return Err(missing()) };
        let batch = number(batch)?;
        let mut database = [0; 16];
        hex::decode_to_slice(id, &mut database).map_err(|_| missing())?;
        if *found != own {
            return Err(ExportError::Network { found: found.clone(), own });
        }
        commit(&mut session)?;
        let starts_anew = outbox.joined(database, batch).map_err(ExportError::Store)?;
        if starts_anew {
            tracing::warn!(
                "the database is another than before, or was put back from a backup: the whole ledger is \
                 booked again, and what is there stays as it is"
            );
        }
        Ok(Self { session, node, step, batch, schema })
    }

    /// The version of the tables.
    pub fn schema(&self) -> i64 {
        self.schema
    }

    /// What the server calls its version, and whether the connection is in TLS.
    pub fn server(&self) -> (&str, bool) {
        (self.session.version(), self.session.stream().is_tls())
    }

    /// How many transactions of this node the database had at the last one.
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// Books lines, all or none, and says how many of them were new. What is there already is not changed,
    /// but for a purchase that was credited since. It blocks.
    ///
    /// # Errors
    /// [`ExportError`]. Whether the lines are booked is not known then: book them again, by
    /// another connection.
    pub fn book(&mut self, batch: &Batch) -> Result<u64, ExportError> {
        let Self { session, node, .. } = self;
        session.begin("lines were booked");
        session.execute("BEGIN", &[])?;
        limits(session, self.step)?;
        session.execute(COUNT, &[Value::Bytes(&node.0)])?;
        let before = 3;
        for statement in [PAYMENT, SALE, PURCHASE] {
            let mut is_first = true;
            for line in &batch.lines {
                let (own, values) = match line {
                    Line::Payment(entry) => (PAYMENT, payment(node, entry)),
                    Line::Sale(entry) => (SALE, sale(node, entry)),
                    Line::Purchase(entry) => (PURCHASE, purchase(node, entry)),
                };
                if own != statement {
                    continue;
                }
                match std::mem::replace(&mut is_first, false) {
                    true => session.execute(statement, &values)?,
                    false => session.execute_again(&values)?,
                }
            }
        }
        let answers = session.sync()?;
        let [Some(number_now)] = one(answers.get(..before).unwrap_or_default())? else {
            return Err(missing());
        };
        let number_now = number(number_now)?;
        let new = answers.iter().skip(before).filter(|answer| answer.tag == "INSERT 0 1").count();
        commit(session)?;
        self.batch = number_now;
        Ok(new as u64)
    }

    /// Says good-bye.
    pub fn end(self) {
        self.session.end();
    }
}

/// The row of the last statement.
fn one(answers: &[Answered]) -> Result<&[Option<String>], ExportError> {
    answers.last().and_then(Answered::row).ok_or_else(missing)
}

fn missing() -> ExportError {
    ExportError::Answer("what this node has in blvm_mesh.nodes is missing".into())
}

/// A time as PostgreSQL counts, from seconds since 1970.
fn time(unix: u64) -> Value<'static> {
    let unix = i64::try_from(unix.min(LATEST)).unwrap_or(i64::MAX);
    Value::Long((unix - POSTGRES_EPOCH).saturating_mul(1_000_000))
}

fn whole(number: u64) -> Value<'static> {
    Value::Text(number.to_string())
}

fn payment<'a>(node: &'a NodeId, entry: &'a LedgerEntry) -> Vec<Value<'a>> {
    vec![
        Value::Bytes(&node.0),
        Value::Bytes(&entry.payment),
        time(entry.accepted_at),
        time(entry.expires_at),
        Value::Text(entry.method.clone()),
        Value::Text(entry.role.name().into()),
        entry.place.map_or(Value::Null, |place| Value::Short(place.into())),
        Value::Bytes(&entry.source.0),
        Value::Bytes(&entry.destination.0),
        whole(entry.amount_msat),
        whole(entry.share_msat),
    ]
}

fn sale<'a>(node: &'a NodeId, entry: &'a Sale) -> Vec<Value<'a>> {
    vec![
        Value::Bytes(&node.0),
        Value::Bytes(&entry.payment),
        time(entry.accepted_at),
        Value::Bytes(&entry.source.0),
        whole(entry.amount_msat),
        whole(entry.account_bytes),
    ]
}

fn purchase<'a>(node: &'a NodeId, entry: &'a Purchase) -> Vec<Value<'a>> {
    vec![
        Value::Bytes(&node.0),
        Value::Bytes(&entry.payment),
        time(entry.begun_at),
        Value::Bytes(&entry.node.0),
        whole(entry.bytes),
        whole(entry.amount_msat),
        whole(entry.fee_msat),
        Value::Text(entry.state.name().into()),
        // As PostgreSQL reads bytes from text.
        entry.preimage.as_ref().map_or(Value::Null, |hex| Value::Text(format!("\\x{hex}"))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stay_within_what_is_read_everywhere() {
        assert_eq!(time(0), Value::Long(-946_684_800_000_000));
        assert_eq!(time(946_684_801), Value::Long(1_000_000));
        assert_eq!(time(u64::MAX), time(LATEST));
    }
}
