//! The environment variables that the service is started with.

use std::path::PathBuf;

use indexmap::IndexMap;

/// Total length of all names and values, in bytes. No system starts a program
/// with a larger environment.
const MAX_BYTES: usize = 2 << 20;
const MAX_VARIABLES: usize = 10_000;

/// The variables of one service, with the lines that set them.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    file: String,
    /// The place reported for a variable that is not set: the file, or the line
    /// of the container in it.
    default_place: String,
    /// By name. The last line that sets a name wins.
    variables: IndexMap<String, EnvVariable>,
    /// Secrets and ConfigMaps outside the input that may set more variables.
    unknown_sources: Vec<UnknownSource>,
    /// Total length of names and values so far.
    bytes: usize,
}

#[derive(Clone, Debug)]
struct UnknownSource {
    name: String,
    /// Every variable that it sets begins with this prefix.
    prefix: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EnvVariable {
    pub(super) name: String,
    pub(super) value: EnvValue,
    /// From 1.
    pub(super) line: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EnvValue {
    Known(String),
    /// The value is not in the input. Holds its origin, such as `the Secret a`.
    Unknown(String),
}

impl Environment {
    pub(super) fn new(file: &str, default_place: impl Into<String>) -> Self {
        Self { file: file.to_owned(), default_place: default_place.into(), ..Self::default() }
    }

    /// Adds a variable, or replaces the one with the same name.
    ///
    /// # Errors
    ///
    /// If there are too many variables, or they are too long in total.
    pub(super) fn set(&mut self, variable: EnvVariable) -> Result<(), String> {
        let (EnvValue::Known(text) | EnvValue::Unknown(text)) = &variable.value;
        self.bytes += variable.name.len() + text.len();
        if self.bytes > MAX_BYTES || self.variables.len() == MAX_VARIABLES {
            return Err(format!(
                "there are too many variables, expected at most {MAX_VARIABLES} with {MAX_BYTES} \
                 bytes in total"
            ));
        }
        self.variables.insert(variable.name.clone(), variable);
        Ok(())
    }

    /// Adds a source outside the input that may set any variable that begins
    /// with `prefix`.
    pub(super) fn add_unknown_source(&mut self, name: String, prefix: String) {
        self.unknown_sources.push(UnknownSource { name, prefix });
    }

    /// The origin of the first of `names` that has an unknown value, or that is
    /// not set and may be set by a source outside the input.
    pub(super) fn unknown_origin(&self, names: &[&str]) -> Option<&str> {
        for name in names {
            match self.get(name) {
                Some(EnvVariable { value: EnvValue::Known(_), .. }) => {}
                Some(EnvVariable { value: EnvValue::Unknown(origin), .. }) => return Some(origin),
                None => {
                    for source in &self.unknown_sources {
                        if name.starts_with(&source.prefix) {
                            return Some(&source.name);
                        }
                    }
                }
            }
        }
        None
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &EnvVariable> {
        self.variables.values()
    }

    pub(super) fn get(&self, name: &str) -> Option<&EnvVariable> {
        self.variables.get(name)
    }

    /// The value of a variable, if it is known and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match &self.get(name)?.value {
            EnvValue::Known(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// Returns true for a variable with an unknown value or a known value that
    /// is not empty.
    pub(super) fn is_set(&self, name: &str) -> bool {
        match self.get(name) {
            Some(variable) => variable.value != EnvValue::Known(String::new()),
            None => false,
        }
    }

    /// Returns true if the value is known and equals `word`, in upper or lower
    /// case.
    pub(super) fn is_word(&self, name: &str, word: &str) -> bool {
        match self.text(name) {
            Some(text) => text.eq_ignore_ascii_case(word),
            None => false,
        }
    }

    /// Returns true if the value is known and switches a setting on, as
    /// tollgate or the reference service would read it.
    pub(super) fn is_true(&self, name: &str) -> bool {
        const TRUE: [&str; 5] = ["1", "t", "true", "yes", "on"];
        let Some(text) = self.text(name) else { return false };
        TRUE.contains(&text.to_ascii_lowercase().as_str())
    }

    /// `file:line` of the variable. For a variable that is not set, the place
    /// to set it.
    pub(super) fn place(&self, name: &str) -> String {
        match self.get(name) {
            Some(variable) => format!("{}:{}", self.file, variable.line),
            None => self.default_place.clone(),
        }
    }

    /// Returns true if rules come from an xDS server instead of files.
    pub(super) fn has_xds_rules(&self) -> bool {
        self.is_word("CONFIG_TYPE", "GRPC_XDS_SOTW")
    }

    /// Returns true if the `RUNTIME_*` variables locate the rule files.
    pub(super) fn has_runtime_layout(&self) -> bool {
        !self.has_xds_rules() && !self.is_set("TOLLGATE_CONFIG")
    }

    pub(super) fn watches_root(&self) -> bool {
        !self.is_set("RUNTIME_WATCH_ROOT") || self.is_true("RUNTIME_WATCH_ROOT")
    }

    /// The file or directory of rules, unless they come by xDS.
    pub(super) fn rules_path(&self) -> PathBuf {
        if let Some(path) = self.text("TOLLGATE_CONFIG") {
            return path.into();
        }
        let root = self.text("RUNTIME_ROOT").unwrap_or("/srv/runtime_data/current");
        let subdirectory = self.text("RUNTIME_SUBDIRECTORY").unwrap_or_default();
        let app_directory = self.text("RUNTIME_APPDIRECTORY").unwrap_or("config");
        let mut path = PathBuf::from(root);
        for part in [subdirectory, app_directory] {
            let part = part.trim_matches('/');
            // Joining an empty part would end the path with a slash.
            if !part.is_empty() {
                path.push(part);
            }
        }
        path
    }

    /// Returns true if tollgate will count hits in Redis.
    pub(super) fn uses_redis(&self) -> bool {
        match self.text("BACKEND_TYPE") {
            Some(backend) => backend.eq_ignore_ascii_case("redis"),
            // The reference has no counters in memory: a hidden REDIS_URL is
            // most likely set.
            None => self.is_set("REDIS_URL") || self.unknown_origin(&["REDIS_URL"]).is_some(),
        }
    }

    /// Returns true if tollgate reserves the hits of a plain request before it
    /// counts them. It has to where the counters of a request may be on several
    /// servers and one exceeded limit keeps the others from counting.
    pub(super) fn reserves_hits(&self) -> bool {
        self.is_true("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT")
            && (self.is_word("REDIS_TYPE", "cluster") || self.is_true("REDIS_PERSECOND"))
    }
}
