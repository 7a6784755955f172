//! The variables that the service is started with.

use std::fmt::Write;

use indexmap::IndexMap;

/// Variables, and where they stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    /// The file that they are from.
    file: String,
    /// Where a variable would have to stand that is not set.
    origin: String,
    /// By name. Of two with one name the later counts.
    variables: IndexMap<String, Variable>,
    /// What may set further variables, of which nothing is known.
    sources: Vec<Source>,
    /// How long names and values are together.
    bytes: usize,
}

/// Something that is not known, and sets variables.
#[derive(Clone, Debug)]
struct Source {
    name: String,
    /// What the names of its variables begin with.
    prefix: String,
}

/// How long all variables may be together, in bytes. No system starts a
/// program with more.
const MAX_BYTES: usize = 2 << 20;

/// How many variables there may be.
const MAX_VARIABLES: usize = 10_000;

/// One variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: Value,
    /// From 1.
    pub(super) line: u32,
}

/// What is known of the value of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// All of it.
    Known(String),
    /// Only where it comes from.
    Unknown(String),
}

impl Environment {
    /// An empty one; `origin` is the part of `file` that is to say all.
    pub(super) fn new(file: &str, origin: impl Into<String>) -> Self {
        Self { file: file.to_owned(), origin: origin.into(), ..Self::default() }
    }

    /// Adds a variable, in the place of one with its name.
    ///
    /// # Errors
    ///
    /// If there are too many, or they are too long.
    pub(super) fn set(&mut self, variable: Variable) -> Result<(), String> {
        let (Value::Known(text) | Value::Unknown(text)) = &variable.value;
        self.bytes += variable.name.len() + text.len();
        if self.bytes > MAX_BYTES || self.variables.len() == MAX_VARIABLES {
            return Err(format!(
                "there are too many variables, expected at most {MAX_VARIABLES}, of {MAX_BYTES} \
                 bytes in all"
            ));
        }
        self.variables.insert(variable.name.clone(), variable);
        Ok(())
    }

    /// Adds something that may set any variables whose names begin with `prefix`.
    pub(super) fn add_source(&mut self, name: String, prefix: String) {
        self.sources.push(Source { name, prefix });
    }

    /// What says one of `names`, if that is not known.
    pub(super) fn doubt(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| match self.get(name).map(|it| &it.value) {
            Some(Value::Known(_)) => None,
            Some(Value::Unknown(origin)) => Some(origin.as_str()),
            None => {
                let mut sources = self.sources.iter();
                sources.find(|it| name.starts_with(&it.prefix)).map(|it| it.name.as_str())
            }
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Variable> {
        self.variables.values()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Variable> {
        self.variables.get(name)
    }

    /// The value of a variable that is known and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match &self.get(name)?.value {
            Value::Known(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// Whether a variable is set, and not known to be empty.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|it| it.value != Value::Known(String::new()))
    }

    /// Whether a variable is known to say true, in any of the ways that
    /// tollgate or the reference service takes.
    pub(super) fn is_true(&self, name: &str) -> bool {
        let yes = ["1", "t", "true", "yes", "on"];
        self.text(name).is_some_and(|it| yes.iter().any(|yes| yes.eq_ignore_ascii_case(it)))
    }

    /// Where a variable stands, or would have to.
    pub(super) fn place(&self, name: &str) -> String {
        match self.get(name) {
            Some(it) => format!("{}:{}", self.file, it.line),
            None => self.origin.clone(),
        }
    }

    /// Reads lines like `NAME=value`, as `env` prints them, as `--env-file` of
    /// Docker takes them, or as a shell does, with `export` and quotes.
    ///
    /// # Errors
    ///
    /// All lines that are something else, with their numbers.
    pub(super) fn parse(file: &str, text: &str) -> Result<Self, String> {
        /// How many wrong lines are written out.
        const SHOWN: usize = 20;
        let mut environment = Self::new(file, file);
        let (mut wrong, mut problems) = (0, String::new());
        // Some editors begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (line, text) in (1..).zip(text.lines()) {
            match parse_line(text.trim()) {
                Ok(None) => {}
                Ok(Some((name, value))) => {
                    environment.set(Variable { name: name.to_owned(), value, line })?;
                }
                Err(problem) => {
                    wrong += 1;
                    if wrong <= SHOWN {
                        let _ = write!(problems, "\n  {file}:{line}: {problem}");
                    }
                }
            }
        }
        match wrong {
            0 => return Ok(environment),
            1..=SHOWN => {}
            _ => {
                let _ = write!(problems, "\n  and {} more", wrong - SHOWN);
            }
        }
        Err(format!("this is no environment, expected NAME=value on each line:{problems}"))
    }
}

fn parse_line(line: &str) -> Result<Option<(&str, Value)>, String> {
    if line.is_empty() || line.starts_with('#') || line == "set -a" || line == "set +a" {
        return Ok(None);
    }
    let exported = line.strip_prefix("export ").or_else(|| line.strip_prefix("declare -x "));
    let line = exported.unwrap_or(line).trim_start();
    let (name, text) = match line.split_once('=') {
        Some((name, text)) => (name, Some(text)),
        None => (line, None),
    };
    let legal = |it: char| it.is_ascii_alphanumeric() || it == '_';
    if name.is_empty()
        || !name.chars().all(legal)
        || name.starts_with(|it: char| it.is_ascii_digit())
    {
        return Err("expected the name of a variable and a value, NAME=value".into());
    }
    let value = match text {
        Some(text) => unquote(text)?,
        None => Value::Unknown("whatever starts the service".into()),
    };
    Ok(Some((name, value)))
}

/// What a shell would make of `text`; one part of it may be in quotes.
fn unquote(text: &str) -> Result<Value, String> {
    let shell = || Value::Unknown("a shell, which replaces what begins with `$`".into());
    let quoted = |quote: char| -> Result<(String, bool), String> {
        let (mut value, mut expands) = (String::new(), false);
        let mut rest = text[1..].chars();
        loop {
            match rest.next().ok_or_else(|| format!("expected another {quote} at the end"))? {
                it if it == quote => break,
                '\\' if quote == '"' => match rest.next() {
                    Some(it @ ('"' | '\\' | '$' | '`')) => value.push(it),
                    Some(it) => value.extend(['\\', it]),
                    None => return Err(format!("expected another {quote} at the end")),
                },
                it => {
                    expands |= quote == '"' && (it == '$' || it == '`');
                    value.push(it);
                }
            }
        }
        match rest.as_str().trim_start() {
            "" => Ok((value, expands)),
            it if it.starts_with('#') => Ok((value, expands)),
            _ => Err(format!("expected nothing behind the second {quote}")),
        }
    };
    let (value, expands) = match text.chars().next() {
        Some(quote @ ('"' | '\'')) => quoted(quote)?,
        _ => {
            let value = text.split(" #").next().unwrap_or_default().trim_end();
            (
                value.to_owned(),
                value.contains("${") || value.contains("$(") || value.starts_with('$'),
            )
        }
    };
    Ok(if expands { shell() } else { Value::Known(value) })
}
