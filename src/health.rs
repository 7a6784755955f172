//! Whether this process should be sent requests.

use tokio::sync::watch;

/// What is known about the process; whoever serves a health check reads it.
#[derive(Debug, Default)]
pub struct Health(watch::Sender<HealthState>);

/// What decides whether the process is healthy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthState {
    /// Whether the store decides, or why not; none if it has never been heard of.
    /// That it fails later is only said here if that is asked for: every process that
    /// shares it would turn unhealthy at the same moment, and there would be
    /// nobody left to ask.
    store: Option<Result<(), String>>,
    /// How many domains the rules in force have; none if there are no rules.
    domains: Option<usize>,
    /// Whether rules without a domain are a problem.
    needs_domain: bool,
    /// Whether it is no problem that there are no rules yet.
    needs_no_rules: bool,
    /// The process is about to end.
    draining: bool,
    /// Background tasks that have ended and should not have.
    dead: Vec<&'static str>,
}

impl HealthState {
    /// Why the process should not be sent requests; nothing if it should.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match &self.store {
            None => problems.push("the counter store has not answered yet".to_owned()),
            Some(Err(why)) => problems.push(format!("the counter store does not decide: {why}")),
            Some(Ok(())) => {}
        }
        match self.domains {
            None if self.needs_domain || !self.needs_no_rules => {
                problems.push("no rules have been loaded yet".to_owned());
            }
            Some(0) if self.needs_domain => {
                problems.push("the rules in force have no domain".to_owned());
            }
            None | Some(_) => {}
        }
        if self.draining {
            problems.push("the process is shutting down".to_owned());
        }
        problems.extend(self.dead.iter().map(|it| format!("the {it} has died")));
        problems
    }

    /// Whether the process should be sent requests.
    pub fn is_healthy(&self) -> bool {
        let rules = match self.domains {
            None => self.needs_no_rules && !self.needs_domain,
            Some(domains) => 0 < domains || !self.needs_domain,
        };
        self.store == Some(Ok(())) && rules && !self.draining && self.dead.is_empty()
    }
}

impl Health {
    /// The present state.
    pub fn state(&self) -> HealthState {
        self.0.borrow().clone()
    }

    /// Tells of every change from now on.
    pub fn subscribe(&self) -> watch::Receiver<HealthState> {
        self.0.subscribe()
    }

    /// From now on rules without a domain are a problem.
    pub fn require_domain(&self) {
        self.0.send_modify(|it| it.needs_domain = true);
    }

    /// From now on it is no problem that there are no rules yet.
    pub fn allow_no_rules(&self) {
        self.0.send_modify(|it| it.needs_no_rules = true);
    }

    /// Rules with so many domains are in force.
    pub fn set_domains(&self, domains: usize) {
        self.0.send_modify(|it| it.domains = Some(domains));
    }

    /// The store decides, or why it does not.
    pub fn set_store(&self, decides: Result<(), String>) {
        self.0.send_if_modified(|it| it.store.replace(decides.clone()) != Some(decides));
    }

    /// The process is about to end. There is no way back.
    pub fn start_draining(&self) {
        self.0.send_modify(|it| it.draining = true);
    }

    /// The background task called `name` has ended and should not have.
    pub fn task_died(&self, name: &'static str) {
        self.0.send_modify(|it| it.dead.push(name));
    }
}
