//! The manifest of a pod in Kubernetes: its container, and the variables that
//! this is given.

use super::{
    environment::{Environment, Value, Variable},
    finding::{Finding, Grade},
};
use crate::config::documents::{Documents, Item};

const WORKLOADS: [&str; 6] =
    ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod", "ReplicationController"];

/// The container that runs the service, and what is around it.
#[derive(Clone, Debug)]
pub(super) struct Pod<'n> {
    pub(super) file: &'n str,
    pub(super) spec: Item<'n>,
    pub(super) container: Item<'n>,
    /// That of its workload; empty if the manifest does not say it.
    namespace: &'n str,
    /// All objects of the manifest.
    objects: Vec<Item<'n>>,
}

/// A container that may be the one.
#[derive(Clone, Copy, Debug)]
struct Candidate<'n> {
    /// The workload.
    object: Item<'n>,
    /// Of the pod.
    spec: Item<'n>,
    container: Item<'n>,
}

impl Candidate<'_> {
    /// Its name behind that of the workload, as `deployment/a/b`.
    fn path(&self) -> String {
        let (kind, workload) = (kind(self.object).to_lowercase(), name(self.object));
        let parts = [namespace(self.object), &*kind, workload, text(self.container, "name")];
        parts.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join("/")
    }

    /// Whether this is its name, or the end of its path.
    fn is_called(&self, wanted: &str) -> bool {
        let path = format!("/{}", self.path()).to_lowercase();
        path.ends_with(&format!("/{}", wanted.to_lowercase()))
    }
}

/// The containers of a workload.
fn candidates(object: Item<'_>) -> impl Iterator<Item = Candidate<'_>> {
    let workload = Some(object).filter(|it| WORKLOADS.contains(&kind(*it)));
    let spec =
        workload.and_then(|it| it.get_path(&["spec", "template", "spec"]).or(it.get("spec")));
    spec.into_iter().flat_map(move |spec| {
        let list = spec.get("containers").into_iter().flat_map(Item::list);
        list.map(move |container| Candidate { object, spec, container })
    })
}

/// Whether `text` looks like a manifest rather than like variables.
pub(super) fn is_manifest(text: &str) -> bool {
    let keys = ["apiVersion:", "kind:", "---", "{"];
    text.lines().any(|line| keys.iter().any(|it| line.starts_with(it)))
}

impl<'n> Pod<'n> {
    /// Finds the container called `wanted`, or the one that runs the reference
    /// service, or the only one.
    ///
    /// # Errors
    ///
    /// If there is no such container, or more than one; all are listed.
    pub(super) fn find(
        file: &'n str,
        documents: &'n Documents<'_>,
        wanted: Option<&str>,
    ) -> Result<Self, String> {
        let objects: Vec<_> = documents.roots().into_iter().flatten().flat_map(objects).collect();
        let all: Vec<_> = objects.iter().copied().flat_map(candidates).collect();
        let is_right = |it: &&Candidate<'_>| match wanted {
            Some(name) => it.is_called(name),
            None => is_reference(it.container),
        };
        let right: Vec<_> = all.iter().filter(is_right).collect();
        let it = match (right.as_slice(), all.as_slice(), wanted) {
            ([one], _, _) => *one,
            ([], [one], None) => one,
            ([], [], _) => {
                return Err("there is no pod in this manifest, expected a Deployment, \
                                       a StatefulSet, a DaemonSet or a Pod with a container"
                    .into());
            }
            ([], _, _) => return Err(choose("none of these containers is the one", &all)),
            _ => return Err(choose("more than one container may be meant", &all)),
        };
        let namespace = namespace(it.object);
        Ok(Self { file, namespace, spec: it.spec, container: it.container, objects })
    }

    /// Where `item` stands.
    pub(super) fn place(&self, item: Item<'_>) -> String {
        format!("{}:{}", self.file, item.line)
    }

    /// The objects of a kind that may be in the namespace of the pod. One that
    /// names it comes first; where none is named it may be any.
    pub(super) fn objects(&self, of: &str) -> impl Iterator<Item = Item<'n>> {
        let near = |it: &Item<'n>| {
            let namespace = namespace(*it);
            namespace.is_empty() || self.namespace.is_empty() || namespace == self.namespace
        };
        let mut objects: Vec<_> = self.objects.iter().copied().filter(near).collect();
        objects.retain(|it| kind(*it) == of);
        objects.sort_by_key(|it| namespace(*it) != self.namespace);
        objects.into_iter()
    }

    /// The data of a ConfigMap, if the manifest has it.
    pub(super) fn config_map(&self, wanted: &str) -> Option<Item<'n>> {
        self.objects("ConfigMap").find(|it| name(*it) == wanted)
    }

    /// The variables of the container, and what could not be found out.
    ///
    /// # Errors
    ///
    /// If there are too many.
    pub(super) fn environment(&self) -> Result<(Environment, Vec<Finding>), String> {
        let mut environment = Environment::new(self.file, self.place(self.container));
        let mut findings = Vec::new();
        let sources = self.container.get("envFrom");
        for source in sources.into_iter().flat_map(Item::list) {
            if let Some(name) = self.add_all(source, &mut environment)? {
                environment.add_source(name.clone(), text(source, "prefix").to_owned());
                let title = format!("the variables of {name} are not known");
                findings.push(Finding::new(Grade::Note, title).at(self.place(source)));
            }
        }
        for it in self.container.get("env").into_iter().flat_map(Item::list) {
            let value = match (it.get("value"), it.get("valueFrom")) {
                (Some(value), _) => expand(value.text().unwrap_or_default(), &environment),
                (None, Some(from)) => self.value_from(from),
                (None, None) => Value::Known(String::new()),
            };
            let name = text(it, "name").to_owned();
            environment.set(Variable { name, value, line: it.line })?;
        }
        Ok((environment, findings))
    }

    /// Adds what one element of `envFrom` stands for; gives its name if that is
    /// not in the manifest.
    fn add_all(
        &self,
        source: Item<'_>,
        environment: &mut Environment,
    ) -> Result<Option<String>, String> {
        let name = |kind: &str| source.get_path(&[kind, "name"]).and_then(Item::text);
        let Some(map) = name("configMapRef") else {
            return Ok(Some(format!("the Secret {}", name("secretRef").unwrap_or_default())));
        };
        let Some(object) = self.config_map(map) else {
            return Ok(Some(format!("the ConfigMap {map}")));
        };
        let prefix = text(source, "prefix");
        for (key, _, value) in object.get("data").into_iter().flat_map(Item::map) {
            let name = format!("{prefix}{key}");
            let known = Value::Known(value.text().unwrap_or_default().to_owned());
            environment.set(Variable { name, value: known, line: value.line })?;
        }
        Ok(None)
    }

    fn value_from(&self, from: Item<'_>) -> Value {
        let reference = |kind: &str| {
            let it = from.get(kind)?;
            Some((text(it, "name"), text(it, "key")))
        };
        if let Some((name, key)) = reference("configMapKeyRef") {
            let value = self.config_map(name).and_then(|it| it.get_path(&["data", key])?.text());
            return value.map_or_else(
                || Value::Unknown(format!("the ConfigMap {name}, key {key}")),
                |it| Value::Known(it.to_owned()),
            );
        }
        Value::Unknown(match reference("secretKeyRef") {
            Some((name, key)) => format!("the Secret {name}, key {key}"),
            None => "the pod itself".into(),
        })
    }
}

/// The objects of a document, which may be a list of them.
fn objects(root: Item<'_>) -> Vec<Item<'_>> {
    match kind(root) {
        "List" => root.get("items").into_iter().flat_map(Item::list).collect(),
        _ => vec![root],
    }
}

fn kind(object: Item<'_>) -> &str {
    text(object, "kind")
}

/// The name of an object, or an empty one.
pub(super) fn name(object: Item<'_>) -> &str {
    object.get_path(&["metadata", "name"]).and_then(Item::text).unwrap_or_default()
}

/// The namespace of an object, or an empty one.
fn namespace(object: Item<'_>) -> &str {
    object.get_path(&["metadata", "namespace"]).and_then(Item::text).unwrap_or_default()
}

/// The text under `key`, or an empty one.
pub(super) fn text<'n>(item: Item<'n>, key: &str) -> &'n str {
    item.get(key).and_then(Item::text).unwrap_or_default()
}

fn is_reference(container: Item<'_>) -> bool {
    let image = text(container, "image").split(['@']).next().unwrap_or_default();
    let image = image.rsplit('/').next().unwrap_or_default();
    let command = container.get("command").and_then(|it| it.list().next()?.text());
    let command = command.unwrap_or_default().rsplit('/').next().unwrap_or_default();
    image.split(':').next() == Some("ratelimit") || command == "ratelimit"
}

fn choose(problem: &str, all: &[Candidate<'_>]) -> String {
    const SHOWN: usize = 20;
    let names = all.iter().take(SHOWN).map(|it| format!("\n  {}", it.path()));
    format!("{problem}, choose one with --container NAME:{}", names.collect::<String>())
}

/// `text` with the values of the variables before it in place of `$(NAME)`.
fn expand(text: &str, environment: &Environment) -> Value {
    /// Longer than any value that is meant.
    const LONGEST: usize = 128 << 10;
    let mut value = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        value += before;
        rest = behind;
        if let Some(behind) = rest.strip_prefix('$') {
            value.push('$');
            rest = behind;
            continue;
        }
        let Some((name, behind)) = rest.strip_prefix('(').and_then(|it| it.split_once(')')) else {
            value.push('$');
            continue;
        };
        match environment.get(name).map(|it| &it.value) {
            Some(Value::Known(known)) => value += known,
            Some(unknown @ Value::Unknown(_)) => return unknown.clone(),
            None => return Value::Unknown(format!("{name}, which the cluster may set")),
        }
        if value.len() > LONGEST {
            return Value::Unknown("variables that are too long together".into());
        }
        rest = behind;
    }
    Value::Known(value + rest)
}
