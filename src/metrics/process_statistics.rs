//! The table of statistics that the process counts itself. A new statistic is one row
//! here, and a method of [`Metrics`](super::Metrics) that counts it.

use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

use super::definition::{Definition, register, statistics};

statistics! {
    /// Statistics that every process has, with or without TLS.
    struct ProcessStatistics {
        build_info: IntGaugeVec by "version" =>
            "tollgate_build_info",
            "tollgate.build_info.{}",
            "Always 1; the label holds the version of tollgate.";
        calls: IntCounterVec by "grpc_method" =>
            "ratelimit_service_total_requests",
            "ratelimit_server.{}.total_requests",
            "Calls answered, by method.";
        response_time: HistogramVec by "grpc_method" =>
            "ratelimit_service_response_time_seconds",
            "ratelimit_server.{}.response_time",
            "Time from the request to the response, by method; `json` is POST /json, `check` \
             is /check, `ext_authz` is Envoy's external authorization.";
        errors: IntCounterVec by "err_type" =>
            "ratelimit_service_should_rate_limit_error",
            "ratelimit.service.call.should_rate_limit.{}",
            "Requests answered with an error instead of a decision. service_error: the request was \
             invalid, too large or unreadable, or no rules were loaded. redis_error: the counter \
             store failed.";
        domain_not_found: IntCounter =>
            "ratelimit_service_rate_limit_domain_not_found",
            "ratelimit.service.rate_limit.domain_not_found",
            "Descriptors of a domain without rules. If it grows, a client sends a wrong domain, or \
             its rule file is missing.";
        unknown_domain_requests: IntCounter =>
            "tollgate_unknown_domain_requests_total",
            "tollgate.unknown_domain_requests",
            "Requests of a domain without rules. Nothing limits them. LOG_LEVEL=debug logs the \
             domain.";
        unmatched: IntCounterVec by "domain" =>
            "tollgate_unmatched_descriptors_total",
            "tollgate.unmatched_descriptors.{}",
            "Descriptors of a domain with rules that no rule matched, so that nothing limited \
             them. If it grows with all requests, compare the keys and their order with \
             /rlconfig; LOG_LEVEL=debug logs the reason.";
        checks: IntCounterVec by "dialect", "domain", "result" =>
            "tollgate_checks_total",
            "tollgate.checks.{}.{}.{}",
            "Checks of HTTP requests (/check and ext_authz), by domain. allowed: no limit refused the request. \
             refused: it was over a limit. misconfigured: it was not decided because the proxy sends \
             too little; see tollgate_check_misconfigured_total. error: it was not decided because \
             the counter store failed or memory was short.";
        misconfigured_checks: IntCounterVec by "reason" =>
            "tollgate_check_misconfigured_total",
            "tollgate.check_misconfigured.{}",
            "Checks of HTTP requests that were refused because the proxy or the rules are set up \
             wrongly, with a status other than that of a limit. The log has the details. Alert if it \
             grows.";
        shadowed: IntCounter =>
            "ratelimit_service_global_shadow_mode",
            "ratelimit.service.global_shadow_mode",
            "Requests over their limit that passed because SHADOW_MODE is on.";
        loads: IntCounter =>
            "ratelimit_service_config_load_success",
            "ratelimit.service.config_load_success",
            "Times that rules were loaded and activated.";
        rejected_loads: IntCounter =>
            "ratelimit_service_config_load_error",
            "ratelimit.service.config_load_error",
            "Times that rules were rejected because they were invalid or could not be read.";
        load_attempts: IntCounter =>
            "runtime_load_attempts",
            "runtime.load_attempts",
            "Times that rules were loaded or rejected.";
        load_failures: IntCounter =>
            "runtime_load_failures",
            "runtime.load_failures",
            "Same as ratelimit_service_config_load_error.";
        rules_rejected: IntGauge =>
            "tollgate_rules_rejected",
            "tollgate.rules_rejected",
            "1 while the newest rules are rejected and older ones stay active, else 0. Alert on 1.";
        hung_reads: IntCounter =>
            "tollgate_rule_reads_hung_total",
            "tollgate.rule_reads_hung",
            "Reads of the rule files that did not end within 30 s, for example because a network \
             file system does not answer. Alert if it rises.";
        rules: IntGauge =>
            "tollgate_rules",
            "tollgate.rules",
            "Active rules.";
        rules_info: IntGaugeVec by "hash" =>
            "tollgate_rules_info",
            "tollgate.rules_info.{}",
            "Always 1; the label holds the hash of the active rules. Alert if instances that read \
             the same rules differ for more than a minute.";
        rules_loaded: IntGauge =>
            "tollgate_rules_loaded_timestamp_seconds",
            "tollgate.rules_loaded_time",
            "Time at which the active rules were loaded, in seconds since 1970.";
        store_time: Histogram =>
            "tollgate_store_seconds",
            "tollgate.store_time",
            "Time that the counter store took for all counters of one request.";
        store_failures: IntCounter =>
            "tollgate_store_failures_total",
            "tollgate.store_failures",
            "Calls to the counter store that failed, timed out or were cancelled.";
        late_answers: IntCounter =>
            "tollgate_late_answers_total",
            "tollgate.late_answers",
            "gRPC calls that the client cancelled, or whose deadline passed, before they were \
             answered.";
        connections: IntGaugeVec by "listener" =>
            "tollgate_connections",
            "tollgate.connections.{}",
            "Open connections of each listener, at most MAX_CONNECTIONS. Alert near that.";
        handshakes: IntGaugeVec by "listener" =>
            "tollgate_unfinished_handshakes",
            "tollgate.unfinished_handshakes.{}",
            "Connections that have not finished their TLS handshake or not begun to speak yet.";
        closed_connections: IntCounterVec by "reason" =>
            "tollgate_connections_closed_total",
            "tollgate.connections_closed.{}",
            "Connections that were closed for lack of room, new ones or silent ones in favour of \
             new ones. full: the listener had MAX_CONNECTIONS. peer: the address had \
             MAX_CONNECTIONS_PER_PEER. handshake: there were too many unfinished handshakes.";
        cut_off: IntCounterVec by "reason" =>
            "tollgate_calls_cut_off_total",
            "tollgate.calls_cut_off.{}",
            "Calls that were refused or ended because of their client. late_message: the message \
             was not complete in time. answer_not_taken: the client did not read the answer in \
             time. too_many_streams: the connection has too many streams of health or reflection. \
             no_room: MAX_BYTES_IN_FLIGHT was used up. connection_closed: connections, closed with \
             all their calls because they held the most of MAX_BYTES_IN_FLIGHT.";
        degraded: IntCounterVec by "policy" =>
            "tollgate_degraded_total",
            "tollgate.degraded.{}",
            "Limits decided by their on_error policy because the counter store failed.";
        counter_operations: IntCounterVec by "operation", "result" =>
            "tollgate_counter_operations_total",
            "tollgate.counter_operations.{}.{}",
            "Counters that operators looked at, reset or set. failed: the counter store did not \
             answer or had no room. The log has a line for each counter that was reset or set.";
        admin_denied: IntCounterVec by "reason" =>
            "tollgate_admin_denied_total",
            "tollgate.admin_denied.{}",
            "Requests that the admin API did not admit. host: for another host. cross_site: from a \
             page of another site. no_token: without a token. wrong_token: with an unknown one. \
             too_many_failures: from an address that failed to log in 10 times in a minute. Alert \
             if wrong_token or too_many_failures grows.";
        spans_lost: IntCounterVec by "reason" =>
            "tollgate_spans_lost_total",
            "tollgate.spans_lost.{}",
            "Recorded spans that were not delivered to the collector.";
        decisions_lost: IntCounterVec by "reason" =>
            "tollgate_decision_log_lost_total",
            "tollgate.decision_log_lost.{}",
            "Lines missing in the decision log. over_rate: there were more than \
             DECISION_LOG_MAX_LINES in a second. queue_full: they came faster than they were \
             written. write_failed: the file or standard output could not be written.";
        series_folded: IntCounter =>
            "tollgate_series_folded_total",
            "tollgate.series_folded",
            "Descriptors counted as `|other|` because there were too many series, or because the \
             name of the series was too long.";
        series_lost: IntCounter =>
            "tollgate_series_lost_total",
            "tollgate.series_lost",
            "Series of removed rules whose last hits did not reach a StatsD server, because more \
             than 100,000 waited while it was unreachable.";
    }
}

statistics! {
    /// Statistics of a process whose rules come by xDS.
    struct XdsStatistics {
        connected: IntGauge =>
            "tollgate_xds_connected",
            "tollgate.xds_connected",
            "1 while connected to the xDS management server, else 0. Exists only with xDS.";
    }
}

statistics! {
    /// Statistics of servers with TLS.
    struct CertificateStatistics {
        loads: IntCounterVec by "listener" =>
            "tollgate_certificate_load_success_total",
            "tollgate.certificate_load_success.{}",
            "Times that a server certificate was loaded and activated.";
        rejected_loads: IntCounterVec by "listener" =>
            "tollgate_certificate_load_error_total",
            "tollgate.certificate_load_error.{}",
            "Times that the TLS files were rejected because the certificate had expired, \
             its key did not match, or a file could not be read.";
        rejected: IntGaugeVec by "listener" =>
            "tollgate_certificate_rejected",
            "tollgate.certificate_rejected.{}",
            "1 while the newest TLS files are rejected and older ones stay active, else 0. Alert \
             on 1.";
        not_after: IntGaugeVec by "listener" =>
            "tollgate_certificate_not_after_seconds",
            "tollgate.certificate_not_after_time.{}",
            "Expiry of the active server certificate, in seconds since 1970.";
        failed_handshakes: IntCounterVec by "listener" =>
            "tollgate_failed_handshakes_total",
            "tollgate.failed_handshakes.{}",
            "Connections whose TLS handshake failed, for example because the client had no valid \
             certificate.";
    }
}
