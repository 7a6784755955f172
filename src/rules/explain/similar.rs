//! Texts that differ as texts do by mistake.

/// The difference between two texts that were probably meant to be equal, from the
/// smallest to the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// Upper and lower case.
    Case,
    /// Blanks.
    Blanks,
    /// Quotation marks that are part of one of them.
    Quotes,
    /// Characters that are neither letters nor digits. Statistics show them as `_`.
    Punctuation,
    /// One of them goes on where the other ends.
    Length,
    /// A few characters.
    Spelling,
}

/// Longer texts are not compared character by character: the time grows with the square.
const MOST_COMPARED: usize = 200;

/// The shortest text for [`Difference::Length`], in bytes.
const SHORTEST_START: usize = 3;

const QUOTES: [char; 6] = ['"', '\'', '`', '“', '”', '\\'];

impl Difference {
    /// The difference between `a` and `b`; `None` if they are equal or too different.
    pub fn between(a: &str, b: &str) -> Option<Self> {
        if a == b {
            return None;
        }
        if let Some(difference) = Self::LEVELS.into_iter().find(|it| it.plain(a) == it.plain(b)) {
            return Some(difference);
        }
        let shorter = a.len().min(b.len());
        if SHORTEST_START <= shorter && (a.starts_with(b) || b.starts_with(a)) {
            return Some(Self::Length);
        }
        let longer = a.len().max(b.len());
        let is_close = distance(a, b) <= 1.max(longer / 4);
        // Of short texts every other one is close.
        if is_close && 1 < shorter { Some(Self::Spelling) } else { None }
    }

    /// The differences that [`Self::plain`] removes.
    pub(super) const LEVELS: [Self; 4] =
        [Self::Case, Self::Blanks, Self::Quotes, Self::Punctuation];

    /// `text` without differences of this kind, or of a smaller one. Keeps each `*`.
    pub(super) fn plain(self, text: &str) -> String {
        let mut plain = String::with_capacity(text.len());
        for char in text.chars() {
            let is_blank = char.is_whitespace() && Self::Blanks <= self;
            let is_quote = QUOTES.contains(&char) && Self::Quotes <= self;
            if is_blank || is_quote {
                continue;
            }
            if self == Self::Punctuation && !char.is_alphanumeric() && char != '*' {
                plain.push('_');
            } else {
                plain.extend(char.to_lowercase());
            }
        }
        plain
    }

    /// The difference as a phrase that follows "differs from" and the other text.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Case => "only in upper and lower case",
            Self::Blanks => "in blanks",
            Self::Quotes => "in quotation marks, which are part of the text",
            Self::Punctuation => "in punctuation, which statistics show as `_`",
            Self::Length => "after a common start",
            Self::Spelling => "in spelling",
        }
    }
}

/// The number of characters to change between two texts: the largest number for long ones.
pub(super) fn distance(a: &str, b: &str) -> usize {
    if MOST_COMPARED < a.len().max(b.len()) {
        return usize::MAX;
    }
    strsim::osa_distance(a, b)
}

/// The names like `asked`, the most similar first; at most `most` of them.
pub fn similar_names<'n>(
    asked: &str,
    names: impl IntoIterator<Item = &'n str>,
    most: usize,
) -> Vec<&'n str> {
    let mut similar = Vec::new();
    for name in names {
        if let Some(difference) = Difference::between(asked, name) {
            similar.push((difference, name));
        }
    }
    similar.sort_unstable();
    similar.truncate(most);
    similar.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_difference_is_told() {
        let cases = [
            ("/login", "/login", None),
            ("/Login", "/login", Some(Difference::Case)),
            (" /Login", "/login", Some(Difference::Blanks)),
            ("\"/login\"", "/login", Some(Difference::Quotes)),
            ("outbound|80||shop.svc", "outbound_80__shop_svc", Some(Difference::Punctuation)),
            ("'outbound|80||shop.svc'", "outbound|80||shop.svc", Some(Difference::Quotes)),
            ("outbound|80||shop.svc", "outbound|80||shop.svc.cluster", Some(Difference::Length)),
            ("/logn", "/login", Some(Difference::Spelling)),
            ("/login", "/cart", None),
            ("a", "b", None),
            ("", "b", None),
        ];
        for (a, b, expected) in cases {
            assert_eq!(Difference::between(a, b), expected, "{a} {b}");
            assert_eq!(Difference::between(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn similar_names_are_bounded_and_in_order() {
        let names = ["shop2", "Shop", "mail", "shops", "shop"];
        assert_eq!(similar_names("shop", names, 2), ["Shop", "shop2"]);
        assert_eq!(similar_names("metrics", names, 2), [""; 0]);
    }
}
