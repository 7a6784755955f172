//! Checks methods of HTTP.

use super::super::{excerpt::quote, keys::nearest, sink::DiagnosticSink, source::Location};

/// The methods that IANA lists, and `purge` of caches, in lower case.
const METHODS: [&str; 42] = [
    "get",
    "head",
    "post",
    "put",
    "delete",
    "connect",
    "options",
    "trace",
    "patch",
    "query",
    "purge",
    "acl",
    "baseline-control",
    "bind",
    "checkin",
    "checkout",
    "copy",
    "label",
    "link",
    "lock",
    "merge",
    "mkactivity",
    "mkcalendar",
    "mkcol",
    "mkredirectref",
    "mkworkspace",
    "move",
    "orderpatch",
    "pri",
    "propfind",
    "proppatch",
    "rebind",
    "report",
    "search",
    "unbind",
    "uncheckout",
    "unlink",
    "unlock",
    "update",
    "updateredirectref",
    "version-control",
    "m-search",
];

/// Warns of a method in upper case that clients hardly send.
pub(in super::super) fn check_method(
    method: &str,
    location: Location,
    sink: &mut DiagnosticSink<'_>,
) {
    let name = method.to_ascii_lowercase();
    if METHODS.contains(&&*name) {
        return;
    }
    let message =
        format!("the method {} is unknown, so that clients hardly send it", quote(method));
    match nearest(&name, &METHODS) {
        Some(known) => {
            let help = format!("did you mean `{}`?", known.to_ascii_uppercase());
            sink.warning_with_help(location, message, help);
        }
        None => sink.warning(location, message),
    }
}
