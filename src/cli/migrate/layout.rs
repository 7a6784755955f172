//! Differences in the location of rule files, and in their reloading.

use super::{
    environment::Environment,
    finding::{Finding, Grade},
};

/// One check for each kind of difference.
pub(super) const CHECKS: &[fn(&Environment) -> Option<Finding>] =
    &[subdirectory, no_layout, watched, nested_app_directory, tollgate_config];

/// The variables that locate rule files and decide when they are read again.
pub(super) const LAYOUT: [&str; 6] = [
    "CONFIG_TYPE",
    "TOLLGATE_CONFIG",
    "RUNTIME_ROOT",
    "RUNTIME_SUBDIRECTORY",
    "RUNTIME_APPDIRECTORY",
    "RUNTIME_WATCH_ROOT",
];

fn subdirectory(env: &Environment) -> Option<Finding> {
    let is_missing = env.is_set("RUNTIME_ROOT") && !env.is_set("RUNTIME_SUBDIRECTORY");
    if !env.has_runtime_layout() || !env.watches_root() || !is_missing {
        return None;
    }
    let finding = Finding::new(Grade::Differs, "RUNTIME_SUBDIRECTORY is not set")
        .about(env, "RUNTIME_SUBDIRECTORY")
        .reference("reads no rules, and allows every request")
        .tollgate(format!("reads the rules in {}", env.rules_path().display()))
        .remedy("review these rules: they become active")
        .unless_set(env, &LAYOUT);
    Some(finding)
}

fn no_layout(env: &Environment) -> Option<Finding> {
    let is_set = env.is_set("RUNTIME_ROOT") || env.is_set("RUNTIME_SUBDIRECTORY");
    if !env.has_runtime_layout() || is_set {
        return None;
    }
    let reference = if env.watches_root() {
        "reads no rules, and allows every request".to_owned()
    } else {
        format!("reads the rules in {}", env.rules_path().display())
    };
    let title = "neither RUNTIME_ROOT nor RUNTIME_SUBDIRECTORY is set";
    let finding = Finding::new(Grade::Differs, title)
        .about(env, "RUNTIME_ROOT")
        .reference(reference)
        .tollgate("reads the rules in config/, and exits if there are none")
        .remedy("set RUNTIME_ROOT and RUNTIME_SUBDIRECTORY, or TOLLGATE_CONFIG")
        .unless_set(env, &LAYOUT);
    Some(finding)
}

fn watched(env: &Environment) -> Option<Finding> {
    if !env.has_runtime_layout() || !env.watches_root() || !env.is_set("RUNTIME_SUBDIRECTORY") {
        return None;
    }
    let reference = match env.text("RUNTIME_ROOT") {
        Some(root) if root.ends_with('/') => {
            "never reads rules again, because RUNTIME_ROOT ends with a slash"
        }
        _ => "reads rules again only when the symbolic link RUNTIME_ROOT is replaced",
    };
    let finding = Finding::new(Grade::Differs, "every change to a rule file takes effect")
        .about(env, "RUNTIME_WATCH_ROOT")
        .reference(reference)
        .tollgate("reads rules within a second of any change, also to a single file")
        .remedy("edit the rules in another directory, and replace the link when they are complete")
        .unless_set(env, &LAYOUT);
    Some(finding)
}

fn nested_app_directory(env: &Environment) -> Option<Finding> {
    const NAME: &str = "RUNTIME_APPDIRECTORY";
    let is_nested = env.text(NAME)?.trim_matches('/').contains('/');
    if !env.has_runtime_layout() || !env.watches_root() || !is_nested {
        return None;
    }
    let finding = Finding::new(Grade::Differs, "RUNTIME_APPDIRECTORY has more than one level")
        .about(env, NAME)
        .reference("finds no rules in it, and allows every request")
        .tollgate(format!("reads the rules in {}", env.rules_path().display()))
        .remedy("review these rules: they become active")
        .unless_set(env, &LAYOUT);
    Some(finding)
}

fn tollgate_config(env: &Environment) -> Option<Finding> {
    const NAME: &str = "TOLLGATE_CONFIG";
    if !env.is_set(NAME) || env.has_xds_rules() || !env.is_set("RUNTIME_SUBDIRECTORY") {
        return None;
    }
    let finding = Finding::new(Grade::Differs, "TOLLGATE_CONFIG overrides RUNTIME_ROOT")
        .about(env, NAME)
        .reference("reads every file below RUNTIME_ROOT, with any extension")
        .tollgate(
            "reads the file TOLLGATE_CONFIG, or the .yaml and .yml files in the directory of that \
             name",
        )
        .remedy("remove TOLLGATE_CONFIG until the reference service is no longer used");
    Some(finding)
}
