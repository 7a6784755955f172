//! The course of a lookup: the steps of [`Domain::find`](super::Domain::find), and its
//! end.

use std::sync::Arc;

use super::{Element, Rule};

/// A lookup of the rule for a descriptor.
#[derive(Clone, Debug)]
pub struct Lookup<'t> {
    /// One for each entry that an element matched, in order.
    pub steps: Vec<LookupStep<'t>>,
    /// The end.
    pub end: LookupEnd<'t>,
}

/// The element that matched an entry.
#[derive(Clone, Copy, Debug)]
pub struct LookupStep<'t> {
    /// The element.
    pub element: &'t Element,
    /// The reason why it matched.
    pub by: MatchKind,
}

/// The reason why an element matches an entry, in the order in which a lookup tries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MatchKind {
    /// It has the key and the value of the entry.
    Value,
    /// It has a `*`, and matches the text of key and value.
    Pattern,
    /// It has the key of the entry, and no value.
    AnyValue,
}

/// The end of a lookup.
#[derive(Clone, Copy, Debug)]
pub enum LookupEnd<'t> {
    /// This rule applies.
    Rule(&'t Arc<Rule>),
    /// The descriptor has no entries.
    NoEntries,
    /// No element of the list matches the entry after the last step.
    NoElement,
    /// The element of the last step has no `descriptors`, but more entries follow.
    NothingBelow,
    /// The element of the last step has no limit, and no entry follows.
    NoLimit,
}

impl<'t> LookupEnd<'t> {
    /// The rule that applies.
    pub fn rule(self) -> Option<&'t Arc<Rule>> {
        match self {
            Self::Rule(rule) => Some(rule),
            _ => None,
        }
    }

    /// A name of the end, for logs and programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rule(_) => "rule",
            Self::NoEntries => "no_entries",
            Self::NoElement => "no_element",
            Self::NothingBelow => "nothing_below",
            Self::NoLimit => "no_limit",
        }
    }
}

impl MatchKind {
    /// A name of the match, for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Pattern => "pattern",
            Self::AnyValue => "any_value",
        }
    }

    /// The match as a phrase that follows the element.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Value => "the exact value",
            Self::Pattern => "a pattern",
            Self::AnyValue => "any value",
        }
    }
}
