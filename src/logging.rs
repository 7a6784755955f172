//! Writes the log to standard error.

use std::{
    env,
    io::{self, IsTerminal},
};

use serde_json::{Map, Value};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    fmt::{
        self, FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::{SubscriberInitExt, TryInitError},
};

use crate::{
    settings::{LogFormat, LogSettings},
    warnings::{Place, PlaceLimiter},
};

/// Starts logging to standard error, for the whole process.
///
/// # Errors
///
/// Fails if the process has a global logger already.
pub fn init(settings: &LogSettings) -> Result<(), TryInitError> {
    let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let color = io::stderr().is_terminal() && !no_color;
    tracing_subscriber::registry().with(layer(settings, color, io::stderr)).try_init()
}

fn layer<W>(settings: &LogSettings, color: bool, writer: W) -> impl Layer<Registry>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // At `info` and below, libraries log every frame and every Redis command, which
    // may contain secrets.
    let filter = Targets::new()
        .with_default(settings.level.min(Level::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), settings.level);
    let layer = fmt::layer().with_target(false).with_writer(writer);
    let layer = match settings.format {
        LogFormat::Text => layer.with_ansi(color).map_event_format(WithoutRepeats::new).boxed(),
        LogFormat::Json => layer.event_format(WithoutRepeats::new(JsonLine)).boxed(),
    };
    layer.with_filter(filter)
}

/// Writes no lines of libraries that repeat.
struct WithoutRepeats<F> {
    format: F,
    places: PlaceLimiter,
}

impl<F> WithoutRepeats<F> {
    fn new(format: F) -> Self {
        Self { format, places: PlaceLimiter::default() }
    }
}

impl<S, N, F> FormatEvent<S, N> for WithoutRepeats<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        line: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let target = event.metadata().target();
        let is_ours = target.split("::").next() == Some(env!("CARGO_CRATE_NAME"));
        if !is_ours && !self.places.allows_line(place(event)) {
            return Ok(());
        }
        self.format.format_event(context, line, event)
    }
}

/// The place in the code of a library. All lines of the `log` crate come from one place, and
/// have theirs in fields.
fn place(event: &Event<'_>) -> Place {
    let metadata = event.metadata();
    let mut place = Place { target: metadata.target().into(), line: metadata.line() };
    if metadata.target() == "log" {
        event.record(&mut LogPlace(&mut place));
    }
    place
}

/// Reads the place of a line of the `log` crate.
struct LogPlace<'a>(&'a mut Place);

impl Visit for LogPlace<'_> {
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            self.0.target = value.to_owned().into();
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "log.line" {
            self.0.line = u32::try_from(value).ok();
        }
    }
}

/// Formats a line as a JSON object, with the keys and the names of levels that
/// envoyproxy/ratelimit uses, so that its log parsers work unchanged.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        let mut fields = EventFields(Map::new());
        fields.0.insert("@timestamp".into(), time.into());
        fields.0.insert("level".into(), level.into());
        event.record(&mut fields);
        writeln!(line, "{}", Value::Object(fields.0))
    }
}

/// Collects the fields of an event.
struct EventFields(Map<String, Value>);

impl EventFields {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        let name = if field.name() == "message" { "@message" } else { field.name() };
        self.0.insert(name.into(), value.into());
    }
}

impl Visit for EventFields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::Arc};

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: Level, format: LogFormat, log: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let layer = layer(&LogSettings { level, format }, false, move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        String::from_utf8(buffer.0.lock().clone()).unwrap()
    }

    #[test]
    fn a_json_line_is_one_flat_object() {
        let line = logged(Level::INFO, LogFormat::Json, || {
            tracing::info_span!("ignored", span = 1).in_scope(|| {
                tracing::warn!(rules = 3, path = "a\nb", "the rules were replaced");
            });
        });
        assert_eq!(line.lines().count(), 1);
        let mut fields: Map<String, Value> = serde_json::from_str(&line).unwrap();
        let time = fields.remove("@timestamp").unwrap();
        assert!(time.as_str().unwrap().ends_with('Z') && 20 < time.as_str().unwrap().len());
        let expected = serde_json::json!({
            "level": "warning", "@message": "the rules were replaced", "rules": 3, "path": "a\nb",
        });
        assert_eq!(Value::Object(fields), expected);
    }

    #[test]
    fn a_text_line_is_one_line_without_colors() {
        let line = logged(Level::INFO, LogFormat::Text, || {
            tracing::info!(path = "a\nb\u{1b}[31m", "ready");
        });
        assert!(line.ends_with("  INFO ready path=\"a\\nb\\u{1b}[31m\"\n"), "{line:?}");
    }

    #[test]
    fn the_level_applies_to_this_crate_and_libraries_log_warnings_at_most() {
        let all = || {
            tracing::debug!("ours");
            tracing::trace!("ours, finer");
            tracing::debug!(target: "redis", "AUTH hunter2");
            tracing::warn!(target: "redis", "a warning");
        };
        let lines = logged(Level::DEBUG, LogFormat::Text, all);
        assert!(lines.contains("ours") && lines.contains("a warning"), "{lines}");
        assert!(!lines.contains("finer") && !lines.contains("hunter2"), "{lines}");
        assert_eq!(logged(Level::ERROR, LogFormat::Text, all), "");
    }

    #[test]
    fn a_line_of_a_library_that_repeats_is_logged_once() {
        let lines = logged(Level::INFO, LogFormat::Text, || {
            for attempt in 0..100 {
                tracing::warn!(target: "h2::proto", attempt, "reset");
                tracing::error!(target: "rustls", attempt, "broken");
                tracing::warn!(attempt, "ours");
            }
        });
        assert_eq!(lines.lines().count(), 102, "{lines}");
        assert!(lines.contains("reset attempt=0") && lines.contains("ours attempt=99"), "{lines}");
    }

    #[test]
    fn lines_of_the_log_crate_have_a_place_each() {
        // Another test may have done it.
        let _ = tracing_log::LogTracer::init();
        let lines = logged(Level::INFO, LogFormat::Text, || {
            for attempt in 0..100 {
                log::warn!(target: "rustls::conn", "handshake {attempt}");
                log::warn!(target: "rustls::conn", "alert {attempt}");
                log::warn!(target: "redis", "reply {attempt}");
            }
        });
        let first = ["handshake 0", "alert 0", "reply 0"];
        assert!(first.iter().all(|it| lines.contains(it)), "{lines}");
        assert_eq!(lines.lines().count(), 3, "{lines}");
    }
}
