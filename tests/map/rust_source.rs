//! As much of Rust's grammar as tells which file defines what.

use std::collections::HashSet;

/// The items that one file defines, tests aside.
#[derive(Default)]
pub struct RustSource {
    types: HashSet<String>,
    functions: HashSet<String>,
    methods: HashSet<(String, String)>,
    macros: HashSet<String>,
}

/// What a brace opens.
#[derive(Clone, PartialEq)]
enum Block {
    /// An impl block or a trait.
    Methods(String),
    Module,
    Body,
    /// A macro's input, a struct's fields and the like.
    Other,
}

impl RustSource {
    pub fn parse(text: &str) -> Self {
        let tokens = without_tests(&tokens(text));
        let mut source = RustSource::default();
        let mut open: Vec<Block> = Vec::new();
        let mut next = Block::Other;
        for (i, token) in tokens.iter().enumerate() {
            let following = tokens.get(i + 1).map(String::as_str).unwrap_or_default();
            match token.as_str() {
                "{" => open.push(std::mem::replace(&mut next, Block::Other)),
                "}" => drop(open.pop()),
                ";" if next != Block::Body => next = Block::Other,
                _ if open.contains(&Block::Body) => {}
                "impl" if at_item(&tokens, i) => next = Block::Methods(self_type(&tokens[i + 1..])),
                "trait" => {
                    source.types.insert(following.to_string());
                    next = Block::Methods(following.to_string());
                }
                "mod" => next = Block::Module,
                "struct" | "enum" | "type" | "const" | "static"
                    if !matches!(open.last(), Some(Block::Methods(_))) =>
                {
                    source.types.insert(following.to_string());
                }
                "macro_rules" => drop(source.macros.insert(tokens[i + 2].clone())),
                "fn" if is_word(following) => {
                    source.add_function(open.last(), following);
                    next = if has_body(&tokens[i..]) { Block::Body } else { Block::Other };
                }
                _ => {}
            }
        }
        source
    }

    fn add_function(&mut self, block: Option<&Block>, name: &str) {
        match block {
            Some(Block::Methods(of)) => drop(self.methods.insert((of.clone(), name.to_string()))),
            None | Some(Block::Module) => drop(self.functions.insert(name.to_string())),
            Some(_) => {}
        }
    }

    /// Whether the file defines `Type`, `Type::method`, `function()` or `macro!`.
    pub fn has(&self, item: &str) -> bool {
        if let Some(name) = item.strip_suffix("()") {
            self.functions.contains(name)
        } else if let Some(name) = item.strip_suffix('!') {
            self.macros.contains(name)
        } else if let Some((of, method)) = item.split_once("::") {
            self.methods.contains(&(of.to_string(), method.to_string()))
        } else {
            self.types.contains(item)
        }
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Whether `impl` starts a block there; elsewhere it is part of a type.
fn at_item(tokens: &[String], i: usize) -> bool {
    i == 0 || matches!(tokens[i - 1].as_str(), "}" | "{" | ";" | "]" | "unsafe")
}

/// Whether the function that starts there has a body: `;` comes first where it has none.
fn has_body(tokens: &[String]) -> bool {
    let mut depth = 0;
    for token in tokens {
        match token.as_str() {
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            "{" if depth == 0 => return true,
            ";" if depth == 0 => return false,
            _ => {}
        }
    }
    false
}

/// The name of the type that an impl block is for, from what follows `impl`.
fn self_type(tokens: &[String]) -> String {
    let mut angles = 0;
    let mut name = String::new();
    for (i, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" | "where" => break,
            "<" => angles += 1,
            ">" => angles -= 1,
            "for" if angles == 0 && tokens.get(i + 1).is_some_and(|t| t != "<") => name.clear(),
            word if angles == 0 && is_word(word) => name = word.to_string(),
            _ => {}
        }
    }
    name
}

/// Leaves out every item under `#[cfg(test)]`.
fn without_tests(tokens: &[String]) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if tokens[i..].iter().take(MARK.len()).map(String::as_str).eq(MARK) {
            i += MARK.len();
            let mut depth = 0;
            while i < tokens.len() {
                match tokens[i].as_str() {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    _ => {}
                }
                i += 1;
                if depth == 0 && matches!(tokens[i - 1].as_str(), "}" | ";") {
                    break;
                }
            }
        } else {
            kept.push(tokens[i].clone());
            i += 1;
        }
    }
    kept
}

/// Words and signs, without comments, strings, characters and lifetimes. Arrows are one sign.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let rest = &chars[i..];
        let c = rest[0];
        if let Some(length) = skipped(rest) {
            i += length;
        } else if c.is_ascii_alphanumeric() || c == '_' {
            let word: String = rest.iter().take_while(|c| c.is_ascii_alphanumeric() || **c == '_').collect();
            i += word.len();
            tokens.push(word);
        } else if (c == '-' || c == '=') && rest.get(1) == Some(&'>') {
            tokens.push(format!("{c}>"));
            i += 2;
        } else {
            tokens.push(c.to_string());
            i += 1;
        }
    }
    tokens
}

/// The length of a blank, a comment, a string, a character or a lifetime that starts there.
fn skipped(rest: &[char]) -> Option<usize> {
    let find = |from: usize, end: &str| {
        let end: Vec<char> = end.chars().collect();
        (from..rest.len()).find(|&i| rest[i..].starts_with(&end)).map_or(rest.len(), |i| i + end.len())
    };
    match rest {
        [c, ..] if c.is_whitespace() => Some(1),
        ['/', '/', ..] => Some(find(2, "\n")),
        ['/', '*', ..] => Some(find(2, "*/")),
        ['r' | 'b', ..] => raw_string(rest, &find),
        ['"', ..] => Some(plain_string(rest)),
        ['\'', '\\', _, ..] => Some(find(3, "'")),
        ['\'', _, '\'', ..] => Some(3),
        ['\'', ..] => Some(1 + rest[1..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count()),
        _ => None,
    }
}

/// `r"…"`, `r#"…"#`, `br"…"`, `b"…"`; other words that start with these letters are none.
fn raw_string(rest: &[char], find: &impl Fn(usize, &str) -> usize) -> Option<usize> {
    let letters = rest.iter().take_while(|c| matches!(c, 'r' | 'b')).count();
    let hashes = rest[letters..].iter().take_while(|c| **c == '#').count();
    let start = letters + hashes;
    if letters > 2 || rest.get(start) != Some(&'"') {
        return None;
    }
    if rest[..letters].contains(&'r') {
        Some(find(start + 1, &format!("\"{}", "#".repeat(hashes))))
    } else {
        Some(letters + plain_string(&rest[letters..]))
    }
}

fn plain_string(rest: &[char]) -> usize {
    let mut i = 1;
    while i < rest.len() && rest[i] != '"' {
        i += if rest[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(rest.len())
}

#[test]
fn items_are_told_apart() {
    let source = RustSource::parse(
        r##"
        // impl Comment { fn commented() {} }
        pub struct Plain { text: &'static str }
        impl<T: Fn() -> u8, const N: usize> fmt::Debug for Generic<T, N> where T: Clone {
            fn fmt(&self) -> impl Iterator<Item = u8> { fn inner() {} let c = '{'; "} fn quoted()" }
            fn after(&self) { let _ = r#"}"#; }
        }
        pub trait Speak { fn speak(&self); fn again(&self) { self.speak() } }
        fn free<'a>(x: &'a [u8; 3]) {}
        stats_struct! { pub struct InMacro { counters: [] } }
        macro_rules! shout { () => {} }
        #[cfg(test)]
        mod tests { struct OnlyTest; fn only_test() {} }
        "##,
    );
    for there in [
        "Plain",
        "Generic::fmt",
        "Generic::after",
        "Speak",
        "Speak::speak",
        "Speak::again",
        "free()",
        "InMacro",
    ] {
        assert!(source.has(there), "{there}");
    }
    assert!(source.has("shout!"));
    for absent in
        ["Plain::fmt", "Generic", "Generic::inner", "inner()", "speak()", "fmt()", "Debug::fmt", "quoted()"]
    {
        assert!(!source.has(absent), "{absent}");
    }
    for absent in ["Comment::commented", "OnlyTest", "only_test()", "free", "shout()", "Generic::free", ""] {
        assert!(!source.has(absent), "{absent}");
    }
}
