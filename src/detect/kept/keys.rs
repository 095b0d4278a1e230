//! How alerts lie in Redis.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `alert:ID` | string | the alert, for its retention |
//! | `alerts` | list | the newest alerts themselves, the newest last: what older dashboards read |
//! | `by_time` | sorted set | ids by event time in milliseconds |
//! | `by_entity:ENTITY` | sorted set | ids of that entity by event time |
//! | `stats` | hash | counts: `alerts`, `severity:HIGH`, `source:TYPE`, `day:YYYY-MM-DD` |
//! | `entities` | sorted set | entities by their number of alerts |
//! | `new` | channel | the id of each new alert |

/// Names of the keys, all with one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// - `prefix`: in a cluster one with a hash tag, so that all keys are in one slot.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into() }
    }
    fn of(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
    pub fn alert(&self, id: &str) -> String {
        format!("{}alert:{id}", self.prefix)
    }
    pub fn list(&self) -> String {
        self.of("alerts")
    }
    pub fn by_time(&self) -> String {
        self.of("by_time")
    }
    pub fn by_entity(&self, entity: &str) -> String {
        format!("{}by_entity:{entity}", self.prefix)
    }
    pub fn stats(&self) -> String {
        self.of("stats")
    }
    pub fn entities(&self) -> String {
        self.of("entities")
    }
    pub fn channel(&self) -> String {
        self.of("new")
    }
}
