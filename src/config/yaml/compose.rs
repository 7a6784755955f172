//! Composes nodes from the events of the parser.

use std::{collections::HashMap, rc::Rc};

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::{
    super::{excerpt::quote, sink::DiagnosticSink, source::Location},
    merge::Merger,
    node::{
        KeyOrigin, MAX_DEPTH, MAX_NODES, Map, MapEntry, Scalar, ScalarKind, YamlNode, YamlValue,
    },
    syntax::{self, SyntaxError},
    tags::{self, InvalidTag},
    text::{decode, saturating_u32},
};

/// Parses the first document of file `index`. Any other document, except an
/// empty one, is an error. If the file cannot be parsed, that is reported and
/// the result is `None`.
pub(in super::super) fn parse<'a>(
    sink: &mut DiagnosticSink<'a>,
    index: usize,
) -> Option<Rc<YamlNode<'a>>> {
    let mut composer = Composer::new(sink, index, RepeatedKey::KeepFirst)?;
    let document = composer.single_document();
    composer.report_failure(document)
}

/// Parses all documents of file `index`. A key that occurs twice in a map is
/// reported, and its last value is kept.
pub(in super::super) fn parse_all<'a>(
    sink: &mut DiagnosticSink<'a>,
    index: usize,
) -> Option<Vec<Rc<YamlNode<'a>>>> {
    let mut composer = Composer::new(sink, index, RepeatedKey::KeepLast)?;
    let documents = composer.all_documents();
    composer.report_failure(documents)
}

/// The value that is kept if a map has the same key twice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RepeatedKey {
    KeepFirst,
    KeepLast,
}

struct Composer<'a, 'r> {
    events: Parser<'a, StrInput<'a>>,
    text: &'a str,
    sink: &'r mut DiagnosticSink<'a>,
    file: usize,
    /// The anchored nodes of the current document, by the number that the
    /// parser gave to the anchor.
    anchors: HashMap<usize, Rc<YamlNode<'a>>>,
    /// The number of nodes so far that aliases and merges have added.
    added_nodes: usize,
    repeated_key: RepeatedKey,
}

impl<'a, 'r> Composer<'a, 'r> {
    fn new(
        sink: &'r mut DiagnosticSink<'a>,
        file: usize,
        repeated_key: RepeatedKey,
    ) -> Option<Self> {
        let text = decode(sink, file)?;
        let mut options = granit_parser::options! {
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
        };
        options.set_emit_comments(false);
        let events = Parser::new_from_str_with_options(text, options);
        Some(Self {
            events,
            text,
            sink,
            file,
            anchors: HashMap::new(),
            added_nodes: 0,
            repeated_key,
        })
    }

    fn report_failure<T>(self, result: Result<T, SyntaxError>) -> Option<T> {
        match result {
            Ok(parsed) => Some(parsed),
            Err(SyntaxError { location, message, help }) => {
                self.sink.push_error(location, message, help);
                None
            }
        }
    }

    fn single_document(&mut self) -> Result<Rc<YamlNode<'a>>, SyntaxError> {
        let mut first = None;
        let mut has_second = false;
        while let Some((event, span)) = self.next()? {
            if !is_node(&event) {
                continue;
            }
            self.anchors.clear();
            let node = self.node(event, span, 1)?;
            if first.is_none() {
                first = Some(node);
            } else if !node.is_null() && !has_second {
                has_second = true;
                let message = "a second document begins here, expected one in a file";
                let help = "put it into a file of its own";
                self.sink.error_with_help(node.location, message, help);
            }
        }
        match first {
            Some(document) => Ok(document),
            None => Ok(YamlNode::null(self.sink.start_of(self.file))),
        }
    }

    fn all_documents(&mut self) -> Result<Vec<Rc<YamlNode<'a>>>, SyntaxError> {
        let mut documents = Vec::new();
        while let Some((event, span)) = self.next()? {
            if is_node(&event) {
                self.anchors.clear();
                documents.push(self.node(event, span, 1)?);
            }
        }
        Ok(documents)
    }

    /// The next event; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, SyntaxError> {
        match self.events.next_event() {
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => Err(self.syntax_error(&error)),
            None => Ok(None),
        }
    }

    /// The next event, inside a document that has not ended.
    fn next_in_document(&mut self) -> Result<(Event<'a>, Span), SyntaxError> {
        match self.next()? {
            Some(event) => Ok(event),
            None => {
                let start = self.sink.start_of(self.file);
                Err(SyntaxError::new(start, "the file ends too early"))
            }
        }
    }

    fn node(
        &mut self,
        event: Event<'a>,
        span: Span,
        depth: usize,
    ) -> Result<Rc<YamlNode<'a>>, SyntaxError> {
        let location = self.location(span.start, span.end);
        if depth > MAX_DEPTH && !matches!(event, Event::Scalar(..) | Event::Alias(_)) {
            return Err(SyntaxError::too_deep(location));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let kind = self.scalar_kind(&text, style, tag.as_deref(), span);
                (YamlValue::Scalar(Scalar { text, kind }), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_collection(tag.as_deref(), "seq", span);
                (YamlValue::List(self.list(depth)?), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_collection(tag.as_deref(), "map", span);
                (YamlValue::Map(self.map(depth)?), anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor, location, depth),
            _ => return Ok(YamlNode::null(location)),
        };
        let node = YamlNode::new(location, value);
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Rc<YamlNode<'a>>>, SyntaxError> {
        let mut list = Vec::new();
        loop {
            match self.next_in_document()? {
                (Event::SequenceEnd, _) => return Ok(list),
                (event, span) => list.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Map<'a>, SyntaxError> {
        let mut map = Map::default();
        loop {
            let (event, span) = self.next_in_document()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(map);
            }
            if is_merge_key(&event) {
                let key_location = self.location(span.start, span.end);
                let (event, span) = self.next_in_document()?;
                let from = self.node(event, span, depth + 1)?;
                self.merge(&mut map, key_location, &from)?;
                continue;
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next_in_document()?;
            let node = self.node(event, span, depth + 1)?;
            let YamlValue::Scalar(scalar) = &key.value else {
                let message = format!("a key is {}, expected a string", key.describe());
                self.sink.error(key.location, message);
                continue;
            };
            self.insert(&mut map, key.location, scalar, node)?;
        }
    }

    /// Adds an entry that is written in `map`.
    fn insert(
        &mut self,
        map: &mut Map<'a>,
        key_location: Location,
        key: &Scalar<'a>,
        node: Rc<YamlNode<'a>>,
    ) -> Result<(), SyntaxError> {
        let entry = MapEntry::new(key_location, key.kind != ScalarKind::Text, node);
        if let Some(first) = map.get(&key.text)
            && first.origin != KeyOrigin::Inherited
        {
            let first = self.sink.describe(first.key_location);
            let message = format!("the key {} is already at {first}", quote(&key.text));
            self.sink.error_with_help(key_location, message, "remove one of them");
            if self.repeated_key == RepeatedKey::KeepLast {
                map.insert(key.text.clone(), entry);
            }
            return Ok(());
        }
        let mut merger = Merger { sink: self.sink, merge_key: None, added: 0 };
        merger.put(map, key.text.clone(), entry);
        let added = merger.added;
        self.count_nodes(added, key_location)
    }

    /// Handles a merge key `<<`: puts the entries of `from`, or of each map in it, into
    /// `map`. Of a list, the first map that has a key wins.
    fn merge(
        &mut self,
        map: &mut Map<'a>,
        merge_key: Location,
        from: &Rc<YamlNode<'a>>,
    ) -> Result<(), SyntaxError> {
        let sources = match &from.value {
            YamlValue::List(list) => list.as_slice(),
            _ => std::slice::from_ref(from),
        };
        for source in sources.iter().rev() {
            let YamlValue::Map(other) = &source.value else {
                let actual = source.describe();
                let message = format!("`<<` is {actual}, expected a map or a list of maps");
                self.sink.error(source.location, message);
                continue;
            };
            let mut merger = Merger { sink: self.sink, merge_key: Some(merge_key), added: 0 };
            for (key, entry) in other {
                merger.put(map, key.clone(), entry.clone());
            }
            let added = merger.added;
            self.count_nodes(added, merge_key)?;
        }
        Ok(())
    }

    fn alias(
        &mut self,
        anchor: usize,
        location: Location,
        depth: usize,
    ) -> Result<Rc<YamlNode<'a>>, SyntaxError> {
        let Some(node) = self.anchors.get(&anchor) else {
            // The anchored node is complete only at its end.
            self.sink.error(location, "the alias is inside the node that it refers to");
            return Ok(YamlNode::null(location));
        };
        let node = Rc::clone(node);
        if depth + node.height > MAX_DEPTH + 1 {
            return Err(SyntaxError::too_deep(location));
        }
        self.count_nodes(node.size, location)?;
        Ok(node)
    }

    fn count_nodes(&mut self, nodes: usize, location: Location) -> Result<(), SyntaxError> {
        self.added_nodes += nodes;
        if self.added_nodes <= MAX_NODES {
            return Ok(());
        }
        Err(SyntaxError {
            location,
            message: format!("aliases and `<<` add more than {MAX_NODES} nodes to this file"),
            help: Some("split it into several files".into()),
        })
    }

    fn scalar_kind(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: Span,
    ) -> ScalarKind {
        let kind = match tag {
            Some(tag) => tags::scalar_kind(tag, text),
            None if style == ScalarStyle::Plain => Ok(ScalarKind::Plain),
            None => Ok(ScalarKind::Text),
        };
        kind.unwrap_or_else(|invalid| {
            self.report_tag(invalid, span);
            ScalarKind::Text
        })
    }

    fn check_collection(&mut self, tag: Option<&Tag>, core: &str, span: Span) {
        if let Some(tag) = tag
            && let Err(invalid) = tags::check_collection(tag, core)
        {
            self.report_tag(invalid, span);
        }
    }

    fn report_tag(&mut self, invalid: InvalidTag, span: Span) {
        let span = span.tag_span().unwrap_or(span);
        let location = self.location(span.start, span.end);
        self.sink.error_with_help(location, invalid.message, invalid.help);
    }

    fn syntax_error(&self, error: &ScanError) -> SyntaxError {
        let mut location = self.location(*error.marker(), *error.marker());
        if syntax::is_about_tab(error) {
            location = syntax::tab_at_or_after(self.text, location);
        }
        syntax::explain(error, self.text, location)
    }

    fn location(&self, start: Marker, end: Marker) -> Location {
        let start_byte = start.byte_offset().unwrap_or_default();
        Location {
            source: self.file,
            line: saturating_u32(start.line()),
            column: saturating_u32(start.col() + 1),
            start: saturating_u32(start_byte),
            end: saturating_u32(end.byte_offset().unwrap_or(start_byte)),
        }
    }
}

/// True for an unquoted `<<`, and for one with the tag `!!merge`.
fn is_merge_key(event: &Event<'_>) -> bool {
    let Event::Scalar(text, style, _, tag) = event else { return false };
    text == "<<"
        && match tag.as_deref() {
            Some(tag) => tags::is_merge(tag),
            None => *style == ScalarStyle::Plain,
        }
}

fn is_node(event: &Event<'_>) -> bool {
    matches!(
        event,
        Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(_)
    )
}
