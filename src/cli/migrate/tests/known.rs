use super::{super::reference::VARIABLES, *};
use crate::settings::{hints, table};

#[test]
fn every_reference_variable_is_a_setting_or_ignored() {
    assert_eq!(VARIABLES.len(), 115);
    for variable in VARIABLES {
        let known = table::find(variable.name).is_some() || hints::ignored(variable.name).is_some();
        assert!(known, "{}", variable.name);
    }
}

#[test]
fn every_reference_variable_that_is_set_has_a_finding() {
    for variable in VARIABLES {
        let findings = found(&format!("{}=1\n", variable.name));
        assert!(
            findings.iter().any(|finding| finding.variable == variable.name),
            "{}",
            variable.name
        );
    }
}
