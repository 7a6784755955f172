//! Files in `examples/` that no test starts.

use std::path::Path;

use testkit::tollgate::Tollgate;

const DYNAMIC: &str = include_str!("../../../examples/traefik/dynamic.yaml");
const STATIC: &str = include_str!("../../../examples/traefik/traefik.yaml");

/// There is no Traefik to test with.
#[test]
fn the_files_for_traefik_are_yaml() {
    for text in [DYNAMIC, STATIC] {
        let _: serde_json::Value = serde_saphyr::from_str(text).unwrap();
    }
    let dynamic: serde_json::Value = serde_saphyr::from_str(DYNAMIC).unwrap();
    let check = &dynamic["http"]["middlewares"]["tollgate"]["forwardAuth"];
    assert_eq!(check["address"], "http://127.0.0.1:8080/check/forwarded/web");
    assert_eq!(check["trustForwardHeader"], false);
}

#[test]
fn the_shared_rules_are_accepted_without_warnings() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/web.yaml");
    let check =
        std::process::Command::new(Tollgate::binary()).arg("check").arg(path).output().unwrap();
    let output = String::from_utf8_lossy(&check.stdout);
    assert!(output.ends_with(" 0 warnings: ok\n"), "{output}");
}
