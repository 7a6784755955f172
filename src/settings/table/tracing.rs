use super::setting::{Group, NUMBER, Setting, ValueKind};

pub(super) const TRACING: Group = Group {
    heading: "Tracing",
    settings: &[
        Setting {
            name: "TRACING_ENABLED",
            value: ValueKind::Switch,
            default: "false",
            help: "Send traces to an OpenTelemetry collector. The `OTEL_*` variables in \
                   docs/settings.md configure the connection. Set it to find slow decisions in \
                   the traces of your proxy.",
        },
        Setting {
            name: "TRACING_EXPORTER_PROTOCOL",
            value: ValueKind::Text("PROTOCOL"),
            default: "http",
            help: "OTLP transport: `http` (protobuf) or `grpc`. Set it to what the collector \
                   listens for.",
        },
        Setting {
            name: "TRACING_SAMPLING_RATE",
            value: NUMBER,
            default: "1",
            help: "Fraction of calls to trace, from 0 to 1, if the headers of the caller do not \
                   decide. Lower it under load: each traced call costs up to three spans.",
        },
        Setting {
            name: "TRACING_SERVICE_NAME",
            value: ValueKind::Text("NAME"),
            default: "RateLimit",
            help: "`service.name` of all spans. Change it to tell several services apart.",
        },
        Setting {
            name: "TRACING_SERVICE_NAMESPACE",
            value: ValueKind::Text("NAME"),
            default: "",
            help: "`service.namespace` of all spans. Set it if names of services repeat across \
                   teams.",
        },
        Setting {
            name: "TRACING_SERVICE_INSTANCE_ID",
            value: ValueKind::Text("NAME"),
            default: "",
            help: "`service.instance.id` of all spans, such as the name of the pod. Without it, \
                   a random UUID. Set it to find an instance by its traces.",
        },
    ],
};
