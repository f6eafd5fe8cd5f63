//! The values of the document that have bounds: [`Span`] (a duration), [`Count`], [`Several`] (a list) and [`Text`].
//! Bounds and defaults are part of the type, so that the parser, the JSON Schema and the table in the README cannot
//! tell different ones. What a text must look like is in the sibling file `rules.rs`.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::node::quoted;

/// A duration from `MIN` to `MAX` milliseconds, in the document a text such as `300s`; `DEFAULT` where it is absent.
#[derive(Clone, Copy)]
pub(crate) struct Span<const MIN: u64, const MAX: u64, const DEFAULT: u64>(u64);

/// A whole number from `MIN` to `MAX`; `DEFAULT` where it is absent.
#[derive(Clone, Copy)]
pub(crate) struct Count<const MIN: u32, const MAX: u32, const DEFAULT: u32>(u32);

/// A list of `MIN` to `MAX` items.
pub(crate) struct Several<T, const MIN: usize, const MAX: usize>(Vec<T>);

/// A text that keeps the rule `R`.
pub(crate) struct Text<R> {
    text: String,
    rule: PhantomData<R>,
}

/// What a [`Text`] must look like.
pub(crate) trait Rule {
    /// For people, in error messages and in the schema.
    const ALLOWED: &'static str;
    /// The same as a regular expression, for the schema; a test compares it with `fault`.
    #[cfg(feature = "schema")]
    const PATTERN: &'static str;
    /// Whether the value may be a secret, which no message repeats.
    const HIDDEN: bool = false;

    /// What is wrong with a text, as the middle of a sentence; the empty text need not be handled.
    fn fault(text: &str) -> Option<&'static str>;
}

impl<const MIN: u64, const MAX: u64, const DEFAULT: u64> Span<MIN, MAX, DEFAULT> {
    pub(crate) fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl<const MIN: u64, const MAX: u64, const DEFAULT: u64> Default for Span<MIN, MAX, DEFAULT> {
    fn default() -> Self {
        Span(DEFAULT)
    }
}

impl<'de, const MIN: u64, const MAX: u64, const DEFAULT: u64> Deserialize<'de>
    for Span<MIN, MAX, DEFAULT>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_str(TextVisitor(SPAN_FORM))?;
        read_span(&text, MIN, MAX).map(Span).map_err(Error::custom)
    }
}

impl<const MIN: u32, const MAX: u32, const DEFAULT: u32> Count<MIN, MAX, DEFAULT> {
    pub(crate) fn number(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32, const DEFAULT: u32> Default for Count<MIN, MAX, DEFAULT> {
    fn default() -> Self {
        Count(DEFAULT)
    }
}

impl<'de, const MIN: u32, const MAX: u32, const DEFAULT: u32> Deserialize<'de>
    for Count<MIN, MAX, DEFAULT>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = deserializer.deserialize_f64(CountVisitor(MIN, MAX))?;
        read_count(number, MIN, MAX)
            .map(Count)
            .map_err(Error::custom)
    }
}

impl<T, const MIN: usize, const MAX: usize> Several<T, MIN, MAX> {
    pub(crate) fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<'de, T: Deserialize<'de>, const MIN: usize, const MAX: usize> Deserialize<'de>
    for Several<T, MIN, MAX>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = Vec::deserialize(deserializer)?;
        check_length(items.len(), MIN, MAX).map_err(Error::custom)?;
        Ok(Several(items))
    }
}

impl<R> Text<R> {
    pub(crate) fn into_string(self) -> String {
        self.text
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl<'de, R: Rule> Deserialize<'de> for Text<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_str(TextVisitor(R::ALLOWED))?;
        check_text::<R>(&text).map_err(Error::custom)?;
        Ok(Text {
            text,
            rule: PhantomData,
        })
    }
}

/// Checks `text` by `R`; the error is the problem, ready for a message.
pub(crate) fn check_text<R: Rule>(text: &str) -> Result<(), String> {
    let fault = match text {
        "" => Some("is empty"),
        _ => R::fault(text),
    };
    let Some(fault) = fault else {
        return Ok(());
    };
    let value = match (text, R::HIDDEN) {
        ("", _) => "\"\"".to_owned(),
        (_, true) => "the value (not shown)".to_owned(),
        (_, false) => quoted(text),
    };
    Err(format!("{value} {fault}; allowed: {}", R::ALLOWED))
}

/// Checks the number of items of a list.
pub(crate) fn check_length(length: usize, min: usize, max: usize) -> Result<(), String> {
    if (min..=max).contains(&length) {
        return Ok(());
    }
    Err(format!("has {length} items; allowed: {min} to {max}"))
}

/// Milliseconds of a text such as `300s`, within bounds.
fn read_span(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let Some(span) = parse_span(text) else {
        return Err(format!(
            "{} is not a duration; allowed: {SPAN_FORM}",
            quoted(text)
        ));
    };
    if (min..=max).contains(&span) {
        return Ok(span);
    }
    let allowed = span_bounds(min, max);
    Err(format!(
        "{} is out of bounds; allowed: {allowed}",
        quoted(text)
    ))
}

/// Saturates: a number of hours beyond 2^64 ms is out of every bound.
fn parse_span(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let digit = |value: u64, digit: u8| {
        value
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    };
    (!number.is_empty()).then(|| number.bytes().fold(0, digit).saturating_mul(unit))
}

fn read_count(number: f64, min: u32, max: u32) -> Result<u32, String> {
    let fault = if number.fract() != 0.0 {
        "is not a whole number"
    } else if number < f64::from(min) || number > f64::from(max) {
        "is out of bounds"
    } else {
        return Ok(number as u32);
    };
    let number = count_text(number);
    Err(format!("{number} {fault}; allowed: {min} to {max}"))
}

/// A number for a message, to three decimals. By hand, as the formatter of doubles costs the .wasm more than all else here.
fn count_text(number: f64) -> String {
    if number.is_nan() || number.abs() >= 1e15 {
        return "a number this large".to_owned();
    }
    let sign = if number < 0.0 { "-" } else { "" };
    let thousandths = (number.abs() * 1e3) as u64;
    let (whole, rest) = (thousandths / 1_000, thousandths % 1_000);
    match rest {
        0 if number.fract() == 0.0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{rest:03}"),
    }
}

/// A span as a person would write it in a configuration.
pub(crate) fn span_text(millis: u64) -> String {
    match millis {
        0 => "0s".to_owned(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(1_000) => format!("{}s", millis / 1_000),
        _ => format!("{millis}ms"),
    }
}

pub(crate) fn span_bounds(min: u64, max: u64) -> String {
    format!("{} to {}", span_text(min), span_text(max))
}

/// Reads a text; what it must look like is for the message about another type.
pub(crate) struct TextVisitor(pub(crate) &'static str);

impl Visitor<'_> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text, {}", self.0)
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

struct CountVisitor(u32, u32);

impl Visitor<'_> for CountVisitor {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number, {} to {}", self.0, self.1)
    }

    fn visit_f64<E>(self, number: f64) -> Result<f64, E> {
        Ok(number)
    }
}

/// What a duration looks like.
const SPAN_FORM: &str = "a number with a unit ms, s, m or h, for example 300s";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_digits_and_one_unit() {
        for (text, span) in [
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("300s", Some(300_000)),
            ("1m", Some(60_000)),
            ("2h", Some(7_200_000)),
            ("007s", Some(7_000)),
            ("99999999999999999999h", Some(u64::MAX)),
            ("", None),
            ("s", None),
            ("5", None),
            ("5 s", None),
            (" 5s", None),
            ("5s ", None),
            ("-5s", None),
            ("+5s", None),
            ("1.5s", None),
            ("1h30m", None),
            ("5S", None),
            ("5d", None),
            ("五s", None),
            ("5µs", None),
        ] {
            assert_eq!(parse_span(text), span, "{text:?}");
        }
    }

    #[test]
    fn a_duration_is_written_so_that_it_reads_back() {
        for span in [
            0, 1, 100, 1_000, 1_500, 60_000, 300_000, 3_600_000, 5_400_000,
        ] {
            assert_eq!(parse_span(&span_text(span)), Some(span), "{span}");
        }
        assert_eq!(span_text(300_000), "300s");
        assert_eq!(span_text(3_600_000), "1h");
    }

    #[test]
    fn a_number_in_a_message_is_short() {
        for (number, text) in [
            (0.0, "0"),
            (-1.0, "-1"),
            (-0.5, "-0.500"),
            (1.5, "1.500"),
            (1e-9, "0.000"),
            (1_000_001.0, "1000001"),
            (1e300, "a number this large"),
            (f64::NAN, "a number this large"),
        ] {
            assert_eq!(count_text(number), text, "{number}");
        }
    }

    #[test]
    fn a_count_is_a_whole_double_within_bounds() {
        for (number, count) in [
            (1.0, Some(1)),
            (10.0, Some(10)),
            (0.0, None),
            (-0.0, None),
            (11.0, None),
            (1.5, None),
            (1e300, None),
            (-1.0, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ] {
            assert_eq!(read_count(number, 1, 10).ok(), count, "{number}");
        }
    }
}
