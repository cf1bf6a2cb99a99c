//! Looks at SQL text: is it refused on a session, and does it leave something behind there?
//!
//! A guard against accidents, not a parser: it knows comments, quotes and statement borders, and reads
//! every text as if `standard_conforming_strings` were on.

/// What a text would do beyond its own transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// It begins or ends a transaction or savepoint; with the keyword.
    Control(&'static str),
    /// It may leave a setting, a lock, a cursor, a temporary table or the like, which a reset removes; with
    /// the word that shows it.
    Residue(&'static str),
    /// It may leave what no reset removes, or take away what sqlx believes in; with the keyword.
    Indelible(&'static str),
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

/// Words that, as the first of a statement, leave something behind. Of SET and PREPARE the second word
/// decides, of DECLARE what follows.
const RESIDUE_FIRST: [&str; 2] = ["RESET", "DO"];

/// Words that, as the first of a statement, leave what no reset removes. DEALLOCATE and DISCARD can take
/// away what sqlx has prepared.
const INDELIBLE_FIRST: [&str; 3] = ["LOAD", "DEALLOCATE", "DISCARD"];

/// Functions that leave something behind, wherever they are called.
const RESIDUE_FUNCTIONS: [&str; 5] = [
    "SET_CONFIG",
    "PG_ADVISORY_LOCK",
    "PG_ADVISORY_LOCK_SHARED",
    "PG_TRY_ADVISORY_LOCK",
    "PG_TRY_ADVISORY_LOCK_SHARED",
];

/// What stands before TEMP where that makes something temporary, and is no name.
const MAKES_TEMPORARY: [&str; 5] = ["CREATE", "REPLACE", "INTO", "LOCAL", "GLOBAL"];

/// Returns what `sql` would do. Costs one pass over the text.
pub(crate) fn effect(sql: &str) -> Effect {
    let mut effect = Effect::None;
    let mut statement = Statement::default();
    let mut tokens = Tokens::new(sql);
    while let Some(token) = tokens.next() {
        match token {
            Token::Border if statement.body_depth == 0 => {
                effect = effect.and(statement.effect);
                statement = Statement::default();
            }
            Token::Other if is_temporary_schema(&sql[tokens.start..tokens.at]) => {
                statement.leave(TEMPORARY);
            }
            Token::Border | Token::Other => {}
            Token::Word(word) => {
                if let Some(refused) = statement.read(word) {
                    return refused;
                }
            }
        }
    }
    effect.and(statement.effect)
}

impl Effect {
    /// Returns what both do together.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Indelible(_), _) | (_, Self::None) => self,
            (Self::Residue(_), Self::Residue(_)) => self,
            _ => other,
        }
    }
}

/// The word for what is temporary.
const TEMPORARY: &str = "TEMPORARY";

/// Returns whether a name is that of the schema of temporary things.
fn is_temporary_schema(name: &str) -> bool {
    let name = name.strip_prefix('"').unwrap_or(name).as_bytes();
    let schema = b"pg_temp";
    name.len() >= schema.len() && name[..schema.len()].eq_ignore_ascii_case(schema)
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
struct Statement<'a> {
    effect: Effect,
    words: usize,
    /// The first word, as far as it makes a difference later.
    first: &'a str,
    previous: &'a str,
    body_depth: usize,
}

impl Default for Statement<'_> {
    fn default() -> Self {
        Self {
            effect: Effect::None,
            words: 0,
            first: "",
            previous: "",
            body_depth: 0,
        }
    }
}

impl<'a> Statement<'a> {
    /// Reads the next word; returns the effect when it is one for which the statement is refused.
    fn read(&mut self, word: &'a str) -> Option<Effect> {
        let is = |candidate: &str| word.eq_ignore_ascii_case(candidate);
        self.words += 1;
        match self.words {
            1 => {
                if let Some(keyword) = CONTROL.into_iter().find(|keyword| is(keyword)) {
                    return Some(Effect::Control(keyword));
                }
                if is("LISTEN") {
                    return Some(Effect::Listen);
                }
                self.first = word;
                if let Some(keyword) = INDELIBLE_FIRST.into_iter().find(|keyword| is(keyword)) {
                    self.effect = Effect::Indelible(keyword);
                } else if let Some(keyword) = RESIDUE_FIRST.into_iter().find(|keyword| is(keyword))
                {
                    self.leave(keyword);
                }
            }
            2 if self.is_first("PREPARE") => {
                if is("TRANSACTION") {
                    return Some(Effect::Control("PREPARE TRANSACTION"));
                }
                self.leave("PREPARE");
            }
            2 if self.is_first("SET")
                && !(is("LOCAL") || is("TRANSACTION") || is("CONSTRAINTS")) =>
            {
                self.leave("SET");
            }
            _ if self.is_first("COPY") && (is("STDIN") || is("STDOUT")) => {
                return Some(Effect::ClientCopy);
            }
            _ => {}
        }
        self.track_body(word);
        self.track_residue(word);
        self.previous = word;
        None
    }

    fn is_first(&self, word: &str) -> bool {
        self.first.eq_ignore_ascii_case(word)
    }

    fn leave(&mut self, word: &'static str) {
        self.effect = self.effect.and(Effect::Residue(word));
    }

    fn track_residue(&mut self, word: &str) {
        let is = |candidate: &str| word.eq_ignore_ascii_case(candidate);
        let after = |candidate: &str| self.previous.eq_ignore_ascii_case(candidate);
        if is("TEMP") || is("TEMPORARY") {
            let inserts = self.is_first("INSERT") || self.is_first("MERGE");
            if !inserts && MAKES_TEMPORARY.into_iter().any(after) {
                self.leave(TEMPORARY);
            }
        } else if is("DROP") && after("COMMIT") && self.effect == Effect::Residue(TEMPORARY) {
            self.effect = Effect::None;
        } else if is("HOLD") && after("WITH") && self.is_first("DECLARE") {
            self.leave("WITH HOLD");
        } else if is_temporary_schema(word) {
            self.leave(TEMPORARY);
        } else if let Some(function) = RESIDUE_FUNCTIONS.into_iter().find(|name| is(name)) {
            self.leave(function);
        }
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
        } else if is("ATOMIC")
            && self.is_first("CREATE")
            && self.previous.eq_ignore_ascii_case("BEGIN")
        {
            self.body_depth = 1;
        }
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
