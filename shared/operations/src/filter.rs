//! The filter expression of everything that chooses dead letters, such as `step=fulfilment and age>1h`.

use std::fmt;

use jiff::Timestamp;
use orderfleet_storage::{Condition, LetterFilter};

mod field;
mod token;

use field::{Field, millis};
use token::{Span, Token, tokens};

/// Longest expression, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting of parentheses and `not`.
const DEPTH_MAX: usize = 32;
/// Most values in one list.
const VALUES_MAX: usize = 1_000;

/// The expression in a few lines, for people.
pub const HELP: &str = "\
A filter is made of conditions, joined by `and`, `or`, `not` and parentheses:
  queue=NAME         a step, or poison, held, conflict
  fingerprint=TEXT   the failure fingerprint, or how it begins
  step=NAME          the step that failed
  class=WORD         refused, cancelled, attempts_exhausted, deadline_passed, tombstone,
                     discarded, held, crashed, unreadable, conflict, unknown
  account=NAME       whose order
  build=NAME         the build that gave it up
  kind=WORD          what its message asks for, such as place
  order=ID, id=ID    of an order; one dead letter
  age>1h, age<30m    parked first so long ago, or since then: s, m, h, d, w
  is=WORD            open (the default), ended, any
`!=` is `not … =`, and `in` takes several: queue in (poison, held)";

/// What is wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    text: String,
    span: Span,
    what: String,
}

impl fmt::Display for FilterError {
    /// The text, a caret under the wrong word, and what would be right.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let before = self.text[..self.span.start].chars().count();
        let width = self.text[self.span.start..self.span.end].chars().count().max(1);
        let marks = "^".repeat(width);
        write!(f, "{}\n  {shown}\n  {:before$}{marks}", self.what, "")
    }
}

impl std::error::Error for FilterError {}

/// Reads an expression; what it says about age is reckoned from `now`, once. An empty one is an error: every open dead letter
/// is [`LetterFilter::all`].
///
/// # Errors
/// It is none. The message shows where, and names what would be right.
pub fn parse(text: &str, now: Timestamp) -> Result<LetterFilter, FilterError> {
    let error = |(span, what): Wrong| FilterError { text: text.to_owned(), span, what };
    if text.len() > TEXT_BYTES_MAX {
        let what = format!("a filter has at most {TEXT_BYTES_MAX} bytes");
        return Err(FilterError { text: String::new(), span: Span::default(), what });
    }
    let tokens = tokens(text).map_err(error)?;
    let mut parser = Parser { tokens: &tokens, next: 0, depth: 0, now };
    let filter = parser.either().map_err(error)?;
    match parser.peek() {
        (Token::End, _) => Ok(filter),
        (_, span) => Err(error((span, "expected `and`, `or` or the end".into()))),
    }
}

/// What is wrong, and where.
type Wrong = (Span, String);

struct Parser<'a> {
    tokens: &'a [(Token<'a>, Span)],
    next: usize,
    depth: usize,
    now: Timestamp,
}

impl<'a> Parser<'a> {
    /// The next token. The last one is the end.
    fn peek(&self) -> (Token<'a>, Span) {
        self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> (Token<'a>, Span) {
        let token = self.peek();
        self.next += 1;
        token
    }

    /// Takes the next token if it is this one.
    fn takes(&mut self, wanted: Token<'_>) -> bool {
        let (token, _) = self.peek();
        let found = match (token, wanted) {
            (Token::Word(word), Token::Word(wanted)) => word.eq_ignore_ascii_case(wanted),
            (token, wanted) => token == wanted,
        };
        self.next += usize::from(found);
        found
    }

    fn either(&mut self) -> Result<LetterFilter, Wrong> {
        let mut parts = vec![self.both()?];
        while self.takes(Token::Word("or")) {
            parts.push(self.both()?);
        }
        Ok(one_or(parts, LetterFilter::Or))
    }

    fn both(&mut self) -> Result<LetterFilter, Wrong> {
        let mut parts = vec![self.single()?];
        while self.takes(Token::Word("and")) {
            parts.push(self.single()?);
        }
        Ok(one_or(parts, LetterFilter::And))
    }

    fn single(&mut self) -> Result<LetterFilter, Wrong> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err((self.peek().1, format!("nested more than {DEPTH_MAX} deep")));
        }
        let filter = if self.takes(Token::Word("not")) {
            LetterFilter::Not(Box::new(self.single()?))
        } else if self.takes(Token::Open) {
            let inner = self.either()?;
            self.expect(Token::Close, "expected `)`")?;
            inner
        } else {
            self.condition()?
        };
        self.depth -= 1;
        Ok(filter)
    }

    fn condition(&mut self) -> Result<LetterFilter, Wrong> {
        let (token, span) = self.take();
        let expected = || format!("expected one of {}", Field::names());
        let Token::Word(name) = token else { return Err((span, expected())) };
        // `is:ended` is another spelling of `is=ended`.
        if let Some((name, value)) = name.split_once(':')
            && Field::of_name(name) == Some(Field::Is)
        {
            let span = Span { start: span.end - value.len(), ..span };
            return Field::Is.condition(value).map(LetterFilter::With).map_err(|what| (span, what));
        }
        let field = Field::of_name(name)
            .ok_or_else(|| (span, format!("there is no `{name}` to filter by; {}", expected())))?;
        if field == Field::Age {
            return self.age();
        }
        if self.takes(Token::Word("in")) {
            return self.list(field);
        }
        let negated = self.takes(Token::NotEqual);
        if !negated {
            self.expect(Token::Equal, "expected `=`, `!=` or `in (…)`")?;
        }
        let condition = LetterFilter::With(self.value(field)?);
        Ok(if negated { LetterFilter::Not(Box::new(condition)) } else { condition })
    }

    fn list(&mut self, field: Field) -> Result<LetterFilter, Wrong> {
        self.expect(Token::Open, "expected `(`, and values with commas between them")?;
        let mut conditions = vec![self.value(field)?];
        while self.takes(Token::Comma) {
            conditions.push(self.value(field)?);
            if conditions.len() > VALUES_MAX {
                return Err((self.peek().1, format!("more than {VALUES_MAX} values")));
            }
        }
        self.expect(Token::Close, "expected `,` or `)`")?;
        Ok(any_of(conditions))
    }

    fn age(&mut self) -> Result<LetterFilter, Wrong> {
        let (operator, span) = self.take();
        if !matches!(operator, Token::Greater | Token::Less) {
            return Err((span, "expected `>` or `<`, such as age>1h".into()));
        }
        let (text, span) = self.text()?;
        let wrong = || (span, "expected a time span such as 90s, 30m, 1h30m, 2d or 1w".to_owned());
        let age = millis(text).ok_or_else(wrong)?;
        let at = Timestamp::from_millisecond(self.now.as_millisecond().saturating_sub(age))
            .map_err(|_| wrong())?;
        Ok(LetterFilter::With(match operator {
            Token::Greater => Condition::Before(at),
            _ => Condition::Since(at),
        }))
    }

    fn value(&mut self, field: Field) -> Result<Condition, Wrong> {
        let (text, span) = self.text()?;
        field.condition(text).map_err(|what| (span, what))
    }

    fn text(&mut self) -> Result<(&'a str, Span), Wrong> {
        match self.take() {
            (Token::Word(text) | Token::Quoted(text), span) => Ok((text, span)),
            (_, span) => Err((span, "expected a value".into())),
        }
    }

    fn expect(&mut self, wanted: Token<'_>, what: &str) -> Result<(), Wrong> {
        if self.takes(wanted) { Ok(()) } else { Err((self.peek().1, what.to_owned())) }
    }
}

fn one_or(mut parts: Vec<LetterFilter>, many: fn(Vec<LetterFilter>) -> LetterFilter) -> LetterFilter {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            many(parts)
        }
    }
}

/// Orders and ids as one list each, which the database looks up at once.
fn any_of(conditions: Vec<Condition>) -> LetterFilter {
    let (mut orders, mut ids, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for condition in conditions {
        match condition {
            Condition::Order(order) => orders.extend(order),
            Condition::Id(id) => ids.extend(id),
            other => others.push(LetterFilter::With(other)),
        }
    }
    if !orders.is_empty() {
        others.push(LetterFilter::With(Condition::Order(orders)));
    }
    if !ids.is_empty() {
        others.push(LetterFilter::With(Condition::Id(ids)));
    }
    one_or(others, LetterFilter::Or)
}

#[cfg(test)]
mod tests;
