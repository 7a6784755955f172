//! The keys in `http`.

use super::{KeyContext, RuleKey};

const TEXT: &str = "a string";
const SET: &str = "`true`";
const START: &str = "a string, with a `*` at most at its end";

pub(super) const HTTP_KEYS: [RuleKey; 22] = [
    RuleKey {
        name: "descriptors",
        context: KeyContext::Http,
        expects: "a list of 1 to 100 descriptors, each a list of entries",
        help: "The descriptors of a request, each a list of 1 to 31 entries. Required.",
    },
    RuleKey {
        name: "trusted_hops",
        context: KeyContext::Http,
        expects: "a whole number from 1 to 100",
        help: "The number of proxies, the asking one included, that have added their peer to \
               `X-Forwarded-For`; default 1. The client is this far from the right of the list, or \
               its leftmost entry if there are fewer.",
    },
    RuleKey {
        name: "trusted_proxies",
        context: KeyContext::Http,
        expects: "a list of 1 to 256 networks, such as `10.0.0.0/8`",
        help: "The networks of all proxies, instead of `trusted_hops`: the client is the first \
               address from the right of `X-Forwarded-For` that is in none of them.",
    },
    RuleKey {
        name: "skip",
        context: KeyContext::Http,
        expects: "a list of up to 100 maps, each with `method`, `path` or `host`",
        help: "The requests that have no descriptors, such as `{method: OPTIONS}`: those for which \
               all keys of an element match.",
    },
    RuleKey {
        name: "remote_address",
        context: KeyContext::HttpEntry,
        expects: "`true`, or a map with `ipv4` or `ipv6`",
        help: "The address of the client, or its network. The key of the network is \
               `masked_remote_address` by default.",
    },
    RuleKey {
        name: "path",
        context: KeyContext::HttpEntry,
        expects: SET,
        help: "The path without the query, normalized: all spellings of a path are one value.",
    },
    RuleKey {
        name: "raw_path",
        context: KeyContext::HttpEntry,
        expects: SET,
        help: "The path without the query, as the client spelled it.",
    },
    RuleKey {
        name: "method",
        context: KeyContext::HttpEntry,
        expects: SET,
        help: "The method in upper case, such as `GET`.",
    },
    RuleKey {
        name: "host",
        context: KeyContext::HttpEntry,
        expects: SET,
        help: "The host in lower case, without port.",
    },
    RuleKey {
        name: "scheme",
        context: KeyContext::HttpEntry,
        expects: SET,
        help: "`http` or `https`.",
    },
    RuleKey {
        name: "header",
        context: KeyContext::HttpEntry,
        expects: "the name of a header",
        help: "The value of a header. Several lines are joined with commas.",
    },
    RuleKey {
        name: "claim",
        context: KeyContext::HttpEntry,
        expects: "a name, or several joined with dots",
        help: "Instead of the `header`, a member of the JSON object that it has in base64url, such \
               as a claim of a token that the proxy has verified: a string, a number or a flag.",
    },
    RuleKey {
        name: "query",
        context: KeyContext::HttpEntry,
        expects: "the name of a parameter",
        help: "The first value of a parameter of the query, decoded.",
    },
    RuleKey {
        name: "cookie",
        context: KeyContext::HttpEntry,
        expects: "the name of a cookie",
        help: "The first value of a cookie.",
    },
    RuleKey {
        name: "value",
        context: KeyContext::HttpEntry,
        expects: TEXT,
        help: "This text, for each request. Requires `key`.",
    },
    RuleKey {
        name: "key",
        context: KeyContext::HttpEntry,
        expects: TEXT,
        help: "The key of the entry; default the source, such as `path`, or the name of the header, \
               claim, parameter or cookie.",
    },
    RuleKey {
        name: "default",
        context: KeyContext::HttpEntry,
        expects: TEXT,
        help: "The value for a request that has none. Without it, the request does not have the \
               descriptor.",
    },
    RuleKey {
        name: "ipv4",
        context: KeyContext::AddressMask,
        expects: "a whole number from 1 to 32",
        help: "The bits of IPv4 addresses that count; default 32.",
    },
    RuleKey {
        name: "ipv6",
        context: KeyContext::AddressMask,
        expects: "a whole number from 1 to 128",
        help: "The bits of IPv6 addresses that count; default 128.",
    },
    RuleKey {
        name: "method",
        context: KeyContext::Skip,
        expects: TEXT,
        help: "The method, in upper case. A request whose method has lower case is not skipped.",
    },
    RuleKey {
        name: "path",
        context: KeyContext::Skip,
        expects: START,
        help: "The normalized path. A `*` at its end matches any rest.",
    },
    RuleKey {
        name: "host",
        context: KeyContext::Skip,
        expects: START,
        help: "The host in lower case, without port. A `*` at its end matches any rest.",
    },
];
