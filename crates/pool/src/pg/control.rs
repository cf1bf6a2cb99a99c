//! Looks at SQL text: is it refused on a session, and does it leave something behind there?
//!
//! A guard against accidents, not a parser: it knows comments, quotes and statement borders, and reads
//! every text as if `standard_conforming_strings` were on.

/// What a text would do beyond its own transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// It may leave a setting, a lock, a cursor, a temporary table or the like.
    Residue,
    /// The same, and the server may forget prepared statements.
    Forgets,
    /// It begins or ends a transaction or savepoint; with the keyword.
    Control(&'static str),
    /// It listens.
    Listen,
    /// It copies from or to the client.
    ClientCopy,
}

/// Words that, as the first of a statement, control transactions.
const CONTROL: [&str; 8] = [
    "BEGIN",
    "START",
    "COMMIT",
    "END",
    "ROLLBACK",
    "ABORT",
    "SAVEPOINT",
    "RELEASE",
];

/// Words that, as the first of a statement, leave something behind.
const RESIDUE_FIRST: [&str; 5] = ["SET", "RESET", "DECLARE", "PREPARE", "LOAD"];

/// Words that, anywhere in a statement, leave something behind.
const RESIDUE_ANYWHERE: [&str; 8] = [
    "TEMP",
    "TEMPORARY",
    "SET_CONFIG",
    "PG_ADVISORY_LOCK",
    "PG_ADVISORY_LOCK_SHARED",
    "PG_TRY_ADVISORY_LOCK",
    "PG_TRY_ADVISORY_LOCK_SHARED",
    "DO",
];

/// Returns what `sql` would do. Costs one pass over the text.
pub(crate) fn effect(sql: &str) -> Effect {
    let mut effect = Effect::None;
    let mut statement = Statement::default();
    for token in Tokens::new(sql) {
        match token {
            Token::Border if statement.body_depth == 0 => statement = Statement::default(),
            Token::Border | Token::Other => {}
            Token::Word(word) => match statement.read(word) {
                found @ (Effect::None | Effect::Residue | Effect::Forgets) => {
                    effect = effect.max(found);
                }
                refused => return refused,
            },
        }
    }
    effect
}

/// Returns `sql` without its comments and with `?` in place of every value, so that it can be shown.
pub(crate) fn outline(sql: &str) -> String {
    let mut outline = String::with_capacity(sql.len());
    let mut tokens = Tokens::new(sql);
    while let Some(token) = tokens.next() {
        let text = &sql[tokens.start..tokens.at];
        let shown = match token {
            // Of a parameter the number is what counts, and comes next.
            Token::Other if text == "$" => continue,
            Token::Word(_) | Token::Border => text,
            Token::Other if text.starts_with('"') => text,
            Token::Other if text.len() > 1 || text.starts_with(is_value) => "?",
            Token::Other => text,
        };
        if !outline.is_empty() {
            outline.push(' ');
        }
        outline.push_str(shown);
    }
    outline
}

/// Returns whether a value begins with this, as far as it is not a word.
fn is_value(c: char) -> bool {
    c.is_ascii_digit() || c == '\''
}

/// What has been read of one statement.
#[derive(Default)]
struct Statement {
    words: usize,
    /// The first word, where the second decides.
    pending: Option<&'static str>,
    /// Whether it creates a function, whose body may hold `BEGIN ATOMIC … END`.
    creates: bool,
    copies: bool,
    previous_begin: bool,
    body_depth: usize,
}

impl Statement {
    fn read(&mut self, word: &str) -> Effect {
        let is = |candidate: &str| word.eq_ignore_ascii_case(candidate);
        self.words += 1;
        if self.words == 1 {
            if let Some(keyword) = CONTROL.into_iter().find(|keyword| is(keyword)) {
                return Effect::Control(keyword);
            }
            if is("LISTEN") {
                return Effect::Listen;
            }
            if is("DISCARD") || is("DEALLOCATE") {
                return Effect::Forgets;
            }
            self.creates = is("CREATE");
            self.copies = is("COPY");
            self.pending = ["SET", "PREPARE"].into_iter().find(|keyword| is(keyword));
            if self.pending.is_none() && RESIDUE_FIRST.into_iter().any(is) {
                return Effect::Residue;
            }
        } else if let Some(pending) = self.pending.take() {
            return match pending {
                "PREPARE" if is("TRANSACTION") => Effect::Control("PREPARE TRANSACTION"),
                "SET" if is("LOCAL") || is("TRANSACTION") || is("CONSTRAINTS") => Effect::None,
                _ => Effect::Residue,
            };
        }
        self.track_body(word);
        if self.copies && (is("STDIN") || is("STDOUT")) {
            return Effect::ClientCopy;
        }
        if RESIDUE_ANYWHERE.into_iter().any(is) {
            return Effect::Residue;
        }
        Effect::None
    }

    /// Follows the body of a function in standard SQL: the semicolons in it end no statement.
    fn track_body(&mut self, word: &str) {
        let is = |candidate: &str| word.eq_ignore_ascii_case(candidate);
        if self.body_depth > 0 {
            if is("CASE") {
                self.body_depth += 1;
            } else if is("END") {
                self.body_depth -= 1;
            }
        } else if self.creates && self.previous_begin && is("ATOMIC") {
            self.body_depth = 1;
        }
        self.previous_begin = is("BEGIN");
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    /// An unquoted word.
    Word(&'a str),
    /// A semicolon.
    Border,
    /// A quoted thing, a number, an operator.
    Other,
}

struct Tokens<'a> {
    text: &'a str,
    /// Where the last token began, and where it ended.
    start: usize,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            start: 0,
            at: 0,
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Moves behind `end`, or to the end of the text when it does not come.
    fn skip_past(&mut self, end: &str) {
        self.at += self
            .rest()
            .find(end)
            .map_or(self.rest().len(), |found| found + end.len());
    }

    fn skip_while(&mut self, keep: impl Fn(char) -> bool) {
        self.at += self.rest().find(|c| !keep(c)).unwrap_or(self.rest().len());
    }

    fn skip_block_comment(&mut self) {
        self.at += 2;
        let mut depth = 1;
        while depth > 0 {
            let rest = self.rest();
            match rest.find(['/', '*']) {
                None => return self.at = self.text.len(),
                Some(found) if rest[found..].starts_with("/*") => {
                    depth += 1;
                    self.at += found + 2;
                }
                Some(found) if rest[found..].starts_with("*/") => {
                    depth -= 1;
                    self.at += found + 2;
                }
                Some(found) => self.at += found + 1,
            }
        }
    }

    /// Skips a quoted thing whose opening quote is next. A doubled quote reads as two things, which
    /// makes no difference here.
    fn skip_quoted(&mut self, quote: char) {
        self.at += 1;
        let mut end = [0; 1];
        self.skip_past(quote.encode_utf8(&mut end));
    }

    fn skip_escape_string(&mut self) {
        self.at += 1;
        while let Some(found) = self.rest().find(['\\', '\'']) {
            let escape = self.rest()[found..].starts_with('\\');
            self.at += found + 1;
            if !escape {
                return;
            }
            self.at += self.rest().chars().next().map_or(0, char::len_utf8);
        }
        self.at = self.text.len();
    }

    /// Skips `$tag$ … $tag$`, when that is what is next.
    fn skip_dollar_quoted(&mut self) -> bool {
        let rest = self.rest();
        let Some(length) = rest[1..].find('$') else {
            return false;
        };
        let tag = &rest[..length + 2];
        let inner = &tag[1..=length];
        if inner.starts_with(|c: char| c.is_ascii_digit()) || !inner.chars().all(is_word) {
            return false;
        }
        self.at += tag.len();
        self.skip_past(tag);
        true
    }

    fn word(&mut self) -> Token<'a> {
        let start = self.at;
        self.skip_while(|c| is_word(c) || c == '$');
        let word = &self.text[start..self.at];
        if word.eq_ignore_ascii_case("E") && self.rest().starts_with('\'') {
            self.skip_escape_string();
            return Token::Other;
        }
        Token::Word(word)
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || !c.is_ascii()
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let rest = self.rest();
            let next = rest.chars().next()?;
            self.start = self.at;
            if next.is_whitespace() {
                self.skip_while(char::is_whitespace);
            } else if rest.starts_with("--") {
                // A carriage return ends a comment for the server as well.
                self.skip_while(|c| c != '\n' && c != '\r');
            } else if rest.starts_with("/*") {
                self.skip_block_comment();
            } else if next == ';' {
                self.at += 1;
                return Some(Token::Border);
            } else if next == '\'' || next == '"' {
                self.skip_quoted(next);
                return Some(Token::Other);
            } else if next == '$' && self.skip_dollar_quoted() {
                return Some(Token::Other);
            } else if is_word(next) && !next.is_ascii_digit() {
                return Some(self.word());
            } else if next.is_ascii_digit() {
                self.skip_while(|c| is_word(c) || c == '.');
                return Some(Token::Other);
            } else {
                self.at += next.len_utf8();
                return Some(Token::Other);
            }
        }
    }
}

#[cfg(test)]
mod tests;
