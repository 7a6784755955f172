//! Decides whether this process should receive requests.

use tokio::sync::watch;

/// The conditions for health, shared by the parts that set them and the health checks.
#[derive(Debug, Default)]
pub struct Health(watch::Sender<HealthState>);

/// The conditions for health at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthState {
    store: StoreState,
    /// The number of domains in the active rules, or `None` before the first load.
    domains: Option<usize>,
    /// If set, rules without a domain are unhealthy.
    domain_required: bool,
    /// If set, the process is healthy before the first load of rules.
    no_rules_allowed: bool,
    draining: bool,
    /// Background tasks that ended, although they should run as long as the process.
    failed_tasks: Vec<&'static str>,
}

/// The last report about the counter store. A failure after the first success is reported
/// only if `REDIS_HEALTH_CHECK_ACTIVE_CONNECTION` is set: all processes share the store
/// and would become unhealthy at the same moment, with no process left for requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum StoreState {
    /// The store has not answered since the start.
    #[default]
    Unknown,
    Ready,
    Failed(String),
}

impl HealthState {
    /// The reasons why the process should not receive requests. Empty if it should.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match &self.store {
            StoreState::Ready => {}
            StoreState::Unknown => {
                problems.push("the counter store has not answered yet".to_owned());
            }
            StoreState::Failed(error) => {
                problems.push(format!("the counter store does not decide: {error}"));
            }
        }
        match self.domains {
            None if self.domain_required || !self.no_rules_allowed => {
                problems.push("no rules have been loaded yet".to_owned());
            }
            Some(0) if self.domain_required => {
                problems.push("the active rules have no domain".to_owned());
            }
            None | Some(_) => {}
        }
        if self.draining {
            problems.push("the process is shutting down".to_owned());
        }
        for name in &self.failed_tasks {
            problems.push(format!("the {name} has died"));
        }
        problems
    }

    /// Whether the process should receive requests.
    pub fn is_healthy(&self) -> bool {
        self.problems().is_empty()
    }
}

impl Health {
    /// The conditions at this moment.
    pub fn state(&self) -> HealthState {
        self.0.borrow().clone()
    }

    /// Receives the present state, and the latest state after changes.
    pub fn subscribe(&self) -> watch::Receiver<HealthState> {
        self.0.subscribe()
    }

    /// Makes rules without a domain unhealthy.
    pub fn require_domain(&self) {
        self.0.send_modify(|state| state.domain_required = true);
    }

    /// Makes the process healthy before the first load of rules.
    pub fn allow_no_rules(&self) {
        self.0.send_modify(|state| state.no_rules_allowed = true);
    }

    /// Reports a load of rules with this number of domains.
    pub fn set_domains(&self, domains: usize) {
        self.0.send_modify(|state| state.domains = Some(domains));
    }

    /// Reports whether the counter store decides, or the error if it does not.
    /// Subscribers are notified only if this differs from the last report.
    pub fn set_store(&self, report: Result<(), String>) {
        let new = match report {
            Ok(()) => StoreState::Ready,
            Err(error) => StoreState::Failed(error),
        };
        self.0.send_if_modified(|state| {
            let changed = state.store != new;
            state.store = new;
            changed
        });
    }

    /// Whether the process is shutting down.
    pub fn is_draining(&self) -> bool {
        self.0.borrow().draining
    }

    /// Reports that the process is shutting down. Cannot be undone.
    pub fn start_draining(&self) {
        self.0.send_modify(|state| state.draining = true);
    }

    /// Reports that the background task `name` ended before the process. Cannot be undone.
    pub fn task_died(&self, name: &'static str) {
        self.0.send_modify(|state| state.failed_tasks.push(name));
    }
}
