//! The Open Cybersecurity Schema Framework.

use serde_json::Value;
use std::net::IpAddr;

/// Classes, objects and types of the schema.
pub struct Schema(Value);

impl Schema {
    /// The table in this repository.
    pub fn read() -> Self {
        let table = include_str!("../schemas/ocsf-1.8.0.json");
        Self(serde_json::from_str(table).expect("a table"))
    }

    /// What is not valid in an event.
    pub fn problems(&self, event: &Value) -> Vec<String> {
        let classes = self.0["classes"].as_object().expect("classes");
        let is_class = |class: &&Value| class["class_uid"] == event["class_uid"];
        let Some(class) = classes.values().find(is_class) else {
            return vec![format!("{} is no class", event["class_uid"])];
        };
        let mut check = Check {
            schema: &self.0,
            profiles: &event["metadata"]["profiles"],
            problems: Vec::new(),
        };
        check.object("", class, event);
        let mut problems = check.problems;
        let mut expect = |name: &str, expected: Value| {
            if event[name] != expected {
                problems.push(format!("{name}: {} instead of {expected}", event[name]));
            }
        };
        expect("category_uid", class["category_uid"].clone());
        let number = |name: &str| event[name].as_i64().unwrap_or(-1);
        expect(
            "type_uid",
            (number("class_uid") * 100 + number("activity_id")).into(),
        );
        if number("activity_id") != 99 {
            let captions = &class["attributes"]["activity_id"]["enum"];
            let caption = &captions[number("activity_id").to_string()];
            expect("activity_name", caption.clone());
        }
        if event["metadata"]["version"] != self.0["version"] {
            problems.push("metadata.version is another one".into());
        }
        problems
    }
}

struct Check<'a> {
    schema: &'a Value,
    profiles: &'a Value,
    problems: Vec<String>,
}

impl Check<'_> {
    /// Checks an object by what a class or an object of the schema has.
    fn object(&mut self, at: &str, definition: &Value, object: &Value) {
        let Some(fields) = object.as_object() else {
            return self.problems.push(format!("{at}: {object} is no object"));
        };
        let attributes = definition["attributes"].as_object().expect("attributes");
        for (name, value) in fields {
            match attributes.get(name) {
                Some(attribute) => self.attribute(&format!("{at}/{name}"), attribute, value),
                None => self.problems.push(format!("{at}/{name} is no attribute")),
            }
        }
        for (name, attribute) in attributes {
            let is_required = attribute["requirement"] == "required";
            if is_required && attribute.get("profile").is_none() && !fields.contains_key(name) {
                self.problems.push(format!("{at}/{name} is missing"));
            }
        }
        if let Some(names) = definition["constraints"]["at_least_one"].as_array() {
            let is_there =
                |name: &Value| name.as_str().is_some_and(|name| fields.contains_key(name));
            if !names.iter().any(is_there) {
                self.problems.push(format!("{at} has none of {names:?}"));
            }
        }
    }

    fn attribute(&mut self, at: &str, attribute: &Value, value: &Value) {
        if let Some(profile) = attribute.get("profile") {
            let profiles = self.profiles.as_array();
            if !profiles.is_some_and(|profiles| profiles.contains(profile)) {
                self.problems.push(format!("{at} needs profile {profile}"));
            }
        }
        match (attribute["array"] == true, value) {
            (true, Value::Array(values)) => {
                for value in values {
                    self.value(at, attribute, value);
                }
            }
            (true, _) => self.problems.push(format!("{at}: {value} is no array")),
            (false, value) => self.value(at, attribute, value),
        }
    }

    fn value(&mut self, at: &str, attribute: &Value, value: &Value) {
        let name = attribute["type"].as_str().expect("a type");
        if name == "object" {
            if !value.is_object() {
                self.problems.push(format!("{at}: {value} is no object"));
            }
        } else if let Some(kind) = self.schema["types"].get(name) {
            if !is_of(name, kind, value) {
                self.problems.push(format!("{at}: {value} is no {name}"));
            }
        } else if let Some(definition) = self.schema["objects"].get(name) {
            self.object(at, definition, value);
        } else {
            self.problems
                .push(format!("{at}: {name} is not in the table"));
        }
        if let Some(values) = attribute.get("enum").filter(|_| !is_id_of_class(at)) {
            if values.get(value.to_string()).is_none() {
                self.problems
                    .push(format!("{at}: {value} is none of its values"));
            }
        }
    }
}

/// Of these the table has the values of the base event; they are compared with the class.
fn is_id_of_class(at: &str) -> bool {
    matches!(at, "/class_uid" | "/category_uid")
}

/// Whether a value is of a type, or of the type which that one is made of.
fn is_of(name: &str, kind: &Value, value: &Value) -> bool {
    let base = kind["type"].as_str().unwrap_or(name);
    let is_of_base = match base {
        "string_t" => value.is_string(),
        "integer_t" => value
            .as_i64()
            .is_some_and(|number| i32::try_from(number).is_ok()),
        "long_t" => value.is_i64(),
        "boolean_t" => value.is_boolean(),
        _ => false,
    };
    let length = value.as_str().map_or(0, |text| text.chars().count() as u64);
    let number = value.as_i64().unwrap_or(0);
    let range = |place: usize| kind["range"][place].as_i64();
    is_of_base
        && kind["max_len"].as_u64().is_none_or(|most| length <= most)
        && range(0).is_none_or(|least| number >= least)
        && range(1).is_none_or(|most| number <= most)
        && (name != "ip_t"
            || value
                .as_str()
                .is_some_and(|ip| ip.parse::<IpAddr>().is_ok()))
}
