use super::{Group, Setting, Value};

pub(super) const RULES: Group = Group {
    heading: "Rules",
    settings: &[
        Setting {
            name: "TOLLGATE_CONFIG",
            value: Value::Text("PATH"),
            default: "config/",
            help: "A file of rules, or a directory with such files. Changes to it take \
                   effect without a restart.",
        },
        Setting {
            name: "MERGE_DOMAIN_CONFIG",
            value: Value::Switch,
            default: "false",
            help: "Whether several files may add rules to the same domain. Otherwise that is \
                   a mistake.",
        },
    ],
};
