use std::path::PathBuf;

use super::xds::xds;
use crate::{
    rule_files::{LinkPolicy, RuleSource, RuntimeLayout},
    settings::{model::RuleSettings, reader::SettingReader, value},
};

/// The rules if no setting names a path.
const DEFAULT_PATH: &str = "config/";
/// The default of `RUNTIME_ROOT` if only `RUNTIME_SUBDIRECTORY` is set.
const DEFAULT_ROOT: &str = "/srv/runtime_data/current";

pub(in crate::settings) fn rules(reader: &mut SettingReader<'_>) -> RuleSettings {
    RuleSettings {
        source: source(reader),
        links: links(reader),
        xds: xds(reader),
        merge_domains: reader.value("MERGE_DOMAIN_CONFIG", value::boolean),
        force_start: reader.value("FORCE_START_WITHOUT_INITIAL_CONFIG", value::boolean),
        unhealthy_without_domains: reader
            .value("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", value::boolean),
    }
}

fn links(reader: &mut SettingReader<'_>) -> LinkPolicy {
    if reader.value("ALLOW_OUTSIDE_LINKS", value::boolean) {
        LinkPolicy::Anywhere
    } else {
        LinkPolicy::Inside
    }
}

fn source(reader: &mut SettingReader<'_>) -> RuleSource {
    let root = reader.optional("RUNTIME_ROOT", value::text);
    let layout = RuntimeLayout {
        root: PathBuf::from(root.unwrap_or_else(|| DEFAULT_ROOT.to_owned())),
        subdirectory: PathBuf::from(reader.value("RUNTIME_SUBDIRECTORY", relative_path)),
        app_directory: reader.value("RUNTIME_APPDIRECTORY", relative_path),
        watch_root: reader.value("RUNTIME_WATCH_ROOT", value::boolean),
        ignore_dot_files: reader.value("RUNTIME_IGNOREDOTFILES", value::boolean),
    };
    if let Some(path) = reader.optional("TOLLGATE_CONFIG", value::text) {
        RuleSource::Path(PathBuf::from(path))
    } else if reader.is_set("RUNTIME_ROOT") || reader.is_set("RUNTIME_SUBDIRECTORY") {
        RuleSource::Runtime(layout)
    } else {
        RuleSource::Path(PathBuf::from(DEFAULT_PATH))
    }
}

/// Reports a path of rule files if a management server has the rules. Paths in
/// `RUNTIME_*` are ignored, as in envoyproxy/ratelimit.
pub(super) fn reject_unread_path(reader: &mut SettingReader<'_>, rules: &RuleSettings) {
    if rules.xds.is_some() && reader.is_given("TOLLGATE_CONFIG") {
        let problem = "this path is not read, because CONFIG_TYPE is GRPC_XDS_SOTW and the rules \
                       come from a management server; remove the path, or CONFIG_TYPE";
        reader.reject("TOLLGATE_CONFIG", &["CONFIG_TYPE"], problem);
    }
}

/// A path below another one. A slash at its start is removed.
fn relative_path(text: &str) -> value::Parsed<String> {
    if text.split('/').any(|component| component == "..") {
        Err("expected a path below RUNTIME_ROOT, without `..`".into())
    } else {
        Ok(text.trim_start_matches('/').to_owned())
    }
}
