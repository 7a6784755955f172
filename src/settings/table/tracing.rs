use super::setting::{Group, NUMBER, Setting, ValueKind};

pub(super) const TRACING: Group = Group {
    heading: "Tracing",
    settings: &[
        Setting {
            name: "TRACING_ENABLED",
            value: ValueKind::Switch,
            default: "false",
            help: "Whether calls are recorded as traces and sent to a collector of \
                   OpenTelemetry. The collector is set up by `OTEL_*`, see below.",
        },
        Setting {
            name: "TRACING_EXPORTER_PROTOCOL",
            value: ValueKind::Text("PROTOCOL"),
            default: "http",
            help: "How traces are sent: `http` for OTLP with protobuf over HTTP, or `grpc`.",
        },
        Setting {
            name: "TRACING_SAMPLING_RATE",
            value: NUMBER,
            default: "1",
            help: "Which part of the calls is recorded whose headers leave the choice open: \
                   from 0 to 1.",
        },
        Setting {
            name: "TRACING_SERVICE_NAME",
            value: ValueKind::Text("NAME"),
            default: "RateLimit",
            help: "`service.name` of all spans.",
        },
        Setting {
            name: "TRACING_SERVICE_NAMESPACE",
            value: ValueKind::Text("NAME"),
            default: "",
            help: "`service.namespace` of all spans.",
        },
        Setting {
            name: "TRACING_SERVICE_INSTANCE_ID",
            value: ValueKind::Text("NAME"),
            default: "",
            help: "`service.instance.id` of all spans. If it is not set, a random UUID.",
        },
    ],
};
