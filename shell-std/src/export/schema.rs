//! The tables, and how they come about. Each version is a script that runs once, in a transaction;
//! nodes that start at the same time wait for one another.

use super::ExportError;
use super::books::limits;
use super::session::{Answered, Session, Value};
use super::socket::Duplex;
use std::time::Duration;

/// The scripts: the first makes version 1.
pub const MIGRATIONS: &[&str] = &[include_str!("schema/1.sql")];

/// The advisory lock of whoever changes the tables: "blvmmesh".
const LOCK: i64 = i64::from_be_bytes(*b"blvmmesh");

/// From the catalogue's tables: what `to_regclass` knows of them may be older than the lock.
const IS_THERE: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class AS c \
                        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
                        WHERE n.nspname = 'blvm_mesh' AND c.relname = 'migrations')";

/// The version of the tables; 0: there are none.
pub(super) fn version<S: Duplex>(session: &mut Session<S>) -> Result<i64, ExportError> {
    session.execute(IS_THERE, &[])?;
    let there = session.sync()?;
    if first(&there)? != "t" {
        return Ok(0);
    }
    session.execute("SELECT coalesce(max(version), 0) FROM blvm_mesh.migrations", &[])?;
    number(first(&session.sync()?)?)
}

/// Brings the tables to the last version, and says what it is.
pub(super) fn migrate<S: Duplex>(
    session: &mut Session<S>,
    migrations: &[&str],
    step: Duration,
) -> Result<i64, ExportError> {
    session.begin("it was asked for its tables");
    let known = migrations.len();
    let newer = |found: i64| match usize::try_from(found) {
        Ok(found) if found <= known => Ok(found),
        _ => Err(ExportError::Newer { found, known }),
    };
    let found = version(session)?;
    // Then no right to make tables is needed.
    if newer(found)? == known {
        return Ok(found);
    }
    session.begin("its tables were made");
    session.execute("BEGIN", &[])?;
    limits(session, step)?;
    session.execute("SELECT pg_advisory_xact_lock($1::bigint)", &[Value::Long(LOCK)])?;
    session.sync()?;
    // Another node may have made them meanwhile.
    let done = newer(version(session)?)?;
    for (i, script) in migrations.iter().enumerate().skip(done) {
        session.begin("its tables were made");
        session.script(script)?;
        let version = i64::try_from(i + 1).unwrap_or(i64::MAX);
        let sql = "INSERT INTO blvm_mesh.migrations (version) VALUES ($1::bigint)";
        session.execute(sql, &[Value::Long(version)])?;
        session.sync()?;
        tracing::info!(version, "the database's tables were made");
    }
    commit(session)?;
    Ok(i64::try_from(known).unwrap_or(i64::MAX))
}

/// Ends a transaction, and sees that it was not undone instead.
pub(super) fn commit<S: Duplex>(session: &mut Session<S>) -> Result<(), ExportError> {
    session.begin("it was to write");
    session.execute("COMMIT", &[])?;
    let answers = session.sync()?;
    // What has failed before makes it ROLLBACK.
    match answers.last().map(|answer| answer.tag.as_str()) {
        Some("COMMIT") => Ok(()),
        Some(other) => Err(ExportError::Answer(format!("\"{other}\" to COMMIT"))),
        None => Err(ExportError::Answer("nothing to COMMIT".into())),
    }
}

/// The only value of a question.
fn first(answers: &[Answered]) -> Result<&str, ExportError> {
    let row = answers.last().and_then(Answered::row);
    let value = row.and_then(|row| row.first()?.as_deref());
    value.ok_or_else(|| ExportError::Answer("a value is missing".into()))
}

pub(super) fn number<T: std::str::FromStr>(text: &str) -> Result<T, ExportError> {
    text.parse().map_err(|_| ExportError::Answer(format!("\"{text}\" is not such a number")))
}
