use super::setting::{Group, Setting, ValueKind};

pub(super) const RULES: Group = Group {
    heading: "Rules",
    settings: &[
        Setting {
            name: "TOLLGATE_CONFIG",
            value: ValueKind::Text("PATH"),
            default: "",
            help: "A file of rules, or a directory with such files; where neither this nor \
                   `RUNTIME_ROOT` nor `RUNTIME_SUBDIRECTORY` is set, `config/`. It counts before \
                   them. Changes take effect without a restart.",
        },
        Setting {
            name: "RUNTIME_ROOT",
            value: ValueKind::Text("PATH"),
            default: "",
            help: "With `RUNTIME_SUBDIRECTORY` and `RUNTIME_APPDIRECTORY`, where rule files are \
                   as Envoy's reference service lays them out: \
                   `ROOT/SUBDIRECTORY/APPDIRECTORY`, with any extension. Where only the \
                   subdirectory is set, `/srv/runtime_data/current`. A symbolic link may be \
                   exchanged at any time.",
        },
        Setting {
            name: "RUNTIME_SUBDIRECTORY",
            value: ValueKind::Text("PATH"),
            default: "",
            help: "See `RUNTIME_ROOT`. If not set, the root itself.",
        },
        Setting {
            name: "RUNTIME_APPDIRECTORY",
            value: ValueKind::Text("PATH"),
            default: "config",
            help: "See `RUNTIME_ROOT`.",
        },
        Setting {
            name: "RUNTIME_WATCH_ROOT",
            value: ValueKind::Switch,
            default: "true",
            help: "Whether files beside `RUNTIME_APPDIRECTORY` are rules, too, if their names \
                   begin with its name and a dot, and files are named in messages from there. \
                   Changes to rule files are seen either way.",
        },
        Setting {
            name: "RUNTIME_IGNOREDOTFILES",
            value: ValueKind::Switch,
            default: "false",
            help: "Whether `RUNTIME_ROOT` leaves out files and directories whose names begin \
                   with a dot. Those that begin with two always are: Kubernetes keeps its \
                   versions there.",
        },
        Setting {
            name: "FORCE_START_WITHOUT_INITIAL_CONFIG",
            value: ValueKind::Switch,
            default: "false",
            help: "Whether to start although the rules cannot be used. Every decision fails and \
                   health says no until they can. Where rules come by xDS, every start is like \
                   that, and this lets health say yes: the server may have no rules yet.",
        },
        Setting {
            name: "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED",
            value: ValueKind::Switch,
            default: "false",
            help: "Whether health says no while the rules in force have no domain.",
        },
        Setting {
            name: "MERGE_DOMAIN_CONFIG",
            value: ValueKind::Switch,
            default: "false",
            help: "Whether several files, or several resources of xDS, may add rules to the same \
                   domain. Otherwise that is a mistake.",
        },
    ],
};
