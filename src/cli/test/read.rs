//! Reads a file with tests.

use std::{path::Path, time::Duration};

use bytes::Bytes;

use super::{
    fields::{Fields, Mistakes},
    suite::{Ask, ExpectedStatus, HttpAsk, NEVER, NONE, ParsedSuite, Step, Test},
};
use crate::{
    cli::{
        hit::parse_descriptor,
        http_question::{HeaderLine, HttpQuestion, RequestLine},
        input::is_stdin,
        rule_input::ReadRules,
    },
    config::{
        CompileOptions, SourceFile,
        documents::{self, Field, Item, Kind},
    },
    descriptor::{Descriptor, Request, invalid::MOST_DESCRIPTORS},
    duration,
    grpc::client::ResponseCode,
    limit::Hits,
    rule_files::LinkPolicy,
    time::Timestamp,
    time_zones::TimeZones,
};

const FILE_KEYS: [&str; 6] = ["rules", "inline_rules", "merge_domains", "domain", "start", "tests"];
const TEST_KEYS: [&str; 3] = ["name", "start", "steps"];
const STEP_KEYS: [&str; 10] = [
    "advance",
    "domain",
    "descriptors",
    "http",
    "headers",
    "from",
    "hits",
    "refund",
    "times",
    "expect",
];
const STATUS_KEYS: [&str; 5] = ["code", "limit", "remaining", "reset", "rule"];
const EXPECT_KEYS: [&str; 6] = ["code", "limit", "remaining", "reset", "rule", "descriptors"];

/// 2026-01-01 at 12:00 UTC: no window of a day or less is about to end.
const DEFAULT_START: Timestamp = Timestamp::from_secs(1_767_268_800);
/// The most times that a step asks.
const MOST_TIMES: u32 = 100_000;

/// Reads the tests in `file`, which is at `path`, and adds their rules to `rules`.
pub(super) fn read(
    file: &SourceFile,
    path: &Path,
    rules: &mut ReadRules,
) -> Result<ParsedSuite, Mistakes> {
    let mut mistakes = Mistakes::new(&file.name);
    let documents = documents::read(file);
    if let Some(diagnostics) = &documents.diagnostics {
        mistakes.add_text(&diagnostics.to_string());
        return Err(mistakes);
    }
    let mut reader = Reader { mistakes, domain: None, start: DEFAULT_START };
    let mut roots = documents.roots().into_iter().flatten();
    let suite = match roots.next() {
        Some(root) => reader.file(root, file, path, rules),
        None => {
            reader.mistakes.add_text(&format!("{}: the file is empty", file.name));
            None
        }
    };
    if let Some(second) = roots.next() {
        reader.mistakes.add(second, "this is a second document, expected one in a file");
    }
    match suite {
        Some(suite) if reader.mistakes.is_empty() => Ok(suite),
        _ => Err(reader.mistakes),
    }
}

/// The hits of each descriptor of a step.
#[derive(Clone, Copy)]
struct HitsOfStep {
    hits: Hits,
    /// The step sets them.
    is_own: bool,
}

struct Reader {
    mistakes: Mistakes,
    /// The domain of requests without one.
    domain: Option<Bytes>,
    start: Timestamp,
}

impl Reader {
    fn file(
        &mut self,
        root: Item<'_>,
        file: &SourceFile,
        path: &Path,
        rules: &mut ReadRules,
    ) -> Option<ParsedSuite> {
        let fields = self.mistakes.fields(root, "a file with tests", &FILE_KEYS)?;
        self.rules(&fields, file, path, rules);
        let merge_domains = self.flag(&fields, "merge_domains");
        self.domain = self.domain(&fields);
        self.start = self.start(&fields);
        self.mistakes.require(&fields, "tests", "the file");
        let mut tests = Vec::new();
        for item in self.mistakes.filled_list(&fields, "tests") {
            tests.extend(self.test(item));
        }
        Some(ParsedSuite {
            options: CompileOptions { merge_domains, time_zones: TimeZones::newest() },
            tests,
        })
    }

    /// Reads the rules. Their paths are relative to the directory of the file.
    fn rules(
        &mut self,
        fields: &Fields<'_>,
        file: &SourceFile,
        path: &Path,
        rules: &mut ReadRules,
    ) {
        let directory = if is_stdin(path) { None } else { path.parent() };
        let directory = directory.unwrap_or(Path::new(""));
        let paths = match fields.get("rules") {
            Some(item) if item.kind() == Kind::List => item.list().collect(),
            Some(item) => vec![item],
            None => Vec::new(),
        };
        if let Some(inline) = fields.get("inline_rules") {
            if inline.kind() == Kind::Text {
                rules.add_inline(file, inline);
            } else {
                let message = "`inline_rules` is not a text, expected `|` and a rule file below it";
                self.mistakes.add(inline, message);
            }
        } else if paths.is_empty() {
            self.mistakes.require(fields, "rules", "the file");
        }
        for item in paths {
            match item.text() {
                Some(text) => {
                    rules.read_path(&directory.join(text), LinkPolicy::Inside);
                    for error in rules.errors.drain(..) {
                        self.mistakes.add_lines(item, &error);
                    }
                }
                None => self.mistakes.add(item, "this is not a path, expected that of rules"),
            }
        }
    }

    fn test(&mut self, item: Item<'_>) -> Option<Test> {
        let fields = self.mistakes.fields(item, "a test", &TEST_KEYS)?;
        self.mistakes.require(&fields, "name", "the test");
        self.mistakes.require(&fields, "steps", "the test");
        let name = self.mistakes.parse(&fields, "name", "a text", |text| Some(text.to_owned()));
        let start = self.start(&fields);
        let mut steps: Vec<Step> = Vec::new();
        let mistakes_before = self.mistakes.len();
        for step in self.mistakes.filled_list(&fields, "steps") {
            steps.extend(self.step(step));
        }
        let compares = steps.iter().flat_map(|step| &step.ask).any(Ask::compares);
        if !compares && fields.get("steps").is_some() && self.mistakes.len() == mistakes_before {
            let message = "the test compares nothing, expected a step with `expect`";
            self.mistakes.add(item, message);
        }
        Some(Test { name: name.unwrap_or_default(), line: item.line, start, steps })
    }

    fn step(&mut self, item: Item<'_>) -> Option<Step> {
        let fields = self.mistakes.fields(item, "a step", &STEP_KEYS)?;
        let expected = "a duration such as 30s or 1h30m";
        let advance = self.mistakes.parse(&fields, "advance", expected, duration::parse);
        let has_request = fields.get("descriptors").is_some() || fields.get("http").is_some();
        let asks = STEP_KEYS.iter().any(|key| *key != "advance" && fields.get(key).is_some());
        if !has_request && (asks || advance.is_none()) {
            self.mistakes.require(&fields, "descriptors", "the step");
        }
        let ask = if has_request { self.ask(item, &fields) } else { None };
        Some(Step { line: item.line, advance: advance.unwrap_or(Duration::ZERO), ask })
    }

    fn ask(&mut self, item: Item<'_>, fields: &Fields<'_>) -> Option<Ask> {
        let domain = self.domain(fields).or_else(|| self.domain.clone());
        if domain.is_none() {
            self.mistakes.require(fields, "domain", "the step");
        }
        let hits = self.hits(fields);
        let http = self.http(item, fields, hits);
        let descriptors = self.descriptors(fields, hits);
        let request = Request { domain: domain.unwrap_or_default(), descriptors, hits_addend: 0 };
        if fields.get("http").is_none()
            && let Err(invalid) = request.validate(MOST_DESCRIPTORS)
        {
            self.mistakes.add(item, &invalid.to_string());
        }
        let expected = format!("a whole number from 1 to {MOST_TIMES}");
        let times = self.mistakes.parse(fields, "times", &expected, |text| {
            text.parse().ok().filter(|times| (1..=MOST_TIMES).contains(times))
        });
        let mut ask = Ask {
            request,
            http,
            times: times.unwrap_or(1),
            code: None,
            statuses: Vec::new(),
            expects_none: false,
        };
        if let Some(expect) = fields.get("expect") {
            let mistakes_before = self.mistakes.len();
            self.expect(expect, &mut ask);
            if !ask.compares() && self.mistakes.len() == mistakes_before {
                let message = format!("`expect` is empty, expected {}", EXPECT_KEYS.join(", "));
                self.mistakes.add(expect, &message);
            }
        }
        Some(ask)
    }

    fn descriptors(&mut self, fields: &Fields<'_>, hits: HitsOfStep) -> Vec<Descriptor> {
        let HitsOfStep { hits, is_own } = hits;
        let mut descriptors = Vec::new();
        for item in self.mistakes.list(fields, "descriptors") {
            match parse_descriptor(item.text().unwrap_or_default().as_bytes()) {
                Ok(entries) => descriptors.push(Descriptor {
                    entries,
                    hits,
                    has_own_hits: is_own,
                    limit: None,
                }),
                Err(expected) => self.mistakes.add(item, &format!("not a descriptor, {expected}")),
            }
        }
        descriptors
    }

    fn hits(&mut self, fields: &Fields<'_>) -> HitsOfStep {
        let expected = format!("a whole number from 0 to {}", Hits::MAX);
        let hits = self.mistakes.parse(fields, "hits", &expected, |text| {
            text.parse().ok().filter(|hits| *hits <= Hits::MAX)
        });
        let refund = self.flag(fields, "refund");
        HitsOfStep {
            hits: match hits.unwrap_or(1) {
                hits if refund => Hits::Refund(hits),
                hits => Hits::Add(hits),
            },
            is_own: hits.is_some(),
        }
    }

    /// The HTTP request of a step, if it has one.
    fn http(&mut self, item: Item<'_>, fields: &Fields<'_>, hits: HitsOfStep) -> Option<HttpAsk> {
        let Some(line) = fields.get("http") else {
            for key in ["headers", "from"] {
                if let Some(item) = fields.get(key) {
                    self.mistakes.add(item, &format!("`{key}` is without `http`, expected both"));
                }
            }
            return None;
        };
        if fields.get("descriptors").is_some() {
            let message = "the step has `http` and `descriptors`, expected one of the two";
            self.mistakes.add(item, message);
        }
        let mut headers = Vec::new();
        if let Some(map) = fields.get("headers") {
            headers = self.headers(map);
        }
        let from = self.mistakes.parse(fields, "from", "an IP address", |text| text.parse().ok());
        let line = RequestLine::parse(line.text().unwrap_or_default().into())
            .map_err(|expected| self.mistakes.add(line, &format!("not a request, {expected}")))
            .ok()?;
        let question = HttpQuestion { line, headers, from };
        Some(HttpAsk { question, hits: hits.hits, has_own_hits: hits.is_own })
    }

    fn headers(&mut self, map: Item<'_>) -> Vec<HeaderLine> {
        if map.kind() != Kind::Map {
            self.mistakes.add(map, "`headers` is not a map, expected names and values");
        }
        let mut headers = Vec::new();
        for Field { key, value, .. } in map.fields() {
            let text = value.text().unwrap_or_default();
            match HeaderLine::parse(format!("{key}: {text}").into()) {
                Ok(line) => headers.push(line),
                Err(expected) => self.mistakes.add(value, &format!("not a header, {expected}")),
            }
        }
        headers
    }

    fn expect(&mut self, item: Item<'_>, ask: &mut Ask) {
        let Some(fields) = self.mistakes.fields(item, "`expect`", &EXPECT_KEYS) else { return };
        let own = self.status(&fields);
        ask.code = own.code;
        let own = ExpectedStatus { code: None, ..own };
        let has_own = STATUS_KEYS[1..].iter().any(|key| fields.get(key).is_some());
        let is_http = ask.http.is_some();
        if has_own && !is_http && ask.request.descriptors.len() != 1 {
            let message = "`limit`, `remaining`, `reset` and `rule` belong to one descriptor, \
                           expected them in the elements of `descriptors`";
            self.mistakes.add(item, message);
        }
        if has_own {
            ask.statuses.push(own);
        }
        let listed = self.mistakes.list(&fields, "descriptors");
        let has_list = fields.get("descriptors").is_some();
        ask.expects_none = is_http && has_list && listed.is_empty();
        if has_list && (has_own || !is_http && listed.len() != ask.request.descriptors.len()) {
            let message = format!(
                "`descriptors` of `expect` has {} elements, expected one for each of {} \
                 descriptors, and no `limit`, `remaining`, `reset` or `rule` beside it",
                listed.len(),
                ask.request.descriptors.len()
            );
            self.mistakes.add(item, &message);
        }
        for status in listed {
            if let Some(fields) =
                self.mistakes.fields(status, "an expected descriptor", &STATUS_KEYS)
            {
                let status = self.status(&fields);
                ask.statuses.push(status);
            }
        }
    }

    fn status(&mut self, fields: &Fields<'_>) -> ExpectedStatus {
        let text = |text: &str| Some(text.to_owned());
        let mistakes = &mut self.mistakes;
        ExpectedStatus {
            code: mistakes.parse(fields, "code", "OK or OVER_LIMIT", code),
            limit: mistakes.parse(fields, "limit", "a text such as 5 per minute", text),
            remaining: mistakes
                .parse(fields, "remaining", "a whole number", |text| text.parse().ok()),
            reset: mistakes.parse(fields, "reset", "whole seconds such as 30s, or never", reset),
            rule: mistakes.parse(fields, "rule", &format!("the name of a rule, or {NONE}"), text),
        }
    }

    fn domain(&mut self, fields: &Fields<'_>) -> Option<Bytes> {
        let domain = |text: &str| Some(Bytes::copy_from_slice(text.as_bytes()));
        self.mistakes.parse(fields, "domain", "a text", domain)
    }

    fn start(&mut self, fields: &Fields<'_>) -> Timestamp {
        let expected = "a time such as 2026-03-01T12:00:00Z, from 1970 to 9999-12-30T22:00:00Z";
        let start = self.mistakes.parse(fields, "start", expected, |text| {
            let time: jiff::Timestamp = text.parse().ok()?;
            Some(Timestamp::from_micros(time.as_microsecond().try_into().ok()?))
        });
        start.unwrap_or(self.start)
    }

    fn flag(&mut self, fields: &Fields<'_>, key: &str) -> bool {
        let Some(item) = fields.get(key) else { return false };
        match item.kind() {
            Kind::Bool(flag) => flag,
            _ => {
                self.mistakes.add(item, &format!("`{key}` is not a flag, expected true or false"));
                false
            }
        }
    }
}

fn code(text: &str) -> Option<ResponseCode> {
    [ResponseCode::Ok, ResponseCode::OverLimit].into_iter().find(|code| code.name() == text)
}

/// Whole seconds, or `None` for [`NEVER`].
fn reset(text: &str) -> Option<Option<u64>> {
    if text == NEVER {
        return Some(None);
    }
    let reset = duration::parse(text)?;
    if reset.subsec_nanos() == 0 { Some(Some(reset.as_secs())) } else { None }
}
