//! Reads single values out of the TOML text, and knows where each stands.
//!
//! Why not serde: an error has to name file, line, column, key and what is allowed, for wrong types, ranges and unknown keys alike.

use super::ConfigError;
use std::ops::{Range, RangeInclusive};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A configuration text with its file name, for error messages.
pub(super) struct Source<'t> {
    pub(super) file: &'t str,
    pub(super) text: &'t str,
}

/// A checked value and the place that it came from; an empty place for a default.
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// One `[section]`, from which keys are taken until none may be left.
pub(super) struct Section<'t> {
    source: &'t Source<'t>,
    name: &'static str,
    table: DeTable<'t>,
    known: Vec<&'static str>,
}

impl<'t> Source<'t> {
    /// An error at a place of the text.
    pub(super) fn error(&self, at: &Range<usize>, key: &str, what: &str) -> ConfigError {
        let before = &self.text[..at.start.min(self.text.len())];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ConfigError::At {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            key: key.to_owned(),
            what: what.to_owned(),
        }
    }

    /// The sections of the text, in the order of `names`, a section that is missing is empty; and those of `[[repeated]]`.
    pub(super) fn sections<const N: usize>(
        &'t self,
        names: [&'static str; N],
        repeated: &'static str,
    ) -> Result<([Section<'t>; N], Vec<Section<'t>>), ConfigError> {
        let parsed = DeTable::parse(self.text).map_err(|error| {
            let at = error.span().unwrap_or_default();
            self.error(&at, "", error.message().trim())
        })?;
        let mut root = parsed.into_inner();
        let mut sections = Vec::with_capacity(N);
        for name in names {
            let table = match root.remove(name).map(|value| (value.span(), value)) {
                None => DeTable::default(),
                Some((at, value)) => match value.into_inner() {
                    DeValue::Table(table) => table,
                    other => {
                        let what = format!("is a section, here it is of type {}", other.type_str());
                        return Err(self.error(&at, name, &what));
                    }
                },
            };
            sections.push(Section::new(self, name, table));
        }
        let many = self.repeated(repeated, root.remove(repeated))?;
        if let Some(key) = root.keys().next() {
            let what = format!(
                "unknown section; there are {}, {repeated}",
                names.join(", ")
            );
            return Err(self.error(&key.span(), key.get_ref(), &what));
        }
        let sections = sections
            .try_into()
            .unwrap_or_else(|_| unreachable!("one section was pushed for each name"));
        Ok((sections, many))
    }

    /// The tables of an array of tables.
    fn repeated(
        &'t self,
        name: &'static str,
        value: Option<Spanned<DeValue<'t>>>,
    ) -> Result<Vec<Section<'t>>, ConfigError> {
        let Some(value) = value else {
            return Ok(Vec::new());
        };
        let at = value.span();
        let wrong = || {
            self.error(
                &at,
                name,
                &format!("is written as [[{name}]], once for each"),
            )
        };
        let DeValue::Array(items) = value.into_inner() else {
            return Err(wrong());
        };
        let section = |item: Spanned<DeValue<'t>>| match item.into_inner() {
            DeValue::Table(table) => Ok(Section::new(self, name, table)),
            _ => Err(wrong()),
        };
        items.into_iter().map(section).collect()
    }
}

impl<'t> Section<'t> {
    fn new(source: &'t Source<'t>, name: &'static str, table: DeTable<'t>) -> Self {
        Self {
            source,
            name,
            table,
            known: Vec::new(),
        }
    }

    /// Takes a key: `read` turns its value into what it means, or `None` where that is not `allowed`.
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        default: T,
        allowed: &str,
        read: impl FnOnce(&DeValue<'t>) -> Option<T>,
    ) -> Result<Placed<T>, ConfigError> {
        self.known.push(key);
        let Some(value) = self.table.remove(key) else {
            return Ok(Placed {
                value: default,
                span: 0..0,
            });
        };
        let span = value.span();
        match read(value.get_ref()) {
            Some(value) => Ok(Placed { value, span }),
            None => Err(self.error(&span, key, &format!("has to be {allowed}"))),
        }
    }

    /// Its name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// An error at the place of a value of this section.
    pub(super) fn error(&self, at: &Range<usize>, key: &str, what: &str) -> ConfigError {
        self.source.error(at, &format!("{}.{key}", self.name), what)
    }

    /// No key may be left.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        match self.table.keys().next() {
            None => Ok(()),
            Some(key) => {
                let what = format!("unknown key; [{}] has {}", self.name, self.known.join(", "));
                Err(self.error(&key.span(), key.get_ref(), &what))
            }
        }
    }

    /// A whole number within a range, in `unit` (may be empty).
    pub(super) fn whole(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        unit: &str,
    ) -> Result<u64, ConfigError> {
        let space = if unit.is_empty() { "" } else { " " };
        let allowed = format!(
            "a whole number {}..={}{space}{unit}",
            range.start(),
            range.end()
        );
        let placed = self.take(key, default, &allowed, |value| {
            let integer = value.as_integer()?;
            let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok()?;
            range.contains(&number).then_some(number)
        })?;
        Ok(placed.value)
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        Ok(self
            .take(key, default, "true or false", DeValue::as_bool)?
            .value)
    }

    /// A string that `read` accepts.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        default: T,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Placed<T>, ConfigError> {
        self.take(key, default, allowed, |value| read(value.as_str()?))
    }

    /// A list of strings each of which `read` accepts.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        allowed: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Placed<Vec<T>>, ConfigError> {
        let item = |value: &Spanned<DeValue<'t>>| read(value.get_ref().as_str()?);
        self.take(key, default, allowed, |value| {
            value.as_array()?.iter().map(item).collect()
        })
    }
}
