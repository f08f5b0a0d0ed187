//! What a key is, and how its value gets from the file to the setting.

use super::ConfigError;
use super::build::Places;
use super::values::{
    Announced, Backend, Export, ExposedPort, ForwardedTo, Gateway, Group, InterfaceName, Issuer,
    Listen, Millis, Mode, NetworkName, Owing, Peer, Port, SignetMagic,
};
use crate::chain::Secret;
use blvm_mesh_core::id::Network;
use blvm_mesh_core::policy::mode::MeshMode;
use blvm_mesh_core::time::MILLISECOND;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

/// A key of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its section; empty: before the first section.
    pub section: &'static str,
    /// Its name in the section.
    pub name: &'static str,
    /// How its value is read from text.
    pub kind: Kind,
    /// What it means, in a few words.
    pub meaning: &'static str,
    /// What it is counted in; empty: nothing that needs to be said.
    pub unit: &'static str,
    /// Smallest and largest value, where not every number will do.
    pub range: Option<(u64, u64)>,
    pub(super) default: DefaultValue,
    /// A value to begin with, where there is no default.
    pub example: &'static str,
}

/// How a key's value is read from text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it stands.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Flag,
    /// Texts separated by commas.
    List,
}

/// What counts where a key is not given.
#[derive(Debug, Clone, Copy)]
pub(super) enum DefaultValue {
    /// What its setting is then.
    Place(fn(&Places) -> String),
    /// What stands here.
    Text(&'static str),
    /// Nothing.
    Nothing,
}

impl Key {
    /// The key as it is written in messages: `mesh.mode`.
    pub fn dotted(&self) -> String {
        match self.section {
            "" => self.name.into(),
            section => format!("{section}.{}", self.name),
        }
    }

    /// The environment variable of the key: `BLVM_MESH_` and the section, except `mesh`, and the
    /// name, in capitals.
    pub fn variable(&self) -> String {
        let section = match self.section {
            "" | "mesh" => String::new(),
            section => format!("{section}_"),
        };
        format!("{}{section}{}", super::PREFIX, self.name).to_uppercase()
    }

    /// What it means, and what it is counted in.
    pub fn meaning(&self) -> String {
        match self.unit {
            "" => self.meaning.into(),
            unit => format!("{}, in {unit}", self.meaning),
        }
    }

    /// Its value on a network where it is not given.
    pub fn default(&self, network: Network) -> Option<String> {
        match self.default {
            DefaultValue::Place(shown) => Some(shown(&Places::usual(network))),
            DefaultValue::Text(text) => Some(text.into()),
            DefaultValue::Nothing => None,
        }
    }

    /// The same, with the networks on which it is another.
    pub fn defaults(&self) -> Vec<(Option<Network>, String)> {
        let Some(usual) = self.default(Network::Mainnet) else { return Vec::new() };
        let others = Network::ALL.into_iter().filter_map(|network| {
            let other = self.default(network).filter(|other| *other != usual)?;
            Some((Some(network), other))
        });
        std::iter::once((None, usual.clone())).chain(others.collect::<Vec<_>>()).collect()
    }

    /// The numbers that it may be; empty: any.
    pub fn allowed(&self) -> String {
        match self.range {
            None => String::new(),
            Some((least, u64::MAX)) => format!("at least {least}"),
            Some((least, most)) => format!("{least} to {most}"),
        }
    }
}

/// Refuses a number out of a key's range.
pub(super) fn within(
    key: &'static str,
    given: &impl Written,
    range: Option<(u64, u64)>,
    unit: &str,
) -> Result<(), ConfigError> {
    let (Some((least, most)), Some(number)) = (range, given.number()) else { return Ok(()) };
    if (least..=most).contains(&number) {
        return Ok(());
    }
    let reason = match most {
        u64::MAX => format!("must be at least {least} {unit}").trim_end().to_owned(),
        most => format!("must be from {least} to {most}"),
    };
    Err(ConfigError::Value { key, reason })
}

/// The type of a key, as it is written.
pub(super) trait Written {
    /// How it is read from text.
    const KIND: Kind;

    /// Its number, if it is one.
    fn number(&self) -> Option<u64> {
        None
    }
}

macro_rules! written {
    ($($kind:ident: $($type:ty),+;)+) => {$($(
        impl Written for $type {
            const KIND: Kind = Kind::$kind;
        }
    )+)+};
}
written! {
    Text: String, PathBuf, Backend, Export, Group, Mode, NetworkName, Port, SignetMagic, Secret;
    Flag: bool;
    List: Listen, Vec<PathBuf>, Vec<Peer>, Vec<Issuer>, Vec<Owing>, Vec<ExposedPort>, Vec<ForwardedTo>,
        Vec<Gateway>, Vec<Announced>, Vec<Port>, Vec<InterfaceName>;
}

macro_rules! numbers {
    ($($type:ty),+) => {$(
        impl Written for $type {
            const KIND: Kind = Kind::Number;

            fn number(&self) -> Option<u64> {
                Some(u64::from(*self))
            }
        }
    )+};
}
numbers!(u8, u32, u64, Millis);

/// A setting that a key of type `T` changes.
pub(super) trait Stored<T> {
    /// Sets it.
    fn store(&mut self, given: &T);

    /// As the key is written that leaves it as it is.
    fn shown(&self) -> String;
}

macro_rules! stored {
    ($($type:ty => $place:ty, |$given:ident| $store:expr, |$stored:ident| $shown:expr;)+) => {$(
        impl Stored<$type> for $place {
            fn store(&mut self, $given: &$type) {
                *self = $store;
            }

            fn shown(&self) -> String {
                let $stored = self;
                $shown.to_string()
            }
        }
    )+};
}
stored! {
    bool => bool, |given| *given, |stored| stored;
    u8 => u8, |given| *given, |stored| stored;
    u32 => u32, |given| *given, |stored| stored;
    u64 => u64, |given| *given, |stored| stored;
    u32 => u64, |given| u64::from(*given), |stored| stored;
    u32 => usize, |given| *given as usize, |stored| stored;
    // In the range of the key.
    u32 => u16, |given| *given as u16, |stored| stored;
    Group => Ipv6Addr, |given| given.0, |stored| stored;
    Millis => u64, |given| u64::from(*given) * MILLISECOND, |stored| stored / MILLISECOND;
    Millis => Duration, |given| Duration::from_millis((*given).into()), |stored| stored.as_millis();
    Mode => MeshMode, |given| given.0, |stored| stored;
    String => String, |given| given.clone(), |stored| stored;
    Listen => Listen, |given| given.clone(), |stored| stored;
}
