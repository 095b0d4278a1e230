//! Stands in for the engine in builds without feature `sigma`: no rule can be used, and each file is told why.

use super::{Fields, Rule};

pub(super) enum Parsed {}

impl Parsed {
    pub fn rule(&self) -> Rule {
        match *self {}
    }
    pub fn source(&self) -> [String; 3] {
        match *self {}
    }
}

#[derive(Default)]
pub(super) struct Filters;

impl Filters {
    pub fn add(&mut self, _other: Self) {}
}

#[derive(Default)]
pub(super) struct Read {
    pub rules: Vec<Parsed>,
    pub filters: Filters,
    pub correlations: usize,
    pub broken: Vec<String>,
}

pub(super) fn parse(_text: &str) -> Read {
    let why = "this build has no feature sigma; install the package, or build with --features sigma";
    Read { broken: vec![why.to_owned()], ..Read::default() }
}

pub(super) enum Engine {}

impl Engine {
    pub fn build(_rules: Vec<(usize, Parsed)>, _filters: &Filters) -> (Self, Vec<(usize, String)>) {
        unreachable!("no rule can be read without the engine")
    }
    pub fn is_empty(&self) -> bool {
        match *self {}
    }
    pub fn find(&self, _event: &dyn Fields, _found: &mut Vec<usize>) {
        match *self {}
    }
}
