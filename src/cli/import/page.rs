//! The TOML that an import prints: the notes as comments on top, then the tables in their order.
//!
//! Knows no foreign program and no setting of ours.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};

/// Our configuration and what the operator should know about it.
#[derive(Clone, Debug)]
pub struct Written {
    /// A whole configuration, the notes as comments above it.
    pub toml: String,
    /// What was left out or changed, and why; one sentence each, `key: what`.
    pub notes: Vec<String>,
}

/// A configuration in the making.
#[derive(Clone, Debug, Default)]
pub struct Page {
    tables: Vec<Table>,
    notes: Vec<String>,
}

#[derive(Clone, Debug)]
struct Table {
    name: String,
    /// Written even where it has no settings.
    always: bool,
    settings: Vec<(String, String)>,
    /// Comments at its end.
    remarks: Vec<String>,
}

impl Page {
    /// Begins a table; tables are written in the order in which they were begun.
    ///
    /// - `settings`: names with values that are TOML already. A table without them is written only
    ///   if [`set`](Self::set) gives it one.
    pub fn table(&mut self, name: impl Into<String>, settings: &[(&str, &str)]) {
        let (name, always) = (name.into(), !settings.is_empty());
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.tables.push(Table { name, always, settings, remarks: Vec::new() });
    }

    /// Sets a setting of a table that was begun; of one that is given twice the last stands.
    pub fn set(&mut self, table: &str, name: impl Into<String>, value: &Value) {
        self.set_written(table, name, toml_value(value));
    }

    /// The same with a value that is TOML already.
    pub fn set_written(&mut self, table: &str, name: impl Into<String>, value: String) {
        let name = name.into();
        let Some(table) = self.named(table) else { return };
        match table.settings.iter_mut().find(|(old, _)| *old == name) {
            Some((_, old)) => *old = value,
            None => table.settings.push((name, value)),
        }
    }

    /// Names a file for a secret; returns how it gets there, for a note.
    pub fn secret(&mut self, table: &str, name: &str, file: &Path) -> String {
        self.set(table, name, &json!(file));
        let file = file.display();
        format!(
            "is not shown here; put it, alone, into {file}: `install -m 0640 -o root -g shipper /dev/stdin {file}`, paste it, Enter, Ctrl-D; \
             then take it out of the old file"
        )
    }

    /// Puts a comment at the end of a table; text without the sign.
    pub fn remark(&mut self, table: &str, text: impl Into<String>) {
        if let Some(table) = self.named(table) {
            table.remarks.push(text.into());
        }
    }

    /// True if a setting of a table was given.
    pub fn has(&self, table: &str, name: &str) -> bool {
        self.tables.iter().any(|of| of.name == table && of.settings.iter().any(|(set, _)| set == name))
    }

    /// Notes what was left out or changed, and why.
    pub fn note(&mut self, key: &str, what: impl AsRef<str>) {
        self.notes.push(format!("{key}: {}", what.as_ref()));
    }

    fn named(&mut self, name: &str) -> Option<&mut Table> {
        let found = self.tables.iter_mut().find(|table| table.name == name);
        debug_assert!(found.is_some(), "no table {name} was begun");
        found
    }

    /// The page.
    ///
    /// - `head`: the first lines, comments.
    pub fn written(self, head: &str) -> Written {
        let mut toml = head.to_owned();
        for note in &self.notes {
            let _ = write!(toml, "#\n# {}\n", note.replace('\n', " ")); // writing to a String cannot fail
        }
        for Table { name, always, settings, remarks } in &self.tables {
            if !always && settings.is_empty() {
                continue;
            }
            let _ = write!(toml, "\n[{name}]\n");
            for (name, value) in settings {
                let _ = writeln!(toml, "{name} = {value}");
            }
            for remark in remarks {
                let _ = writeln!(toml, "# {}", remark.replace('\n', " "));
            }
        }
        Written { toml, notes: self.notes }
    }
}

/// Text as a TOML string: JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
pub fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

fn toml_value(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(toml_value).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_has_notes_tables_and_remarks() {
        let mut page = Page::default();
        page.table("log", &[]);
        page.table("api", &[]);
        page.table("sources.a", &[("kind", r#""file""#)]);
        page.set("api", "listen", &json!("x"));
        page.set("api", "listen", &json!("127.0.0.1:1"));
        page.set("sources.a", "path", &json!("/a\u{7f}"));
        page.remark("sources.a", "start_at = \"end\"");
        page.note("A", "two\nlines");
        assert!(page.has("api", "listen") && !page.has("log", "level"));
        let written = page.written("# head\n");
        assert_eq!(
            written.toml,
            "# head\n#\n# A: two lines\n\n[api]\nlisten = \"127.0.0.1:1\"\n\n[sources.a]\nkind = \"file\"\npath = \"/a\\u007F\"\n# start_at = \"end\"\n"
        );
        toml::from_str::<toml::Table>(&written.toml).unwrap();
        assert_eq!(written.notes, ["A: two\nlines"]);
    }
}
