use super::{
    super::{reference::VARIABLES, variables::setting},
    *,
};
use crate::settings::hints;

#[test]
fn every_variable_of_the_reference_service_is_known() {
    assert_eq!(VARIABLES.len(), 115);
    for it in VARIABLES {
        let known = setting(it.name).is_some() || hints::ignored(it.name).is_some();
        assert!(known, "{}", it.name);
    }
}

#[test]
fn every_variable_is_in_the_findings_when_it_is_set() {
    for it in VARIABLES {
        let findings = found(&format!("{}=1\n", it.name));
        assert!(findings.iter().any(|finding| finding.variable == it.name), "{}", it.name);
    }
}
