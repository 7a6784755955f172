//! Composes nodes from the events of the parser.

use std::{borrow::Cow, collections::HashMap, rc::Rc};

use granit_parser::{
    ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag,
};
use indexmap::map::Entry as Slot;

use super::{
    super::{
        MAX_BYTES,
        report::{Place, Report, quote},
    },
    Entry, MAX_DEPTH, MAX_NODES, Map, Node, Scalar, Value,
};

/// The first document of file `index`; none if it cannot be understood, and
/// then that has been reported.
pub(in super::super) fn parse<'a>(report: &mut Report<'a>, index: usize) -> Option<Rc<Node<'a>>> {
    compose(report, index, false, Composer::document)
}

/// All documents of file `index`. Of keys that are there twice the last counts,
/// which is reported all the same.
pub(in super::super) fn parse_all<'a>(
    report: &mut Report<'a>,
    index: usize,
) -> Option<Vec<Rc<Node<'a>>>> {
    compose(report, index, true, Composer::documents)
}

fn compose<'a, 'r, T>(
    report: &'r mut Report<'a>,
    index: usize,
    last_wins: bool,
    what: impl FnOnce(&mut Composer<'a, 'r>) -> Result<T, Stop>,
) -> Option<T> {
    let text = text(report, index)?;
    let mut options = granit_parser::options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    options.set_emit_comments(false);
    let mut composer = Composer {
        events: Parser::new_from_str_with_options(text, options),
        report,
        file: index,
        anchors: HashMap::new(),
        nodes: 0,
        last_wins,
    };
    match what(&mut composer) {
        Ok(it) => Some(it),
        Err(stop) => {
            composer.report.mistake(stop.place, stop.message, stop.help);
            None
        }
    }
}

fn text<'a>(report: &mut Report<'a>, index: usize) -> Option<&'a str> {
    let bytes = report.file(index)?.bytes.as_slice();
    let top = report.top(index);
    if bytes.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, expected at most {MAX_BYTES}", bytes.len());
        report.mistake(top, message, Some("split it into several files".into()));
        return None;
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        let help = "save it as UTF-8 without a byte order mark";
        report.mistake(top, "the file begins with a byte order mark", Some(help.into()));
        return None;
    }
    match str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) => {
            let at = error.valid_up_to();
            let valid = String::from_utf8_lossy(&bytes[..at]);
            let line_start = valid.rfind('\n').map_or(0, |it| it + 1);
            let place = Place {
                file: index,
                line: narrow(valid.matches('\n').count() + 1),
                column: narrow(valid[line_start..].chars().count() + 1),
                bytes: (narrow(at), narrow(at + 1)),
            };
            let message = format!("the byte 0x{:02x} is not UTF-8", bytes[at]);
            report.mistake(place, message, Some("save the file as UTF-8".into()));
            None
        }
    }
}

/// A mistake behind which the file cannot be understood.
struct Stop {
    place: Place,
    message: String,
    help: Option<String>,
}

struct Composer<'a, 'r> {
    events: Parser<'a, StrInput<'a>>,
    report: &'r mut Report<'a>,
    file: usize,
    anchors: HashMap<usize, Rc<Node<'a>>>,
    nodes: usize,
    /// Which of two equal keys counts.
    last_wins: bool,
}

impl<'a> Composer<'a, '_> {
    /// The first document, after a look at what follows it.
    fn document(&mut self) -> Result<Rc<Node<'a>>, Stop> {
        let mut first = None;
        let mut second = false;
        while let Some((event, span)) = self.next()? {
            if !is_node(&event) {
                continue;
            }
            self.anchors.clear();
            let node = self.node(event, span, 1)?;
            if first.is_none() {
                first = Some(node);
            } else if !node.is_null() && !second {
                second = true;
                let help = "put it into a file of its own";
                let message = "a second document begins here, expected one in a file";
                self.report.mistake(node.place, message, Some(help.into()));
            }
        }
        Ok(first.unwrap_or_else(|| Node::null(self.report.top(self.file))))
    }

    fn documents(&mut self) -> Result<Vec<Rc<Node<'a>>>, Stop> {
        let mut roots = Vec::new();
        while let Some((event, span)) = self.next()? {
            if is_node(&event) {
                self.anchors.clear();
                roots.push(self.node(event, span, 1)?);
            }
        }
        Ok(roots)
    }

    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Stop> {
        self.events.next_event().transpose().map_err(|it| self.syntax(&it))
    }

    /// Some event inside a document.
    fn expect(&mut self) -> Result<(Event<'a>, Span), Stop> {
        let end = || Stop {
            place: self.report.top(self.file),
            message: "the file ends too early".into(),
            help: None,
        };
        match self.events.next_event() {
            Some(Ok(it)) => Ok(it),
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Err(end()),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Rc<Node<'a>>, Stop> {
        let place = self.place(span.start, span.end);
        if depth > MAX_DEPTH && !matches!(event, Event::Scalar(..) | Event::Alias(_)) {
            return Err(too_deep(place));
        }
        self.count(1, place)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_string = tag.as_deref().is_some_and(is_string);
                self.refuse(tag.filter(|_| !is_string), span);
                let plain = style == ScalarStyle::Plain && !is_string;
                (Value::Scalar(Scalar { text, plain }), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse(tag, span);
                (Value::List(self.list(depth)?), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse(tag, span);
                (Value::Map(self.map(depth)?), anchor)
            }
            Event::Alias(id) => return self.alias(id, place, depth),
            _ => return Ok(Node::null(place)),
        };
        let node = Node::new(place, value);
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Rc<Node<'a>>>, Stop> {
        let mut list = Vec::new();
        loop {
            match self.expect()? {
                (Event::SequenceEnd, _) => return Ok(list),
                (event, span) => list.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Map<'a>, Stop> {
        let mut map = Map::default();
        let mut merged = None;
        loop {
            let key = match self.expect()? {
                (Event::MappingEnd, _) => break,
                (event, span) => self.node(event, span, depth + 1)?,
            };
            let (event, span) = self.expect()?;
            let node = self.node(event, span, depth + 1)?;
            let Value::Scalar(scalar) = &key.value else {
                let message = format!("a key is {}, expected a string", key.describe());
                self.report.mistake(key.place, message, None);
                continue;
            };
            if scalar.plain && scalar.text == "<<" && merged.is_none() {
                merged = Some(node);
                continue;
            }
            let entry = Entry { place: key.place, plain: scalar.plain, node };
            match map.entry(scalar.text.clone()) {
                Slot::Vacant(slot) => drop(slot.insert(entry)),
                Slot::Occupied(mut slot) => {
                    let first = self.report.place(slot.get().place);
                    let name = quote(&scalar.text);
                    let message = format!("the key {name} is already at {first}");
                    self.report.mistake(key.place, message, Some("remove one of them".into()));
                    if self.last_wins {
                        slot.insert(entry);
                    }
                }
            }
        }
        if let Some(node) = merged {
            self.merge(&mut map, &node);
        }
        Ok(map)
    }

    /// `<<`: adds what `map` does not say itself.
    fn merge(&mut self, map: &mut Map<'a>, from: &Rc<Node<'a>>) {
        let sources = match &from.value {
            Value::List(list) => list.as_slice(),
            _ => std::slice::from_ref(from),
        };
        for source in sources {
            let Value::Map(other) = &source.value else {
                let is = source.describe();
                let message = format!("`<<` is {is}, expected a map or a list of maps");
                self.report.mistake(source.place, message, None);
                continue;
            };
            for (key, entry) in other {
                map.entry(key.clone()).or_insert_with(|| entry.clone());
            }
        }
    }

    fn alias(&mut self, id: usize, place: Place, depth: usize) -> Result<Rc<Node<'a>>, Stop> {
        let Some(node) = self.anchors.get(&id).map(Rc::clone) else {
            let message = "the alias stands inside what it stands for";
            self.report.mistake(place, message, None);
            return Ok(Node::null(place));
        };
        if depth + node.height > MAX_DEPTH + 1 {
            return Err(too_deep(place));
        }
        self.count(node.size, place)?;
        Ok(node)
    }

    fn count(&mut self, nodes: usize, place: Place) -> Result<(), Stop> {
        self.nodes += nodes;
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        Err(Stop {
            place,
            message: format!("the file has more than {MAX_NODES} nodes here, aliases included"),
            help: Some("split it into several files".into()),
        })
    }

    fn refuse(&mut self, tag: Option<Cow<'_, Tag>>, span: Span) {
        let Some(tag) = tag else { return };
        let place = span.tag_span().unwrap_or(span);
        let place = self.place(place.start, place.end);
        let message = format!("the tag {} is not understood", quote(&tag.original()));
        self.report.mistake(place, message, Some("remove it".into()));
    }

    fn syntax(&self, error: &ScanError) -> Stop {
        let place = self.place(*error.marker(), *error.marker());
        let help = match error.kind() {
            ErrorKind::RecursionLimitExceeded => return too_deep(place),
            ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabAtBlockScalarStart => Some("indent with spaces"),
            ErrorKind::UnexpectedCharacter { .. } => Some("quote the text that begins with it"),
            ErrorKind::MissingAnchorOrAliasName | ErrorKind::UnknownAnchor => {
                Some("quote a text that begins with `*` or `&`")
            }
            ErrorKind::UnclosedQuotedScalar | ErrorKind::InvalidQuotedScalarIndent => {
                Some("is a quote above not closed?")
            }
            ErrorKind::MappingValueNotAllowed => Some("quote a text that contains `: `"),
            _ => None,
        };
        let message = format!("this is not YAML: {}", error.info());
        Stop { place, message, help: help.map(Into::into) }
    }

    fn place(&self, start: Marker, end: Marker) -> Place {
        let from = start.byte_offset().unwrap_or_default();
        Place {
            file: self.file,
            line: narrow(start.line()),
            column: narrow(start.col() + 1),
            bytes: (narrow(from), narrow(end.byte_offset().unwrap_or(from))),
        }
    }
}

fn too_deep(place: Place) -> Stop {
    let message = format!("this is nested deeper than {MAX_DEPTH} levels of lists and maps");
    Stop { place, message, help: None }
}

/// Whether `tag` only says that a scalar is what it would be in quotes.
fn is_string(tag: &Tag) -> bool {
    tag.is_yaml_core_schema_tag("str") || tag.original() == "!"
}

fn is_node(event: &Event<'_>) -> bool {
    matches!(
        event,
        Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(_)
    )
}

/// No file is as long as that.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
