//! Tells what is attached to a line, for who sets a radio up.

use super::super::port::Port;
use crate::address::SerialLine;
use crate::node::clock::Clock;
use crate::radio::{Dialect, Event, Fault, Identity, Limits, Modem, Parameters};
use blvm_mesh_core::time::{MILLISECOND, Micros};
use smol::Timer;
use smol::future::or;
use std::time::Duration;

/// What a modem has said.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// Why the line cannot be used.
    pub(crate) line: Option<String>,
    /// What is attached.
    pub(crate) identity: Option<Identity>,
    /// What it was set to, as it says.
    pub(crate) set: Option<Parameters>,
    /// Why it cannot be used.
    pub(crate) fault: Option<Fault>,
    /// What it complains of.
    pub(crate) warnings: Vec<&'static str>,
}

/// Asks in each of these dialects who is there, and sets whoever answers first to these parameters. Only
/// to find out who it is, `parameters` is `None`.
pub(crate) async fn check(
    line: &SerialLine,
    dialects: &[Dialect],
    parameters: Option<(Parameters, Limits)>,
    patience: Duration,
) -> Checked {
    let mut checked = Checked::default();
    let port = match Port::open(line, patience).await {
        Ok(port) => port,
        Err(error) => {
            checked.line = Some(error.to_string());
            return checked;
        }
    };
    let clock = Clock::new();
    let usual = crate::radio::Region::Other.plan().usual;
    let (wanted, limits) =
        parameters.unwrap_or((usual, Limits { duty_permille: 1_000, listen_dbm: None }));
    let new = |dialect: &Dialect| Modem::new(*dialect, wanted, limits, clock.now());
    let mut modems: Vec<Modem> = dialects.iter().map(new).collect();
    let mut buffer = vec![0; 4 * 1024];
    loop {
        let now = clock.now();
        let mut found = None;
        let mut at = 0;
        modems.retain_mut(|modem| {
            let lives = modem.handle_timeout(now).map_err(|fault| checked.fault = Some(fault));
            while let (Ok(()), Some(event)) = (&lives, modem.poll_event()) {
                match event {
                    Event::Found(identity) => {
                        checked.identity = Some(identity);
                        found = Some(at);
                    }
                    Event::Ready(parameters) => checked.set = Some(parameters),
                    Event::Warning(what) => checked.warnings.push(what),
                    _ => {}
                }
            }
            at += usize::from(lives.is_ok());
            lives.is_ok()
        });
        if let Some(found) = found {
            // What the others were told by it, they did not understand.
            checked.fault = None;
            modems = modems.into_iter().skip(found).take(1).collect();
        }
        let is_over = checked.identity.is_some() && (parameters.is_none() || checked.set.is_some());
        if is_over || modems.is_empty() {
            return checked;
        }
        for modem in &mut modems {
            let mut written = 0;
            let out = std::mem::take(modem.output());
            while let Some(rest) = out.get(written..).filter(|rest| !rest.is_empty()) {
                match port.write(rest).await {
                    Ok(len) => written += len,
                    Err(error) => {
                        checked.line = Some(error.to_string());
                        return checked;
                    }
                }
            }
        }
        let until = modems.iter().map(Modem::poll_timeout).min().unwrap_or(Micros::MAX);
        let until = until.max(now.saturating_add(MILLISECOND));
        let read = async { Some(port.read(&mut buffer).await) };
        let late = async {
            Timer::at(clock.instant(until)).await;
            None
        };
        match or(read, late).await {
            Some(Ok(len)) => {
                let bytes = buffer.get(..len).unwrap_or_default();
                let now = clock.now();
                let takes = |modem: &mut Modem| match modem.receive(now, bytes) {
                    Ok(()) => true,
                    Err(fault) => {
                        checked.fault = Some(fault);
                        false
                    }
                };
                modems.retain_mut(takes);
            }
            Some(Err(error)) => {
                checked.line = Some(error.to_string());
                return checked;
            }
            None => {}
        }
    }
}
