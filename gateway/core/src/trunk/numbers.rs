//! Number rules: how users and numbers in addresses are rewritten on their way between pages and a trunk.
//!
//! A rule is `PATTERN -> REPLACEMENT`, each with at most one star: `00* -> +*` makes 0049301 of +49301. The first rule of a list
//! that fits is applied, once. No regular expressions: these take time by what they are given.

/// The rules of a trunk, by what they are applied to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Whom a page calls.
    pub callee: Vec<Rewrite>,
    /// The page, as caller.
    pub caller: Vec<Rewrite>,
    /// Whom the SIP side calls, before a page is looked for.
    pub incoming_callee: Vec<Rewrite>,
    /// Who calls from the SIP side, before the page is told.
    pub incoming_caller: Vec<Rewrite>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    pattern: Glob,
    replacement: Glob,
}

/// A text, or what stands before and behind a star.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Glob {
    Whole(String),
    Around(String, String),
}

impl Rewrite {
    /// Reads a rule; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (pattern, replacement) = text.split_once("->")?;
        let (pattern, replacement) = (Glob::parse(pattern)?, Glob::parse(replacement)?);
        let known = !matches!((&pattern, &replacement), (Glob::Whole(_), Glob::Around(..)));
        known.then_some(Self {
            pattern,
            replacement,
        })
    }

    /// The user part that takes the place of `user`, if the rule fits it.
    fn apply(&self, user: &str) -> Option<String> {
        let star = match &self.pattern {
            Glob::Whole(text) => (user == text).then_some("")?,
            Glob::Around(head, tail) => user
                .strip_prefix(head.as_str())?
                .strip_suffix(tail.as_str())?,
        };
        let rewritten = match &self.replacement {
            Glob::Whole(text) => text.clone(),
            Glob::Around(head, tail) => format!("{head}{star}{tail}"),
        };
        (!rewritten.is_empty()).then_some(rewritten)
    }
}

impl Glob {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        // What may stand in the user part of a URI without an escape (RFC 3261 section 25.1), and the star.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~'()&=+$,*#".contains(&byte);
        if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
            return None;
        }
        match text.split_once('*') {
            None => Some(Self::Whole(text.to_owned())),
            Some((_, tail)) if tail.contains('*') => None,
            Some((head, tail)) => Some(Self::Around(head.to_owned(), tail.to_owned())),
        }
    }
}

/// What the first rule that fits makes of a user part.
pub(super) fn user(user: Option<&str>, rules: &[Rewrite]) -> Option<String> {
    rules.iter().find_map(|rule| rule.apply(user?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(rules: &[&str], text: &str) -> Option<String> {
        let rules: Vec<Rewrite> = rules
            .iter()
            .map(|rule| Rewrite::parse(rule).unwrap())
            .collect();
        user(Some(text), &rules)
    }

    #[test]
    fn the_first_rule_that_fits_is_applied_once() {
        let rules = ["00* -> +*", "0* -> +49*", "112 -> emergency", "*99 -> *"];
        let made = |text| rewritten(&rules, text);
        assert_eq!(made("0049301"), Some("+49301".into()));
        assert_eq!(made("0301"), Some("+49301".into()));
        assert_eq!(made("112"), Some("emergency".into()));
        assert_eq!(made("4299"), Some("42".into()));
        assert_eq!(made("1122"), None);
        // Nothing is no user.
        assert_eq!(made("99"), None);
        // Head and tail may not share characters.
        assert_eq!(rewritten(&["aba*aba -> x"], "aba"), None);
        assert_eq!(rewritten(&["aba*aba -> x"], "abaaba"), Some("x".into()));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for bad in [
            "",
            "00*",
            "-> +*",
            "1 ->",
            "1 -> *",
            "1*2* -> *",
            "1* -> **",
            "a b -> c",
            "1 -> a@b",
        ] {
            assert_eq!(Rewrite::parse(bad), None, "{bad}");
        }
    }
}
