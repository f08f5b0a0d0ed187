//! The module's log goes into the node's. The node gives its modules pipes for standard output
//! and error that nobody reads: whoever writes much there stands still.

use crate::proto::LogLevel;
use crate::shared::Shared;
use std::fmt::Write;
use std::sync::{Arc, Weak};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt};

/// Longest line, in bytes.
const LONGEST: usize = 2000;

struct ToNode(Weak<Shared>);

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string never fails.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

impl<S: Subscriber> Layer<S> for ToNode {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(shared) = self.0.upgrade() else { return };
        let mut line = Line::default();
        event.record(&mut line);
        let mut text = line.message + &line.fields;
        let end = (0..=LONGEST.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or_default());
        let level = match *event.metadata().level() {
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warn,
            Level::INFO => LogLevel::Info,
            Level::DEBUG => LogLevel::Debug,
            Level::TRACE => LogLevel::Trace,
        };
        let target = event.metadata().target().to_owned();
        shared.with_outbox(|outbox| outbox.log(level, target, text));
    }
}

/// From now on the log goes to the node, by this filter (`info`, or `blvm_mesh=debug`).
///
/// # Errors
/// The filter is none.
pub fn begin(shared: &Arc<Shared>, filter: &str) -> Result<(), ParseError> {
    let filter = filter.parse::<Targets>()?;
    let layer = ToNode(Arc::downgrade(shared)).with_filter(filter);
    let subscriber = tracing_subscriber::registry().with(layer);
    // It fails only where there is one already, as in tests.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}
