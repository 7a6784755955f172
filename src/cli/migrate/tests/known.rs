use super::{super::reference::VARIABLES, *};
use crate::settings::{hints, table};

#[test]
fn every_reference_variable_is_a_setting_or_ignored() {
    assert_eq!(VARIABLES.len(), 115);
    for it in VARIABLES {
        let known = table::find(it.name).is_some() || hints::ignored(it.name).is_some();
        assert!(known, "{}", it.name);
    }
}

#[test]
fn every_reference_variable_that_is_set_has_a_finding() {
    for it in VARIABLES {
        let findings = found(&format!("{}=1\n", it.name));
        assert!(findings.iter().any(|finding| finding.variable == it.name), "{}", it.name);
    }
}
