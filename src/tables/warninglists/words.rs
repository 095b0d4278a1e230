//! Many short texts, each with a list that holds it: one run of text and 8 bytes a row, sorted.

/// Gathers texts.
#[derive(Debug, Default)]
pub(super) struct WordsBuilder {
    text: String,
    /// Where a text begins and ends, and its list.
    rows: Vec<(u32, u32, u16)>,
}

/// Sorted texts.
#[derive(Debug, Default)]
pub(super) struct Words {
    text: String,
    rows: Vec<(u32, u32, u16)>,
}

fn at(text: &str, row: &(u32, u32, u16)) -> usize {
    // A row is made from offsets of this text.
    (row.0 as usize).min(text.len())
}

fn word<'t>(text: &'t str, row: &(u32, u32, u16)) -> &'t str {
    text.get(at(text, row)..row.1 as usize).unwrap_or_default()
}

impl WordsBuilder {
    /// Takes a text. What no longer fits into 4 GiB is left out, which 8 million entries do not reach.
    pub fn push(&mut self, entry: &str, list: u16) {
        if let (Ok(from), Ok(to)) = (u32::try_from(self.text.len()), u32::try_from(self.text.len() + entry.len())) {
            self.text.push_str(entry);
            self.rows.push((from, to, list));
        }
    }

    pub fn build(self) -> Words {
        let Self { text, mut rows } = self;
        rows.sort_unstable_by(|a, b| word(&text, a).cmp(word(&text, b)).then(a.2.cmp(&b.2)));
        rows.dedup_by(|a, b| a.2 == b.2 && word(&text, a) == word(&text, b));
        rows.shrink_to_fit();
        Words { text, rows }
    }
}

impl Words {
    /// The lists that hold exactly this text.
    pub fn lists_of(&self, entry: &str) -> impl Iterator<Item = u16> {
        let from = self.rows.partition_point(|row| word(&self.text, row) < entry);
        let rest = self.rows.get(from..).unwrap_or_default();
        rest.iter().take_while(move |row| word(&self.text, row) == entry).map(|row| row.2)
    }
}
