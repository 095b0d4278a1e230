//! What needs the whole, in one binary: one link, many tests.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]

mod agent;
mod api;
mod apt_commands;
mod apt_import;
mod apt_score;
mod cli_doctor;
mod cli_intel;
mod cli_state;
mod config_import;
mod config_samples;
mod dashboard;
mod demo;
mod detector;
mod engines;
mod indicators;
mod influx;
mod kafka;
#[path = "../support/kafka_sink.rs"]
mod kafka_sink;
#[path = "../support/kafka_writer.rs"]
mod kafka_writer;
mod many_files;
mod misp;
mod misp_import;
#[path = "../support/misp.rs"]
mod misp_standin;
mod opensearch;
mod own;
mod pages;
mod scan;
#[cfg(feature = "scan")]
mod scan_whole;
#[cfg(feature = "scan")]
mod scan_workers;
#[cfg(feature = "sigma")]
mod sigma;
mod sim;
mod stages;
mod tables;
mod tidy;
mod tree_of_files;
mod vectors_apt;
mod vectors_dfn;
mod vectors_dfn_config;
mod vectors_framing;
mod vectors_misp;
mod vectors_waf;
mod waf_import;
mod waf_people;
mod wazuh_agents;
mod webhook;
