use super::setting::{Group, Setting, ValueKind};

pub(super) const RULES: Group = Group {
    heading: "Rules",
    settings: &[
        Setting {
            name: "TOLLGATE_CONFIG",
            value: ValueKind::Text("PATH"),
            default: "",
            help: "Rule file, or directory with rule files. Changes apply without a restart. \
                   Overrides `RUNTIME_ROOT` and `RUNTIME_SUBDIRECTORY`; if none of the three is \
                   set, the rules are in `config/`.",
        },
        Setting {
            name: "RUNTIME_ROOT",
            value: ValueKind::Text("PATH"),
            default: "",
            help: "Set it for rule files in the directory layout of envoyproxy/ratelimit: all \
                   files in `RUNTIME_ROOT/RUNTIME_SUBDIRECTORY/RUNTIME_APPDIRECTORY` are rules, \
                   with any extension. It may be a symbolic link that is replaced at any time. If \
                   only `RUNTIME_SUBDIRECTORY` is set, it is `/srv/runtime_data/current`.",
        },
        Setting {
            name: "RUNTIME_SUBDIRECTORY",
            value: ValueKind::Text("PATH"),
            default: "",
            help: "Middle part of the path described at `RUNTIME_ROOT`. Without it, the path \
                   has no middle part. Set it where rules are mounted below another directory, \
                   as with envoyproxy/ratelimit.",
        },
        Setting {
            name: "RUNTIME_APPDIRECTORY",
            value: ValueKind::Text("PATH"),
            default: "config",
            help: "Last part of the path described at `RUNTIME_ROOT`. Set it if the mounted \
                   directory has another name.",
        },
        Setting {
            name: "RUNTIME_WATCH_ROOT",
            value: ValueKind::Switch,
            default: "true",
            help: "Also read the files next to `RUNTIME_APPDIRECTORY` whose names start with its \
                   name and a dot, and show file names relative to the directory that contains \
                   both. Set it to false if other files are stored there. Changes are noticed in \
                   both cases.",
        },
        Setting {
            name: "RUNTIME_IGNOREDOTFILES",
            value: ValueKind::Switch,
            default: "false",
            help: "Skip files and directories in `RUNTIME_ROOT` whose names start with a dot. \
                   Names with two leading dots are always skipped, as Kubernetes keeps old \
                   versions of a ConfigMap there. Set it if editors or tools leave such files \
                   between the rules.",
        },
        Setting {
            name: "ALLOW_OUTSIDE_LINKS",
            value: ValueKind::Switch,
            default: "false",
            help: "Follow symbolic links in a directory of rules that lead out of it. Without it, \
                   such a link is an error: whoever can add one could read any file of the \
                   process. The path of the directory, or of a single rule file, may be a link in \
                   both cases. Set it if rule files are links to a directory elsewhere, and all \
                   authors of the rules are trusted.",
        },
        Setting {
            name: "FORCE_START_WITHOUT_INITIAL_CONFIG",
            value: ValueKind::Switch,
            default: "false",
            help: "Start even if the rules cannot be loaded. Set it if the rules may arrive later \
                   than the process. Until they arrive, every request fails and the health check \
                   reports unhealthy. With xDS the service always starts like this, and this \
                   setting makes the health check report healthy: the management server may not \
                   have any rules yet.",
        },
        Setting {
            name: "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED",
            value: ValueKind::Switch,
            default: "false",
            help: "Report unhealthy while the active rules contain no domain. Set it to keep an \
                   instance without rules out of service.",
        },
        Setting {
            name: "MERGE_DOMAIN_CONFIG",
            value: ValueKind::Switch,
            default: "false",
            help: "Allow several files, or several xDS resources, to define the same domain. \
                   Without it this is an error. Set it if several teams keep their rules of one \
                   domain in separate files.",
        },
    ],
};
