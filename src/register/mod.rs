//! "One file, one line": how a component becomes known, and how its settings are read.
//!
//! - `register!` declares the component modules of a folder and lists their kinds in `ALL`.
//! - [`tree`] is what the operator wrote, with its place; TOML and YAML end in the same tree.
//! - [`Section`] reads one component's part of the tree against its [`Field`] table, gathers
//!   *all* errors, and answers an unknown key with the nearest known one.
//!
//! Refuses to know any component: it sees names, tables and text.

mod parse;
pub mod section;
pub mod tree;

pub use section::{Errors, Field, Section, SettingsError, Type};
pub use tree::{Key, Node, Place, Value};

/// Declares component modules and lists their kinds, in the order written.
///
/// ```text
/// register! { Kind:
///     forward::Forward,
///     dfn::Dfn,
/// }
/// ```
/// gives `mod forward; mod dfn;` and `pub static ALL: &[&dyn Kind]`.
#[macro_export]
macro_rules! register {
    ($kind:ident: $($module:ident :: $name:ident),* $(,)?) => {
        $(pub mod $module;)*
        /// Every kind of this folder, in the order in which `shipper list` shows them.
        pub static ALL: &[&dyn $kind] = &[$(&$module::$name),*];
    };
}

/// One line of `shipper check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    /// What, on what, and the remedy after `;`.
    pub text: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Good,
    Warning,
    Bad,
}
