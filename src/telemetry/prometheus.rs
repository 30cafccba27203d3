//! Writes the Prometheus text format, version 0.0.4.
//!
//! Invariant: all samples of a metric stand together under one HELP and one TYPE line, as the format demands; the
//! type of [`Family`] makes it hard to write them otherwise.

use std::fmt::{Display, Write};

use super::histogram::{BUCKETS, HistogramCounts, upper_bound};

/// What the format's `Content-Type` is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The histograms have four buckets to a power of two; every fourth bound is rendered, as scrapers pay for each.
const RENDER_EVERY: usize = 4;

/// A text of metrics.
#[derive(Debug, Default)]
pub struct Text(String);

/// One metric of a text: its samples follow.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

/// Labels of a sample: names, which are our own, with values, which may be anything.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    /// Begins a counter; its name ends in `_total`.
    pub fn counter<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "counter", help)
    }

    /// Begins a gauge.
    pub fn gauge<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "gauge", help)
    }

    /// Begins a histogram.
    pub fn histogram<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "histogram", help)
    }

    /// The text.
    pub fn finish(self) -> String {
        self.0
    }

    fn family<'a>(&'a mut self, name: &'a str, kind: &str, help: &str) -> Family<'a> {
        let text = &mut self.0;
        write_line(text, format_args!("# HELP {name} {}", help.replace('\\', "\\\\").replace('\n', "\\n")));
        write_line(text, format_args!("# TYPE {name} {kind}"));
        Family { text, name }
    }
}

impl Family<'_> {
    /// Writes one sample of a counter or gauge.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Display) -> &mut Self {
        self.line("", labels, None, value);
        self
    }

    /// Writes the samples of one histogram, in seconds.
    pub fn counts(&mut self, labels: Labels<'_>, counts: &HistogramCounts) -> &mut Self {
        let mut below = 0;
        for bucket in 0..BUCKETS {
            below += counts.buckets[bucket];
            if let (Some(bound), 0) = (upper_bound(bucket), bucket % RENDER_EVERY) {
                let seconds = bound as f64 / 1e6;
                self.line("_bucket", labels, Some(&seconds.to_string()), below);
            }
        }
        self.line("_bucket", labels, Some("+Inf"), below);
        self.line("_sum", labels, None, counts.sum_micros as f64 / 1e6);
        self.line("_count", labels, None, below);
        self
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: impl Display) {
        let all = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let mut separator = '{';
        for (name, value) in all {
            self.text.push(separator);
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(value, self.text);
            self.text.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
        write_line(self.text, format_args!(" {value}"));
    }
}

fn write_line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a String can't fail");
}

/// Escapes a label's value: backslash, quote and line feed.
fn escape(value: &str, into: &mut String) {
    for character in value.chars() {
        match character {
            '\\' => into.push_str("\\\\"),
            '"' => into.push_str("\\\""),
            '\n' => into.push_str("\\n"),
            _ => into.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::histogram::{Histogram, Measured};

    #[test]
    fn escapes_what_a_label_could_break_out_with() {
        let mut text = Text::default();
        text.counter("a_total", "A \\ and\na line.").sample(&[("x", "q\"b\\n\nz")], 3).sample(&[], 4);
        assert_eq!(
            text.finish(),
            "# HELP a_total A \\\\ and\\na line.\n# TYPE a_total counter\na_total{x=\"q\\\"b\\\\n\\nz\"} 3\na_total 4\n"
        );
    }

    #[test]
    fn buckets_add_up_and_end_with_the_count() {
        let histogram = Histogram::default();
        for micros in [10, 100, 127, 128, 90_000_000] {
            histogram.record(Measured::new(Duration::from_micros(micros)));
        }
        let mut counts = HistogramCounts::default();
        histogram.add_to(&mut counts);
        let mut text = Text::default();
        text.histogram("t_seconds", "T.").counts(&[("r", "s")], &counts);
        let text = text.finish();
        for line in [
            "t_seconds_bucket{r=\"s\",le=\"0.000064\"} 1\n",
            "t_seconds_bucket{r=\"s\",le=\"0.000128\"} 3\n",
            "t_seconds_bucket{r=\"s\",le=\"0.000256\"} 4\n",
            "t_seconds_bucket{r=\"s\",le=\"67.108864\"} 4\n",
            "t_seconds_bucket{r=\"s\",le=\"+Inf\"} 5\n",
            "t_seconds_sum{r=\"s\"} 90.000365\n",
            "t_seconds_count{r=\"s\"} 5\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("_bucket").count(), 22);
    }
}
