//! Numbers as Prometheus reads them: OpenMetrics 1.0, or the text format 0.0.4 for readers that do
//! not ask for it (prometheus.io/docs/instrumenting/exposition_formats).

use super::histogram::{BOUNDS_US, Observed};
use std::fmt::{Display, Write};

/// The two forms. In OpenMetrics a counter's family is named without `_total`, and the text has an
/// end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The text format, version 0.0.4.
    Text,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Form {
    /// How HTTP names it.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Labels of a sample: names of `[a-z_]`, and any values.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// A text that grows by families of samples.
#[derive(Debug)]
pub struct Exposition {
    form: Form,
    text: String,
}

impl Exposition {
    /// An empty one.
    pub fn new(form: Form) -> Self {
        Self { form, text: String::new() }
    }

    /// A family of counters; `name` is without `_total`.
    pub fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) {
        let family = match self.form {
            Form::Text => format!("{name}_total"),
            Form::OpenMetrics => name.to_owned(),
        };
        self.begin(&family, "counter", help);
        for (labels, value) in samples {
            self.sample(&format!("{name}_total"), labels, value);
        }
    }

    /// One counter.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help, [(&[][..], value)]);
    }

    /// A family of values that rise and fall.
    pub fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) {
        self.begin(name, "gauge", help);
        for (labels, value) in samples {
            self.sample(name, labels, value);
        }
    }

    /// One value that rises and falls.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.gauges(name, help, [(&[][..], value)]);
    }

    /// Spans of time, in seconds.
    pub fn histogram(&mut self, name: &str, help: &str, observed: &Observed) {
        self.begin(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in BOUNDS_US.iter().zip(observed.up_to) {
            self.sample(&bucket, &[("le", &seconds(*bound))], count);
        }
        self.sample(&bucket, &[("le", "+Inf")], observed.count);
        self.sample(&format!("{name}_sum"), &[], seconds(observed.sum_us));
        self.sample(&format!("{name}_count"), &[], observed.count);
    }

    /// The whole text.
    pub fn end(mut self) -> String {
        if self.form == Form::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn begin(&mut self, family: &str, kind: &str, help: &str) {
        // Writing to memory cannot fail.
        let _ = writeln!(self.text, "# HELP {family} {}", escaped(help));
        let _ = writeln!(self.text, "# TYPE {family} {kind}");
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.text.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// Microseconds as seconds, exactly.
fn seconds(micros: u64) -> String {
    let (whole, part) = (micros / 1_000_000, micros % 1_000_000);
    format!("{whole}.{part:06}")
}

/// The value of a label, in which a few characters have a meaning.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Histogram;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn both_forms_are_as_they_are_specified() {
        let write = |form| {
            let mut e = Exposition::new(form);
            e.counters("a", "What.", [(&[("x", "1"), ("y", "q\"\\\n")][..], 5), (&[][..], 6)]);
            e.gauge("b", "How\nmany.", 7);
            e.end()
        };
        let rest = "# HELP b How\\nmany.\n# TYPE b gauge\nb 7\n";
        let samples = "a_total{x=\"1\",y=\"q\\\"\\\\\\n\"} 5\na_total 6\n";
        let text = format!("# HELP a_total What.\n# TYPE a_total counter\n{samples}{rest}");
        assert_eq!(write(Form::Text), text);
        let open = format!("# HELP a What.\n# TYPE a counter\n{samples}{rest}# EOF\n");
        assert_eq!(write(Form::OpenMetrics), open);
    }

    #[test]
    fn buckets_grow_and_the_last_has_all() {
        let histogram = Histogram::default();
        histogram.note(Duration::from_micros(60));
        histogram.note(Duration::from_secs(9));
        let mut e = Exposition::new(Form::Text);
        e.histogram("h", "H.", &histogram.observed());
        let text = e.end();
        for line in [
            "h_bucket{le=\"0.000050\"} 0",
            "h_bucket{le=\"0.000100\"} 1",
            "h_bucket{le=\"5.000000\"} 1",
            "h_bucket{le=\"+Inf\"} 2",
            "h_sum 9.000060",
            "h_count 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
        }
    }

    proptest! {
        #[test]
        fn any_label_stays_on_its_line(text in "\\PC*|[\"\\\\\n]*") {
            let mut e = Exposition::new(Form::Text);
            e.gauges("g", "G.", [(&[("l", text.as_str())][..], 1)]);
            let written = e.end();
            prop_assert_eq!(written.matches('\n').count(), 3);
            let value = written.rsplit_once("\"} 1\n").unwrap().0.rsplit_once("g{l=\"").unwrap().1;
            let mut back = String::new();
            let mut chars = value.chars();
            while let Some(c) = chars.next() {
                back.push(match c {
                    '\\' => match chars.next().unwrap() { 'n' => '\n', c => c },
                    c => c,
                });
            }
            // The name before may be in the text as well: only what follows it is compared then.
            prop_assert!(text.ends_with(&back) || back == text);
        }
    }
}
