use std::path::PathBuf;

use crate::{
    rule_files::{RuleSource, RuntimeLayout},
    settings::{
        RuleSettings,
        parts::{text, xds},
        reader::SettingReader,
        value,
    },
};

pub(in crate::settings) fn rules(reader: &mut SettingReader<'_>) -> RuleSettings {
    RuleSettings {
        source: source(reader),
        xds: xds::xds(reader),
        merge_domains: reader.value("MERGE_DOMAIN_CONFIG", value::boolean),
        force_start: reader.value("FORCE_START_WITHOUT_INITIAL_CONFIG", value::boolean),
        unhealthy_without_domains: reader
            .value("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", value::boolean),
    }
}

fn source(reader: &mut SettingReader<'_>) -> RuleSource {
    let layout = RuntimeLayout {
        root: PathBuf::from(reader.optional("RUNTIME_ROOT", text).unwrap_or_else(default_root)),
        subdirectory: PathBuf::from(reader.value("RUNTIME_SUBDIRECTORY", relative)),
        app_directory: reader.value("RUNTIME_APPDIRECTORY", relative),
        watch_root: reader.value("RUNTIME_WATCH_ROOT", value::boolean),
        ignore_dot_files: reader.value("RUNTIME_IGNOREDOTFILES", value::boolean),
    };
    if let Some(path) = reader.optional("TOLLGATE_CONFIG", text) {
        return RuleSource::Path(PathBuf::from(path));
    }
    match reader.is_set("RUNTIME_ROOT") || reader.is_set("RUNTIME_SUBDIRECTORY") {
        true => RuleSource::Runtime(layout),
        false => RuleSource::Path(PathBuf::from("config/")),
    }
}

fn default_root() -> String {
    "/srv/runtime_data/current".to_owned()
}

/// A path that stays below another, also with a slash before it.
fn relative(text: &str) -> Result<String, String> {
    match text.split('/').any(|it| it == "..") {
        true => Err("expected a path below RUNTIME_ROOT, without `..`".into()),
        false => Ok(text.trim_start_matches('/').to_owned()),
    }
}
