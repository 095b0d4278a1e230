//! The table as a page: nothing to fetch, nothing to run.

use std::fmt::Write as _;

use super::{
    openapi, routes,
    schema::{Field, Need, Schema},
    table::{Brings, Holds},
};
use crate::api::VERSION;

const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--text:#1c2430;--dim:#66707f;--line:#e1e5ea}
@media(prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1a2029;--text:#e4e8ee;--dim:#929dac;--line:#2a323d}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,sans-serif}
main{max-width:64rem;margin:0 auto;padding:1.5rem 1rem 3rem}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
details{background:var(--card);border:1px solid var(--line);border-radius:.5rem;margin:.4rem 0;padding:.4rem .75rem}
summary{cursor:pointer;overflow-wrap:anywhere}
code{font:14px/1.4 ui-monospace,monospace}
pre{overflow-x:auto;border:1px solid var(--line);border-radius:.4rem;padding:.6rem}
table{border-collapse:collapse;width:100%}td{padding:.15rem .75rem .15rem 0;vertical-align:top}
.dim{color:var(--dim)}.verb{display:inline-block;min-width:4rem;font-weight:600}
";

/// The page.
pub(super) fn page() -> String {
    let mut html = String::with_capacity(64 << 10);
    // Writing into a string cannot fail.
    let _ = write(&mut html);
    html
}

fn write(html: &mut String) -> std::fmt::Result {
    writeln!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">"
    )?;
    writeln!(html, "<title>shipper: routes</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>shipper {VERSION}</h1>")?;
    writeln!(
        html,
        "<p>Send a key as <code>X-API-Key</code> or <code>Authorization: Bearer</code>; bodies are JSON in UTF-8. For programs: \
         <a href=\"/openapi.json\">/openapi.json</a>. A refusal is <code>{{\"detail\", \"error\": {{\"code\", \"message\", \"fields\"}}}}</code>.</p>"
    )?;
    let mut group = "";
    for route in routes::all() {
        let first = route.path.split('/').nth(1).unwrap_or_default();
        if first != group {
            writeln!(html, "<h2>/{}</h2>", escape(first))?;
            group = first;
        }
        writeln!(
            html,
            "<details><summary><span class=\"verb\">{}</span> <code>{}</code> <span class=\"dim\">{} · {}</span></summary>",
            route.verb.word(),
            escape(route.path),
            escape(route.doc),
            openapi::may(route.may)
        )?;
        fields(html, "Parameters", route.query)?;
        match route.brings {
            Brings::Json(Schema::Object(members)) | Brings::Large(Schema::Object(members)) => fields(html, "Body", members)?,
            Brings::Json(schema) | Brings::Large(schema) => json(html, "Body", &schema)?,
            Brings::Bytes => writeln!(html, "<p>Body: bytes, <code>application/octet-stream</code></p>")?,
            Brings::Nothing => {}
        }
        writeln!(html, "<table>")?;
        for (status, holds, doc) in route.answers {
            let media = match holds {
                Holds::Json(_) => "application/json",
                Holds::Other(media) => media,
            };
            writeln!(html, "<tr><td>{status}</td><td>{} <span class=\"dim\">{media}</span></td></tr>", escape(doc))?;
        }
        for (status, doc) in route.refused() {
            writeln!(html, "<tr class=\"dim\"><td>{status}</td><td>{}</td></tr>", escape(doc))?;
        }
        writeln!(html, "</table>")?;
        for (_, holds, _) in route.answers {
            if let Holds::Json(schema) = holds {
                json(html, "Answer", schema)?;
            }
        }
        writeln!(html, "</details>")?;
    }
    writeln!(html, "</main>\n</body>\n</html>")
}

fn fields(html: &mut String, title: &str, fields: &[Field]) -> std::fmt::Result {
    if fields.is_empty() {
        return Ok(());
    }
    writeln!(html, "<p>{title}</p><table>")?;
    for field in fields {
        let need = match field.need {
            Need::Must => "required".to_owned(),
            Need::May => String::new(),
            Need::Else(default) => format!("= {default}"),
        };
        let of = field.of.told().to_string();
        writeln!(
            html,
            "<tr><td><code>{}</code></td><td class=\"dim\">{}</td><td>{} <code class=\"dim\">{}</code></td></tr>",
            escape(field.name),
            escape(&need),
            escape(field.doc),
            escape(&of)
        )?;
    }
    writeln!(html, "</table>")
}

fn json(html: &mut String, title: &str, schema: &Schema) -> std::fmt::Result {
    writeln!(html, "<p>{title}</p><pre>{}</pre>", escape(&format!("{:#}", schema.told())))
}

/// Text that HTML takes for nothing but text.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
