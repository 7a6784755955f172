//! The tags of YAML, such as `!!int`.

use granit_parser::Tag;

use super::{
    super::{
        excerpt::quote,
        scalar::{self, Plain},
    },
    node::ScalarKind,
};

/// An unknown tag, or one that its scalar contradicts.
pub(super) struct InvalidTag {
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// The kind of a scalar with this tag.
///
/// As in the reference service, a tag has the last word about quotes: `!!int '5'` and
/// `! '5'` are numbers.
pub(super) fn scalar_kind(tag: &Tag, text: &str) -> Result<ScalarKind, InvalidTag> {
    if tag.original() == "!" {
        return Ok(ScalarKind::Plain);
    }
    let core = |name| tag.is_yaml_core_schema_tag(name);
    if core("str") {
        return Ok(ScalarKind::Text);
    }
    let value = scalar::resolve(text);
    let (is_valid, kind, expected) = if core("int") {
        (matches!(value, Plain::Int(_)), ScalarKind::Plain, "a whole number")
    } else if core("float") {
        (matches!(value, Plain::Int(_) | Plain::Float(_)), ScalarKind::Float, "a number")
    } else if core("bool") {
        (matches!(value, Plain::Bool(_)), ScalarKind::Plain, "`true` or `false`")
    } else if core("null") {
        (value == Plain::Null, ScalarKind::Plain, "`null`")
    } else {
        return Err(unknown(tag));
    };
    if is_valid {
        return Ok(kind);
    }
    let message = format!(
        "the value {} has the tag {}, expected {expected}",
        quote(text),
        quote(&tag.original())
    );
    Err(InvalidTag { message, help: "correct the value, or remove the tag" })
}

/// Checks the tag of a list or a map: only the one called `core` has no effect.
pub(super) fn check_collection(tag: &Tag, core: &str) -> Result<(), InvalidTag> {
    if tag.original() == "!" || tag.is_yaml_core_schema_tag(core) {
        return Ok(());
    }
    Err(unknown(tag))
}

/// True for the tag of the key `<<`, and for one without a meaning.
pub(super) fn is_merge(tag: &Tag) -> bool {
    let original = tag.original();
    matches!(original.as_ref(), "!" | "!!merge" | "!<tag:yaml.org,2002:merge>")
}

fn unknown(tag: &Tag) -> InvalidTag {
    let message = format!("the tag {} is not understood", quote(&tag.original()));
    InvalidTag { message, help: "remove it" }
}
