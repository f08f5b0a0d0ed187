//! What the log writes, for the page too.

use blvm_mesh_page::Lines;
use std::fmt::{Debug, Write};
use std::sync::Arc;
use std::time::SystemTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Keeps what the log writes.
pub(crate) struct ForPage(pub(crate) Arc<Lines>);

impl<S: Subscriber> Layer<S> for ForPage {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let metadata = event.metadata();
        self.0.add(at_ms, name(*metadata.level()), metadata.target(), text.whole());
    }
}

const fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// An event as the log writes it: what it says, and its fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn whole(mut self) -> String {
        self.message.push_str(&self.fields);
        self.message
    }

    fn add(&mut self, field: &Field, value: std::fmt::Arguments<'_>) {
        // Writing to memory cannot fail.
        let _ = match field.name() {
            "message" => self.message.write_fmt(value),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    // What `tracing` calls so is `Display` for all that is logged here: no name is taken from it.
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn lines_read_as_in_the_log() {
        let lines = Arc::<Lines>::default();
        let all = tracing_subscriber::registry().with(ForPage(lines.clone()));
        tracing::subscriber::with_default(all, || {
            let peer = "<b>";
            tracing::warn!(%peer, n = 5, word = "w", "link is {}", "down");
        });
        let line = lines.since(0).remove(0);
        assert_eq!(line.text, "link is down peer=<b> n=5 word=w");
        assert_eq!((line.level, line.from.as_str()), ("warn", module_path!()));
        assert!(line.at_ms > 1_700_000_000_000);
    }
}
