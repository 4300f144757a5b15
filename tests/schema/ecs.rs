//! The Elastic Common Schema.

use serde_json::{Map, Value};
use std::net::IpAddr;

/// The fields of the schema.
pub struct Schema(Map<String, Value>);

impl Schema {
    /// The table in this repository.
    pub fn read() -> Self {
        let table: Value =
            serde_json::from_str(include_str!("../schemas/ecs-9.4.0.json")).expect("a table");
        Self(table["fields"].as_object().expect("fields").clone())
    }

    /// What is not valid in an event.
    pub fn problems(&self, event: &Value) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, value) in event.as_object().into_iter().flatten() {
            self.field(name, value, &mut problems);
        }
        for name in ["/@timestamp", "/event/kind", "/event/action"] {
            if event.pointer(name).is_none() {
                problems.push(format!("{name} is missing"));
            }
        }
        if event.pointer("/ecs/version").and_then(Value::as_str) != Some("9.4.0") {
            problems.push("ecs.version is another one".into());
        }
        let list = |name| {
            let values = event.pointer(name).and_then(Value::as_array);
            values.cloned().unwrap_or_default()
        };
        for category in list("/event/category") {
            let expected = &self.0["event.category"]["types_of"][category.as_str().unwrap_or("")];
            let expected = expected.as_array().cloned().unwrap_or_default();
            for found in list("/event/type") {
                if !expected.contains(&found) {
                    problems.push(format!("{found} is no event.type of {category}"));
                }
            }
        }
        problems
    }

    fn field(&self, name: &str, value: &Value, problems: &mut Vec<String>) {
        let below = format!("{name}.");
        match (self.0.get(name), value) {
            (None, Value::Object(fields)) if self.0.keys().any(|key| key.starts_with(&below)) => {
                for (key, value) in fields {
                    self.field(&format!("{name}.{key}"), value, problems);
                }
            }
            (None, _) => problems.push(format!("{name} is no field of the schema")),
            (Some(field), Value::Array(values)) if field["array"] == true => {
                for value in values {
                    leaf(name, field, value, problems);
                }
            }
            (Some(field), _) if field["array"] == true => {
                problems.push(format!("{name} is no array"));
            }
            (Some(field), value) => leaf(name, field, value, problems),
        }
    }
}

fn leaf(name: &str, field: &Value, value: &Value, problems: &mut Vec<String>) {
    let is_valid = match field["type"].as_str().expect("a type") {
        "keyword" | "wildcard" | "match_only_text" => value.is_string(),
        "long" => value.is_i64(),
        "boolean" => value.is_boolean(),
        "date" => is_date(value),
        "ip" => value
            .as_str()
            .is_some_and(|ip| ip.parse::<IpAddr>().is_ok()),
        // Those that are allowed are of keywords: labels.
        "object" => (value.as_object())
            .is_some_and(|labels| labels.values().all(Value::is_string) && !labels.is_empty()),
        _ => false,
    };
    if !is_valid {
        problems.push(format!("{name}: {value} is no {}", field["type"]));
    }
    let allowed = field["allowed"].as_array();
    if allowed.is_some_and(|allowed| !allowed.contains(value)) {
        problems.push(format!("{name}: {value} is not allowed"));
    }
}

/// Whether a value is an instant of RFC 3339 in UTC with nanoseconds.
fn is_date(value: &Value) -> bool {
    let shape: String = (value.as_str().unwrap_or_default().chars())
        .map(|char| if char.is_ascii_digit() { '0' } else { char })
        .collect();
    shape == "0000-00-00T00:00:00.000000000Z"
}
