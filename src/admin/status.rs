//! `GET /v1/status`: whether this instance works as it should.

use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{
    exchange::Exchange,
    problem::Problems,
    query::Query,
    shapes::time,
    state::{Admin, STORE_TIMEOUT},
    tokens::Actor,
};
use crate::{
    live,
    rules::spec::OnError,
    store::{MemoryUsage, PoolUsage, Pools},
};

/// The state of this instance.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Status {
    version: &'static str,
    /// The time of this answer.
    now: String,
    started_at: String,
    /// The holder of the token.
    you: You,
    /// True if the instance should receive requests, as at `/ready`.
    ready: bool,
    /// The reasons why it should not.
    problems: Vec<String>,
    rules: RulesStatus,
    store: StoreStatus,
    /// `SHADOW_MODE`: no request is refused.
    shadow_mode: bool,
    policies: Policies,
    live: LiveStatus,
}

/// The holder of a token.
#[derive(Debug, Serialize, ToSchema)]
struct You {
    name: String,
    /// `read` or `write`.
    role: &'static str,
}

/// The rules in force.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RulesStatus {
    /// The same for instances with the same rules; empty before the first load.
    #[schema(example = "9f86d081884c7d65")]
    hash: String,
    /// Null before the first load.
    loaded_at: Option<String>,
    domains: usize,
    rules: usize,
    /// The mistakes of newer rules that were rejected; null if the newest are in force.
    rejected: Option<String>,
}

/// The counter store.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StoreStatus {
    /// `memory` or `redis`.
    kind: &'static str,
    /// Whether it has just answered.
    answers: bool,
    /// The reason why it has not.
    problem: Option<String>,
    /// Counters in memory: all, or with Redis those of the policy `local`.
    memory: Option<MemoryStatus>,
    /// The connections to Redis.
    pools: Vec<PoolStatus>,
}

/// Counters in memory.
#[derive(Debug, Serialize, ToSchema)]
struct MemoryStatus {
    counters: usize,
    bytes: usize,
    /// Since the start, counters that were evicted before they expired.
    evicted: u64,
}

/// Connections to Redis.
#[derive(Debug, Serialize, ToSchema)]
struct PoolStatus {
    /// `main` or `per_second`.
    name: &'static str,
    /// Open connections.
    connections: u64,
    /// Calls that wait for the reply to earlier ones.
    waiting: u64,
    /// Servers whose circuit breaker is open: they do not respond, and calls to them fail at
    /// once.
    unresponsive: u64,
}

/// The policies for limits for which the store does not answer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Policies {
    /// `allow`, `deny` or `local`; null if requests fail. Limits may have their own.
    default: Option<&'static str>,
    /// The limits that each policy has decided since the start.
    decided: Vec<PolicyCount>,
}

/// The limits that a policy has decided.
#[derive(Debug, Serialize, ToSchema)]
struct PolicyCount {
    /// `allow`, `deny` or `local`.
    policy: &'static str,
    limits: u64,
}

/// The bounds of the live data.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LiveStatus {
    /// One of so many decisions counts in the top by hits.
    sampled: u8,
    /// The refusals that are kept.
    kept_refusals: usize,
    /// Refusals since the start that were not kept, because there were more than 100 a second.
    refusals_not_kept: u64,
    /// The most rules with a history.
    most_rules: usize,
}

/// Whether this instance works, and which rules it enforces.
#[utoipa::path(
    get,
    path = "/v1/status",
    operation_id = "status",
    responses(
        (status = 200, body = Status, description = "The state of this instance"),
        Problems
    )
)]
pub(super) async fn status(query: Query, exchange: Exchange) -> Response {
    if let Err(problem) = query.finish() {
        return problem.into_response();
    }
    let answer = timeout(STORE_TIMEOUT, exchange.admin.decider.store_answers()).await;
    let store = match answer {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.reason()),
        Err(_) => Some(format!("no answer within {STORE_TIMEOUT:?}")),
    };
    let status = Status::new(&exchange.admin, &exchange.actor, store);
    exchange.send(&status)
}

impl Status {
    fn new(admin: &Admin, actor: &Actor, store_problem: Option<String>) -> Self {
        let problems = admin.health.state().problems();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            now: time(admin.clock.now()),
            started_at: time(admin.started_at),
            you: You { name: actor.name.to_string(), role: actor.role.name() },
            ready: problems.is_empty(),
            problems,
            rules: RulesStatus::new(admin),
            store: StoreStatus::new(admin, store_problem),
            shadow_mode: admin.deciding.mode.shadow,
            policies: Policies::new(admin),
            live: LiveStatus {
                sampled: live::SAMPLED,
                kept_refusals: live::KEPT_REFUSALS,
                refusals_not_kept: admin.live.refusals(None, 0, |_| true).not_recorded,
                most_rules: live::MOST_RULES,
            },
        }
    }
}

impl RulesStatus {
    fn new(admin: &Admin) -> Self {
        let in_force = admin.live.rules();
        let rules = &in_force.rules;
        Self {
            hash: rules.digest().to_owned(),
            loaded_at: rules.is_loaded().then(|| time(in_force.loaded_at)),
            domains: rules.domain_count(),
            rules: rules.rules().len(),
            rejected: admin.rejection.load_full().map(|errors| errors.to_string()),
        }
    }
}

impl StoreStatus {
    fn new(admin: &Admin, problem: Option<String>) -> Self {
        let stats = admin.metrics.store_stats();
        let Pools { main, per_second } = stats.pools();
        let mut pools = Vec::new();
        for (name, pool) in [("main", main), ("per_second", per_second)] {
            let Some(PoolUsage { active, waiting, unresponsive, .. }) = pool else { continue };
            pools.push(PoolStatus { name, connections: active, waiting, unresponsive });
        }
        Self {
            kind: if pools.is_empty() { "memory" } else { "redis" },
            answers: problem.is_none(),
            problem,
            memory: stats.memory().map(|MemoryUsage { counters, bytes, evicted, .. }| {
                MemoryStatus { counters, bytes, evicted }
            }),
            pools,
        }
    }
}

impl Policies {
    fn new(admin: &Admin) -> Self {
        let mut decided = Vec::new();
        for policy in OnError::ALL {
            let limits = admin.metrics.decided_by(policy);
            decided.push(PolicyCount { policy: policy.name(), limits });
        }
        Self { default: admin.default_policy.map(OnError::name), decided }
    }
}
