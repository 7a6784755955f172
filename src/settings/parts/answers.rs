use crate::{
    answer::{AnswerSettings, HeaderNames, MetadataWhen},
    settings::{reader::SettingReader, value},
};

pub(super) fn answers(reader: &mut SettingReader<'_>) -> AnswerSettings {
    let enabled = reader.value("LIMIT_RESPONSE_HEADERS_ENABLED", value::boolean);
    let names = HeaderNames {
        limit: reader.value("LIMIT_LIMIT_HEADER", value::header_name),
        remaining: reader.value("LIMIT_REMAINING_HEADER", value::header_name),
        reset: reader.value("LIMIT_RESET_HEADER", value::header_name),
    };
    AnswerSettings {
        headers: if enabled { Some(names) } else { None },
        metadata: reader.value("RESPONSE_DYNAMIC_METADATA", metadata),
    }
}

/// Accepts true and false, too, the only values of envoyproxy/ratelimit.
fn metadata(text: &str) -> value::Parsed<MetadataWhen> {
    let words = [
        ("refused", MetadataWhen::Refused),
        ("always", MetadataWhen::Always),
        ("never", MetadataWhen::Never),
    ];
    match value::boolean(text) {
        Ok(true) => Ok(MetadataWhen::Always),
        Ok(false) => Ok(MetadataWhen::Never),
        Err(_) => value::one_of(text, &words),
    }
}
