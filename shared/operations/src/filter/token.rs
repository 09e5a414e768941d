//! The words and signs of a filter expression, and where each stands.

use super::Wrong;

/// A word or sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Word(&'a str),
    /// A value in quotes, without them: never a keyword.
    Quoted(&'a str),
    Open,
    Close,
    Comma,
    Equal,
    NotEqual,
    Greater,
    Less,
    End,
}

/// Where something stands in the text, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// All of them, the end last.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token<'_>, Span)>, Wrong> {
    let mut tokens = Vec::new();
    let mut start = 0;
    while let Some(first) = text[start..].chars().next() {
        if first.is_whitespace() || first.is_control() {
            start += first.len_utf8();
            continue;
        }
        let (token, end) = token(text, start, first)?;
        tokens.push((token, Span { start, end }));
        start = end;
    }
    tokens.push((Token::End, Span { start: text.len(), end: text.len() }));
    Ok(tokens)
}

/// The token that begins here, and where it ends.
fn token(text: &str, start: usize, first: char) -> Result<(Token<'_>, usize), Wrong> {
    let sign = match first {
        '(' => Token::Open,
        ')' => Token::Close,
        ',' => Token::Comma,
        '=' => Token::Equal,
        '>' => Token::Greater,
        '<' => Token::Less,
        '!' if text[start..].starts_with("!=") => return Ok((Token::NotEqual, start + 2)),
        '"' | '\'' => return quoted(text, start, first),
        _ => return word(text, start),
    };
    Ok((sign, start + 1))
}

fn quoted(text: &str, start: usize, quote: char) -> Result<(Token<'_>, usize), Wrong> {
    let inner = start + 1;
    let span = Span { start, end: text.len() };
    let length = text[inner..].find(quote).ok_or_else(|| (span, format!("this {quote} is never closed")))?;
    Ok((Token::Quoted(&text[inner..inner + length]), inner + length + 1))
}

fn word(text: &str, start: usize) -> Result<(Token<'_>, usize), Wrong> {
    let ends = |c: char| c.is_whitespace() || c.is_control() || "(),=<>!\"'".contains(c);
    let length = text[start..].find(ends).unwrap_or(text.len() - start);
    // Only a lone `!` ends a word before it begins.
    match length {
        0 => Err((Span { start, end: start + 1 }, "expected `!=`".into())),
        _ => Ok((Token::Word(&text[start..start + length]), start + length)),
    }
}
