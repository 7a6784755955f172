use tracing::Level;

use crate::settings::{
    model::{LogFormat, LogSettings},
    reader::SettingReader,
    value,
};

pub(in crate::settings) fn log(reader: &mut SettingReader<'_>) -> LogSettings {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    LogSettings {
        level: reader.optional("LOG_LEVEL", level).unwrap_or(Level::INFO),
        format: reader.choice("LOG_FORMAT", &formats),
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
