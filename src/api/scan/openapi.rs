//! The table as OpenAPI 3.1.

use serde_json::{Map, Value, json};

use super::{
    routes,
    schema::{Form, Need, Schema},
    shapes,
    table::{Brings, Holds, May, Route},
};
use crate::api::VERSION;

/// The document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for route in routes::all() {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.verb.word().to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "shipper",
            "version": VERSION,
            "description": "Scanning of files, its workers, alerts and figures. Every refusal has the one shape Refusal; every answer has X-Request-Id.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Refusal": shapes::REFUSAL.told()},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    })
}

/// Who may ask, in words.
pub(super) fn may(may: May) -> String {
    match may {
        May::Anybody => "anybody".into(),
        May::Has(role) => role.word().into(),
        May::Own => "worker (its own id)".into(),
    }
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": Schema::Text(Form::Id).told()}))
        .collect();
    for field in route.query {
        let mut schema = field.of.told();
        if let Need::Else(default) = field.need {
            schema["default"] = serde_json::from_str(default).unwrap_or_default();
        }
        let is_needed = matches!(field.need, Need::Must);
        parameters.push(json!({"name": field.name, "in": "query", "required": is_needed, "schema": schema, "description": field.doc}));
    }
    let mut responses = Map::new();
    for (status, holds, doc) in route.answers {
        let content = match holds {
            Holds::Json(schema) => json!({"application/json": {"schema": schema.told()}}),
            Holds::Other(media) => json!({*media: {"schema": {"type": "string"}}}),
        };
        responses.insert(status.to_string(), json!({"description": doc, "content": content}));
    }
    for (status, doc) in route.refused() {
        let content = json!({"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}});
        let described = responses.entry(status.to_string()).or_insert_with(|| json!({"description": doc, "content": content}));
        if matches!(status, 429 | 503) && described.get("headers").is_none() {
            described["headers"] = json!({"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}});
        }
    }
    let mut told = json!({
        "operationId": format!("{} {}", route.verb.word().to_ascii_lowercase(), route.path),
        "summary": route.doc,
        "description": format!("For: {}.", may(route.may)),
        "parameters": parameters,
        "responses": responses,
    });
    match route.brings {
        Brings::Nothing => {}
        Brings::Json(schema) | Brings::Large(schema) => {
            let is_needed = matches!(schema, Schema::Object(fields) if fields.iter().any(|field| matches!(field.need, Need::Must)));
            told["requestBody"] = json!({"required": is_needed, "content": {"application/json": {"schema": schema.told()}}});
        }
        Brings::Bytes => {
            let schema = json!({"type": "string", "format": "binary"});
            told["requestBody"] = json!({"required": true, "content": {"application/octet-stream": {"schema": schema}}});
        }
    }
    told["security"] = if route.may == May::Anybody { json!([]) } else { json!([{"key": []}, {"bearer": []}]) };
    told
}
