//! Rules in the volumes of a pod.

use super::{
    pods::{check, found_in, pod},
    *,
};

/// Base64 of a rule with a mistake, `shadow_mode: x`.
const ENCODED: &str = "ZG9tYWluOiBkCmRlc2NyaXB0b3JzOgotIGtleTogYQogIHNoYWRvd19tb2RlOiB4Cg==";
const MISTAKE: &str = "will not start: `shadow_mode` is `x`, expected `true` or `false`";

/// A pod that mounts `volume` at the rules path, and a ConfigMap `rules` with
/// `content`.
fn with_volume(volume: &str, content: &str) -> String {
    let map = format!("---\nkind: ConfigMap\nmetadata: {{name: rules}}\n{content}\n");
    pod("", "", &map).replace("configMap: {name: rules}", volume)
}

fn unseen(what: &str) -> String {
    format!("note: some rules were not compared: they may be in {what}")
}

#[test]
fn rules_outside_the_manifest_are_noted() {
    for (volume, what) in [
        ("configMap: {name: other}", "the ConfigMap other"),
        ("persistentVolumeClaim: {claimName: a}", "the volume rules"),
        ("emptyDir: {}", "the volume rules"),
        ("secret: {secretName: s}", "the Secret s"),
        ("projected: {sources: [{secret: {name: p}}]}", "the Secret p"),
    ] {
        let text = with_volume(volume, "data: {}");
        check(&text, &[&unseen(what)]);
    }
    let claimed = pod("", "", "").replace("- {name: rules, configMap", "- {name: a, configMap");
    check(&claimed, &[&unseen("the volume rules")]);
    assert_eq!(status(&found_in(&claimed)), CommandStatus::Positive);
}

#[test]
fn rules_are_read_from_all_forms_of_config_map_volumes() {
    let text = "data: {a.yaml: \"domain: d\\ndescriptors: [{key: a, shadow_mode: x}]\"}";
    let binary = format!("binaryData: {{a.yaml: {ENCODED}}}");
    let folded =
        format!("binaryData:\n  a.yaml: |\n    {}\n    {}", &ENCODED[..40], &ENCODED[40..]);
    let projected = "projected: {sources: [{secret: {name: s}}, {configMap: {name: rules}}]}";
    check(&with_volume("configMap: {name: rules}", text), &[MISTAKE]);
    check(&with_volume("configMap: {name: rules}", &binary), &[MISTAKE]);
    check(&with_volume("configMap: {name: rules}", &folded), &[MISTAKE]);
    check(&with_volume(projected, text), &[&unseen("the Secret s"), MISTAKE]);
    let chosen =
        |path: &str| format!("configMap: {{name: rules, items: [{{key: a.yaml, path: {path}}}]}}");
    check(&with_volume(&chosen("x/y.yaml"), text), &[MISTAKE]);
    check(
        &with_volume(&chosen("x/y.yaml"), text).replace("/config}", "/config, subPath: x}"),
        &[MISTAKE],
    );
    let no_base64 = with_volume("configMap: {name: rules}", "binaryData: {a.yaml: \"=\"}");
    check(&no_base64, &[&unseen("a.yaml, which is not valid base64")]);
}

#[test]
fn only_the_deepest_mount_above_the_rules_is_read() {
    let mounts = "    - {name: all, mountPath: /data}\n    - {name: else, mountPath: /else}\n";
    check(&pod("", "", "").replace("    env:\n", &format!("{mounts}    env:\n")), &[]);
    let below = "    - {name: more, mountPath: /data/ratelimit/config/more}\n";
    check(
        &pod("", "", "").replace("    env:\n", &format!("{below}    env:\n")),
        &[&unseen("the volume more")],
    );
}

#[test]
fn a_missing_rules_directory_is_found() {
    let above = pod("", "", "").replace("/data/ratelimit/config}", "/data/ratelimit}");
    check(&above, &["will not start: the mounted volumes have no /data/ratelimit/config"]);
    let watched = above.replace("RUNTIME_WATCH_ROOT, value: \"false\"", "A, value: b");
    let edits = "differs: every change to a rule file takes effect";
    check(&watched, &[edits, "note: the mounted volumes have no /data/ratelimit/config"]);
    // With a watched root, a file beside the directory is a rule file, too.
    let beside = watched.replace("a.yaml:", "config.a:");
    check(&beside, &[edits]);
    check(
        &beside.replace("domain: d", "domain: [d]"),
        &[edits, "will not start: `domain` is a list, expected a string"],
    );
    check(
        &above.replace("configMap: {name: rules}", "emptyDir: {}"),
        &[&unseen("the volume rules")],
    );
}

#[test]
fn a_tollgate_config_without_rules_is_found() {
    let config = "    - {name: TOLLGATE_CONFIG, value: /data/ratelimit/config}\n";
    let text = pod("", "", config).replace("RUNTIME_SUBDIRECTORY", "A");
    check(&text, &[]);
    let none = "will not start: no rule file is mounted at /data/ratelimit/config";
    check(&text.replace("a.yaml:", "a.txt:"), &[none]);
    check(&text.replace("data: {a.yaml: \"domain: d\"}", "data: {}"), &[none]);
    let file = text.replace("config}", "config/a.txt}").replace("a.yaml:", "a.txt:");
    check(
        &file.replace(
            "mountPath: /data/ratelimit/config/a.txt",
            "mountPath: /data/ratelimit/config",
        ),
        &[],
    );
}
