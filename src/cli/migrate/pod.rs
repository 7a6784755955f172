//! The pod in a Kubernetes manifest that runs the service.

use super::{
    container,
    environment::{EnvValue, EnvVariable, Environment},
    finding::{Finding, Grade},
};
use crate::{
    cli::manifest::{self, kind, list, name, namespace, text},
    config::documents::{Documents, Item},
};

/// The container that runs the service, with its pod and the manifest.
#[derive(Clone, Debug)]
pub(super) struct Pod<'n> {
    pub(super) file: &'n str,
    pub(super) spec: Item<'n>,
    pub(super) container: Item<'n>,
    /// `kind/workload/container`, after the namespace if there is one.
    pub(super) path: String,
    /// Empty if the manifest does not set it.
    namespace: &'n str,
    /// All objects of the manifest.
    objects: Vec<Item<'n>>,
}

/// Returns true if `text` is a manifest and not a file of variables.
pub(super) fn is_manifest(text: &str) -> bool {
    const BEGINNINGS: [&str; 4] = ["apiVersion:", "kind:", "---", "{"];
    for line in text.lines() {
        if BEGINNINGS.iter().any(|beginning| line.starts_with(beginning)) {
            return true;
        }
    }
    false
}

impl<'n> Pod<'n> {
    /// Finds the pod with the container called `wanted`, or with the container
    /// that [`container::choose`] takes without a name.
    ///
    /// # Errors
    ///
    /// If there is no such container, or more than one, with a list of all.
    pub(super) fn find(
        file: &'n str,
        documents: &'n Documents<'_>,
        wanted: Option<&str>,
    ) -> Result<Self, String> {
        let objects = manifest::objects(documents);
        let chosen = container::choose(&objects, wanted)?;
        Ok(Self {
            file,
            spec: chosen.spec,
            container: chosen.container,
            path: chosen.path(),
            namespace: namespace(chosen.workload),
            objects,
        })
    }

    /// `file:line` of `item`.
    pub(super) fn place(&self, item: Item<'_>) -> String {
        format!("{}:{}", self.file, item.line)
    }

    /// Returns true if the container already runs tollgate.
    pub(super) fn runs_tollgate(&self) -> bool {
        container::runs_tollgate(self.container)
    }

    /// The objects of one kind in the namespace of the pod. An object or a pod
    /// without a namespace matches any; objects with the pod's namespace come
    /// first.
    pub(super) fn objects_of_kind(&self, wanted_kind: &str) -> Vec<Item<'n>> {
        let mut same_namespace = Vec::new();
        let mut maybe_same = Vec::new();
        for object in &self.objects {
            let namespace = namespace(*object);
            if kind(*object) != wanted_kind {
                continue;
            }
            if namespace == self.namespace {
                same_namespace.push(*object);
            } else if namespace.is_empty() || self.namespace.is_empty() {
                maybe_same.push(*object);
            }
        }
        same_namespace.append(&mut maybe_same);
        same_namespace
    }

    /// The ConfigMap object, or `None` if it is not in the manifest.
    pub(super) fn config_map(&self, wanted_name: &str) -> Option<Item<'n>> {
        let mut maps = self.objects_of_kind("ConfigMap").into_iter();
        maps.find(|map| name(*map) == wanted_name)
    }

    /// The variables of the container. Adds a note for each source of variables
    /// outside the manifest.
    ///
    /// # Errors
    ///
    /// If there are too many variables.
    pub(super) fn environment(&self, findings: &mut Vec<Finding>) -> Result<Environment, String> {
        let mut environment = Environment::new(self.file, self.place(self.container));
        for source in list(self.container, "envFrom") {
            if let Some(name) = self.add_source(source, &mut environment)? {
                let title = format!("the variables of {name} are not known");
                findings.push(Finding::new(Grade::Note, title).at(self.place(source)));
                environment.add_unknown_source(name, text(source, "prefix").to_owned());
            }
        }
        for variable in list(self.container, "env") {
            let value = match (variable.get("value"), variable.get("valueFrom")) {
                (Some(value), _) => expand(value.text().unwrap_or_default(), &environment),
                (None, Some(from)) => self.value_from(from),
                (None, None) => EnvValue::Known(String::new()),
            };
            let name = text(variable, "name").to_owned();
            environment.set(EnvVariable { name, value, line: variable.line })?;
        }
        Ok(environment)
    }

    /// Adds the variables of one element of `envFrom`. Returns its name if it
    /// is not in the manifest.
    fn add_source(
        &self,
        source: Item<'_>,
        environment: &mut Environment,
    ) -> Result<Option<String>, String> {
        let Some(map_ref) = source.get("configMapRef") else {
            let secret = match source.get("secretRef") {
                Some(secret_ref) => text(secret_ref, "name"),
                None => "",
            };
            return Ok(Some(format!("the Secret {secret}")));
        };
        let map_name = text(map_ref, "name");
        let Some(object) = self.config_map(map_name) else {
            return Ok(Some(format!("the ConfigMap {map_name}")));
        };
        let Some(data) = object.get("data") else { return Ok(None) };
        let prefix = text(source, "prefix");
        for (key, _, value) in data.map() {
            environment.set(EnvVariable {
                name: format!("{prefix}{key}"),
                value: EnvValue::Known(value.text().unwrap_or_default().to_owned()),
                line: value.line,
            })?;
        }
        Ok(None)
    }

    fn value_from(&self, from: Item<'_>) -> EnvValue {
        if let Some(map_ref) = from.get("configMapKeyRef") {
            let (map_name, key) = (text(map_ref, "name"), text(map_ref, "key"));
            let data = match self.config_map(map_name) {
                Some(map) => map.get("data"),
                None => None,
            };
            if let Some(data) = data
                && let Some(value) = data.get(key)
                && let Some(text) = value.text()
            {
                return EnvValue::Known(text.to_owned());
            }
            return EnvValue::Unknown(format!("the ConfigMap {map_name}, key {key}"));
        }
        EnvValue::Unknown(match from.get("secretKeyRef") {
            Some(secret) => {
                format!("the Secret {}, key {}", text(secret, "name"), text(secret, "key"))
            }
            None => "the pod itself".into(),
        })
    }
}

/// Replaces each `$(NAME)` in `text` with the value of a variable before it,
/// and `$$` with `$`.
fn expand(text: &str, environment: &Environment) -> EnvValue {
    /// In bytes. No useful value is longer.
    const MAX_LENGTH: usize = 128 << 10;
    let mut value = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        value += before;
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            value.push('$');
            rest = after;
            continue;
        }
        let Some((name, after)) = variable_reference(rest) else {
            value.push('$');
            continue;
        };
        let Some(variable) = environment.get(name) else {
            return EnvValue::Unknown(format!("{name}, which the cluster may set"));
        };
        match &variable.value {
            EnvValue::Known(known) => value += known,
            unknown @ EnvValue::Unknown(_) => return unknown.clone(),
        }
        if value.len() > MAX_LENGTH {
            return EnvValue::Unknown("variables that are too long in total".into());
        }
        rest = after;
    }
    EnvValue::Known(value + rest)
}

/// Splits `(NAME)` from the rest of the text.
fn variable_reference(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('(')?.split_once(')')
}
