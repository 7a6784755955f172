//! The choice of a container in a Kubernetes manifest.

use crate::{
    cli::manifest::{kind, list, name, namespace, text},
    config::documents::Item,
};

const WORKLOADS: [&str; 6] =
    ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod", "ReplicationController"];

#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'n> {
    pub(super) workload: Item<'n>,
    /// The spec of the pod.
    pub(super) spec: Item<'n>,
    pub(super) container: Item<'n>,
}

impl Candidate<'_> {
    /// For example `deployment/ratelimit/main`, after the namespace if there is
    /// one.
    pub(super) fn path(&self) -> String {
        let kind = kind(self.workload).to_lowercase();
        let mut path = String::new();
        for part in
            [namespace(self.workload), &kind, name(self.workload), text(self.container, "name")]
        {
            if !path.is_empty() && !part.is_empty() {
                path.push('/');
            }
            path.push_str(part);
        }
        path
    }

    /// Returns true if `wanted` is the name, or the last parts of the path.
    fn is_called(&self, wanted: &str) -> bool {
        let path = format!("/{}", self.path()).to_lowercase();
        path.ends_with(&format!("/{}", wanted.to_lowercase()))
    }
}

/// Chooses the container called `wanted`. Without a name, chooses the container
/// that runs the reference service, else the one that runs tollgate, else the
/// only one.
///
/// # Errors
///
/// If there is no such container, or more than one, with a list of all.
pub(super) fn choose<'n>(
    objects: &[Item<'n>],
    wanted: Option<&str>,
) -> Result<Candidate<'n>, String> {
    let mut candidates = Vec::new();
    for object in objects {
        add_candidates(*object, &mut candidates);
    }
    match wanted {
        Some(wanted) => choose_by_name(&candidates, wanted),
        None => choose_by_program(&candidates),
    }
}

fn add_candidates<'n>(workload: Item<'n>, candidates: &mut Vec<Candidate<'n>>) {
    if !WORKLOADS.contains(&kind(workload)) {
        return;
    }
    let Some(spec) = workload.get_path(&["spec", "template", "spec"]).or(workload.get("spec"))
    else {
        return;
    };
    for container in list(spec, "containers") {
        candidates.push(Candidate { workload, spec, container });
    }
}

fn choose_by_name<'n>(candidates: &[Candidate<'n>], wanted: &str) -> Result<Candidate<'n>, String> {
    let mut matching = Vec::new();
    for candidate in candidates {
        if candidate.is_called(wanted) {
            matching.push(*candidate);
        }
    }
    match matching.as_slice() {
        [only] => Ok(*only),
        [] => Err(choice_error("no container has this name", candidates)),
        _ => Err(choice_error("more than one container has this name", candidates)),
    }
}

fn choose_by_program<'n>(candidates: &[Candidate<'n>]) -> Result<Candidate<'n>, String> {
    let mut of_reference = Vec::new();
    let mut of_tollgate = Vec::new();
    for candidate in candidates {
        if runs_reference(candidate.container) {
            of_reference.push(*candidate);
        } else if runs_tollgate(candidate.container) {
            of_tollgate.push(*candidate);
        }
    }
    match (of_reference.as_slice(), of_tollgate.as_slice(), candidates) {
        ([only], _, _) | ([], [only], _) => Ok(*only),
        ([], [], [only]) => Ok(*only),
        ([], [], _) => Err(choice_error("no container is known to run ratelimit", candidates)),
        _ => Err(choice_error("more than one container runs ratelimit", candidates)),
    }
}

fn choice_error(problem: &str, candidates: &[Candidate<'_>]) -> String {
    const MAX_LISTED: usize = 20;
    if candidates.is_empty() {
        return "there is no pod in this manifest, expected a Deployment, a StatefulSet, a \
                DaemonSet or a Pod with a container"
            .to_owned();
    }
    let mut error = format!("{problem}, choose one with --container NAME:");
    for candidate in candidates.iter().take(MAX_LISTED) {
        error += "\n  ";
        error += &candidate.path();
    }
    error
}

/// The name of the image, without its registry, tag and digest.
fn image_name(container: Item<'_>) -> &str {
    let image = text(container, "image").split('@').next().unwrap_or_default();
    let image = image.rsplit('/').next().unwrap_or_default();
    image.split(':').next().unwrap_or_default()
}

/// The file name of the program in `command`; empty if there is no command.
fn program_name(container: Item<'_>) -> &str {
    let Some(command) = container.get("command") else { return "" };
    let Some(program) = command.list().next() else { return "" };
    program.text().unwrap_or_default().rsplit('/').next().unwrap_or_default()
}

fn runs_reference(container: Item<'_>) -> bool {
    let image = image_name(container);
    image == "ratelimit" || image != "tollgate" && program_name(container) == "ratelimit"
}

/// Returns true if the image or the command is tollgate.
pub(super) fn runs_tollgate(container: Item<'_>) -> bool {
    let image = image_name(container);
    image == "tollgate" || image != "ratelimit" && program_name(container) == "tollgate"
}
