//! Setting keys from text: an environment variable or a flag.

use super::ConfigError;
use super::key::{Key, Kind};
use super::keys::{File, KEYS};
use toml::{Table, Value};

/// What the names of all environment variables begin with.
pub const PREFIX: &str = "BLVM_MESH_";

/// Variables with the prefix that are no keys.
const OTHER_VARIABLES: [&str; 1] = ["BLVM_MESH_CONFIG"];

/// One value that replaces the file's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// Where it came from, for messages: a flag or a variable.
    pub origin: String,
    /// Key with its section, as in `mesh.mode`.
    pub key: String,
    /// Its value as text. A list's items are separated by commas.
    pub value: String,
}

/// The overrides among the environment variables.
///
/// # Errors
/// A variable with our prefix that names no key.
pub fn from_environment(
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<Override>, ConfigError> {
    let ours = variables
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && !OTHER_VARIABLES.contains(&name.as_str()));
    let mut found = Vec::new();
    for (origin, value) in ours {
        let Some(key) = KEYS.iter().find(|key| key.variable() == origin) else {
            return Err(ConfigError::UnknownVariable(origin));
        };
        found.push(Override { origin, key: key.dotted(), value });
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(found)
}

impl Override {
    /// Puts the value into `table` in the place of the file's.
    pub(super) fn apply(&self, table: &mut Table) -> Result<(), ConfigError> {
        let Some(key) = KEYS.iter().find(|key| key.dotted() == self.key) else {
            return Err(ConfigError::UnknownKey {
                origin: self.origin.clone(),
                key: self.key.clone(),
            });
        };
        let value = self.read(key.kind)?;
        // Alone, so that a fault is this one's.
        let mut alone = Table::new();
        put(&mut alone, key, value.clone());
        let wrong = |e: toml::de::Error| self.wrong(e.message());
        alone.try_into::<File>().map_err(wrong)?;
        put(table, key, value);
        Ok(())
    }

    fn read(&self, kind: Kind) -> Result<Value, ConfigError> {
        let text = self.value.trim();
        Ok(match kind {
            Kind::Text => Value::String(text.into()),
            Kind::Number => {
                let number = text.replace('_', "").parse();
                Value::Integer(number.map_err(|_| self.wrong("expected a whole number"))?)
            }
            Kind::Flag => {
                Value::Boolean(text.parse().map_err(|_| self.wrong("expected true or false"))?)
            }
            Kind::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::Array(items.map(|item| Value::String(item.into())).collect())
            }
        })
    }

    fn wrong(&self, reason: &str) -> ConfigError {
        let Self { origin, value, .. } = self.clone();
        ConfigError::Override { origin, value, reason: reason.trim().into() }
    }
}

fn put(table: &mut Table, key: &Key, value: Value) {
    if key.section.is_empty() {
        table.insert(key.name.into(), value);
        return;
    }
    let inner = table.entry(key.section).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(inner) = inner {
        inner.insert(key.name.into(), value);
    }
}
