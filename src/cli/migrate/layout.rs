//! Where rule files are, and when they are read again.

use super::{
    Case,
    finding::{Finding, Grade},
};

/// The checks, one for each kind of difference.
pub(super) const CHECKS: &[fn(&Case<'_>) -> Option<Finding>] =
    &[subdirectory, no_layout, watched, nested_app_directory, tollgate_config];

/// What says where rules are, and when they are read again.
pub(super) const LAYOUT: [&str; 6] = [
    "CONFIG_TYPE",
    "TOLLGATE_CONFIG",
    "RUNTIME_ROOT",
    "RUNTIME_SUBDIRECTORY",
    "RUNTIME_APPDIRECTORY",
    "RUNTIME_WATCH_ROOT",
];

/// Whether rules are read from where `RUNTIME_*` says.
pub(super) fn by_layout(case: &Case<'_>) -> bool {
    !case.by_xds && !case.env.has("TOLLGATE_CONFIG")
}

pub(super) fn watches_root(case: &Case<'_>) -> bool {
    !case.env.has("RUNTIME_WATCH_ROOT") || case.env.is_true("RUNTIME_WATCH_ROOT")
}

fn subdirectory(case: &Case<'_>) -> Option<Finding> {
    let missing = !case.env.has("RUNTIME_SUBDIRECTORY") && case.env.has("RUNTIME_ROOT");
    (by_layout(case) && missing && watches_root(case)).then(|| {
        Finding::new(Grade::Differs, "RUNTIME_SUBDIRECTORY is not set")
            .of(case.env, "RUNTIME_SUBDIRECTORY")
            .there("reads no rules at all, and lets everything pass")
            .here(format!("reads the rules in {}", case.rules_path().display()))
            .remedy("look at these rules: they come into force")
            .unless(case.env, &LAYOUT)
    })
}

fn no_layout(case: &Case<'_>) -> Option<Finding> {
    let set = case.env.has("RUNTIME_ROOT") || case.env.has("RUNTIME_SUBDIRECTORY");
    (by_layout(case) && !set).then(|| {
        let there = match watches_root(case) {
            true => "reads no rules at all, and lets everything pass".into(),
            false => format!("reads the rules in {}", case.rules_path().display()),
        };
        Finding::new(Grade::Differs, "neither RUNTIME_ROOT nor RUNTIME_SUBDIRECTORY is set")
            .of(case.env, "RUNTIME_ROOT")
            .there(there)
            .here("reads the rules in config/, and ends if there are none")
            .remedy("set RUNTIME_ROOT and RUNTIME_SUBDIRECTORY, or TOLLGATE_CONFIG")
            .unless(case.env, &LAYOUT)
    })
}

fn watched(case: &Case<'_>) -> Option<Finding> {
    let applies = by_layout(case) && watches_root(case) && case.env.has("RUNTIME_SUBDIRECTORY");
    applies.then(|| {
        let slash = case.env.text("RUNTIME_ROOT").is_some_and(|it| it.ends_with('/'));
        let there = match slash {
            true => "never reads rules again, as RUNTIME_ROOT ends with a slash",
            false => "reads rules again when the link RUNTIME_ROOT is exchanged, else never",
        };
        Finding::new(Grade::Differs, "every change to a rule file takes effect")
            .of(case.env, "RUNTIME_WATCH_ROOT")
            .there(there)
            .here("reads them within a second of every change, that of a single file included")
            .remedy("edit rules elsewhere, and exchange the link when they are done")
            .unless(case.env, &LAYOUT)
    })
}

fn nested_app_directory(case: &Case<'_>) -> Option<Finding> {
    const NAME: &str = "RUNTIME_APPDIRECTORY";
    let nested = case.env.text(NAME).is_some_and(|it| it.trim_matches('/').contains('/'));
    (by_layout(case) && watches_root(case) && nested).then(|| {
        Finding::new(Grade::Differs, "RUNTIME_APPDIRECTORY leads down more than one level")
            .of(case.env, NAME)
            .there("finds no rules below it, and lets everything pass")
            .here(format!("reads the rules in {}", case.rules_path().display()))
            .remedy("look at these rules: they come into force")
            .unless(case.env, &LAYOUT)
    })
}

fn tollgate_config(case: &Case<'_>) -> Option<Finding> {
    const NAME: &str = "TOLLGATE_CONFIG";
    (case.env.has(NAME) && !case.by_xds && case.env.has("RUNTIME_SUBDIRECTORY")).then(|| {
        Finding::new(Grade::Differs, "TOLLGATE_CONFIG counts before RUNTIME_ROOT")
            .of(case.env, NAME)
            .there("reads every file below RUNTIME_ROOT, whatever its name ends in")
            .here("reads the file that TOLLGATE_CONFIG names, or what ends in .yaml or .yml there")
            .remedy("leave it out until the reference is gone")
    })
}
