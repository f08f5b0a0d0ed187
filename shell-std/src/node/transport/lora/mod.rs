//! Radio channels: a task for each modem keeps it set and runs the channel on it.
//!
//! ```text
//! engine -- packets, packets for all --> Channel -- frames --> Modem -- bytes --> port
//!    ^                                     ^ |                   ^ |
//!    +---- packets, neighbours ------------+-+---- frames -------+-+---- bytes <-- port
//! ```
//!
//! Neighbours are found on the air; each is a link of the engine, and all of a modem share a medium. A
//! modem that is pulled out, restarts or fails is opened again, and the channel then begins anew.

mod check;
mod driver;
mod hour;
mod limits;
mod peers;
mod radio;
mod status;

pub(crate) use check::{Checked, check};
pub(super) use status::RadioStatus;

use super::backoff::Backoff;
use super::port::{Port, PortError};
use super::{Medium, Ways};
use crate::address::LoraAddress;
use crate::config::Settings;
use crate::radio::{ChannelKey, KeyError};
use driver::Driver;
use hour::KeptHour;
use radio::{Failure, Radio};
use smol::Task;
use std::sync::Arc;
use std::time::Instant;

/// A radio whose file with the passphrase cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("radio {radio}: {error}")]
pub(crate) struct NoKey {
    radio: String,
    error: KeyError,
}

/// The keys of all radio channels, in the order of the settings.
///
/// # Errors
/// The first file that cannot be used.
pub(super) fn keys(settings: &Settings) -> Result<Vec<ChannelKey>, NoKey> {
    let network = settings.config.network;
    let key = |address: &LoraAddress| match &address.key_file {
        Some(path) => ChannelKey::of_file(network, path)
            .map_err(|error| NoKey { radio: address.place(), error }),
        None => Ok(ChannelKey::public(network)),
    };
    settings.radios.iter().map(key).collect()
}

/// Starts the tasks of all radios, and reports what becomes of each.
pub(super) fn start(
    keys: Vec<ChannelKey>,
    settings: &Settings,
    ways: &Ways,
) -> (Vec<Task<()>>, Vec<Arc<RadioStatus>>) {
    let start = |(number, (address, key)): (u8, (&LoraAddress, ChannelKey))| {
        let (medium, to_all) = Medium::new(number);
        let status = Arc::new(RadioStatus::new(address.clone()));
        let radio = Radio {
            address: address.clone(),
            is_public: address.key_file.is_none(),
            key,
            config: settings.config.clone(),
            queue_bytes: settings.shell.queue_bytes,
            medium,
            to_all,
            status: status.clone(),
            data_dir: settings.data_dir.clone(),
            ways: ways.clone(),
        };
        (ways.executor.spawn(keep(radio)), status)
    };
    (1..).zip(settings.radios.iter().zip(keys)).map(start).unzip()
}

/// Keeps the modem in use for as long as the engine runs.
async fn keep(radio: Radio) {
    let mut backoff = Backoff::new(radio.ways.pauses);
    let (data_dir, place) = (radio.data_dir.clone(), radio.address.place());
    let now = radio.ways.clock.now();
    let mut hour = smol::unblock(move || KeptHour::load(&data_dir, &place, now)).await;
    while !radio.ways.engine.is_closed() {
        let (failure, lasted) = match Port::open(&radio.address.line, radio.ways.key.timeout).await
        {
            Ok(port) => {
                let since = Instant::now();
                radio.status.opened();
                let failure = Driver::new(&radio, &port, &mut hour).run().await;
                (failure, Some(since.elapsed()))
            }
            Err(error) => (error.into(), None),
        };
        if let Failure::Port(PortError::Stopping) = failure {
            return;
        }
        let error = failure.to_string();
        // A modem that stays away is not worth more than one line in the log.
        match radio.status.failed(&error) {
            true => tracing::warn!(radio = %radio.address.place(), "{error}"),
            false => tracing::debug!(radio = %radio.address.place(), "{error}"),
        }
        if let Some(pause) = backoff.after(lasted) {
            smol::Timer::after(pause).await;
        }
    }
}
