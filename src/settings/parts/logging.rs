use tracing::Level;

use crate::{
    decision_log::{DecisionLogSettings, DecisionLogTarget},
    settings::{
        model::{LogFormat, LogSettings},
        reader::SettingReader,
        value,
    },
};

/// The highest value of `DECISION_LOG_MAX_LINES`.
const MAX_DECISION_LINES: u32 = 100_000;

pub(in crate::settings) fn log(reader: &mut SettingReader<'_>) -> LogSettings {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    LogSettings {
        level: reader.optional("LOG_LEVEL", level).unwrap_or(Level::INFO),
        format: reader.choice("LOG_FORMAT", &formats),
    }
}

pub(super) fn decision_log(reader: &mut SettingReader<'_>) -> Option<DecisionLogSettings> {
    let target = reader.optional("DECISION_LOG", decision_log_target);
    let passed_share = reader.value("DECISION_LOG_PASSED_SHARE", value::fraction);
    let max_lines =
        reader.value("DECISION_LOG_MAX_LINES", |text| value::number(text, 1..=MAX_DECISION_LINES));
    let max_lines = u32::try_from(max_lines).unwrap_or(MAX_DECISION_LINES);
    Some(DecisionLogSettings { target: target?, passed_share, max_lines })
}

fn decision_log_target(text: &str) -> value::Parsed<DecisionLogTarget> {
    match text {
        stdout if stdout.eq_ignore_ascii_case("stdout") => Ok(DecisionLogTarget::Stdout),
        "-" => Err("expected stdout or a path".into()),
        // Likely meant as the stream, not as a file of this name.
        stderr if stderr.eq_ignore_ascii_case("stderr") => {
            Err("expected stdout or a path; the log of the process is on standard \
                         error"
                .into())
        }
        path => Ok(DecisionLogTarget::File(path.into())),
    }
}

fn level(text: &str) -> value::Parsed<Level> {
    // The levels of envoyproxy/ratelimit.
    let synonyms = [("panic", Level::ERROR), ("fatal", Level::ERROR), ("warning", Level::WARN)];
    let words = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    match value::find_word(text, &synonyms) {
        Some(level) => Ok(level),
        None => value::one_of(text, &words),
    }
}
