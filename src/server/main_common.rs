//! From the command line to a running server. Mirrors Envoy's `source/exe/main_common.cc`.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::process::ExitCode;

use super::config_validation::validate_config;
use super::demo;
use super::options::{Mode, Options};
use super::server::{InstanceImpl, MainListener};
use super::version;
use crate::common::free_lists;
use crate::config::{Bootstrap, ConfigErrors, UnknownFields, load_bootstrap};
use crate::filters::{LINKED, Registry};
use crate::trace::{self, Stage};
use crate::{envoy_log, event, logger};

/// Runs legate as its command line says; returns when the server has ended.
///
/// `revision` is the commit that it was built from, where that is known.
pub fn main_common(args: impl IntoIterator<Item = OsString>, revision: Option<&'static str>) -> ExitCode {
    main_with_extensions(args, revision, &LINKED)
}

/// As [`main_common`], with these extensions in place of legate's own.
pub fn main_with_extensions(
    args: impl IntoIterator<Item = OsString>,
    revision: Option<&'static str>,
    registry: &'static Registry,
) -> ExitCode {
    if let Some(revision) = revision.filter(|revision| !revision.is_empty()) {
        version::set_revision(revision);
    }
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(outcome) => return outcome.report(),
    };
    if let Err(error) = logger::init(options.log_options()) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    if let Err(error) = open_stages(&options) {
        envoy_log!(Main, critical, "{}", error);
        return ExitCode::FAILURE;
    }
    event::global_init();
    if options.demo {
        return demo::run(options, registry);
    }
    let path = options.config_path.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    let bootstrap = match load(&options, &path, registry) {
        Ok(bootstrap) => bootstrap,
        Err(errors) => return fail_to_load(&path, &errors, options.mode),
    };
    if options.mode == Mode::Validate {
        return match validate_config(&options, &bootstrap) {
            Ok(()) => {
                println!("configuration '{path}' OK");
                ExitCode::SUCCESS
            }
            Err(errors) => fail(&path, &errors),
        };
    }
    serve(options, registry, bootstrap, Vec::new(), &path)
}

/// Makes the file for the recorded stages, so that one which cannot be written is not found at the end.
fn open_stages(options: &Options) -> Result<(), String> {
    let Some(path) = options.trace_stages_path.as_ref().filter(|_| options.mode != Mode::Validate) else {
        return Ok(());
    };
    match OpenOptions::new().write(true).create(true).truncate(false).open(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("cannot write recorded stages to {}: {error}", path.display())),
    }
}

fn load(options: &Options, path: &str, registry: &'static Registry) -> Result<Bootstrap, ConfigErrors> {
    let unknown =
        if options.allow_unknown_static_fields { UnknownFields::Allow } else { UnknownFields::Reject };
    load_bootstrap(Some(path), Some(&options.config_yaml), unknown, registry)
}

/// Builds the server and runs it to its end.
pub(super) fn serve(
    options: Options,
    registry: &'static Registry,
    bootstrap: Bootstrap,
    main_listeners: Vec<MainListener>,
    path: &str,
) -> ExitCode {
    trace::register_thread("main_thread");
    if options.trace_stages {
        trace::enable();
    }
    trace::instant(Stage::MainCommon, None, 0, 0, 0);
    // What reading the document took.
    free_lists::trim();
    let init_only = options.mode == Mode::InitOnly;
    match InstanceImpl::new(options, registry, bootstrap, main_listeners) {
        Ok(_) if init_only => ExitCode::SUCCESS,
        Ok(server) if server.run() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => fail(path, &[error]),
    }
}

/// Only who validates is told everything that is wrong.
fn fail_to_load(path: &str, errors: &ConfigErrors, mode: Mode) -> ExitCode {
    let told = if mode == Mode::Validate { errors.all() } else { std::slice::from_ref(errors.first()) };
    if told.len() < errors.all().len() {
        let more = errors.all().len() - told.len();
        envoy_log!(Main, info, "there is more that is wrong ({}): --mode validate names all of it", more);
    }
    fail(path, told)
}

fn fail(path: &str, errors: &[impl Display]) -> ExitCode {
    for error in errors {
        envoy_log!(Main, critical, "error initializing configuration '{}': {}", path, error);
    }
    envoy_log!(Main, info, "exiting");
    ExitCode::FAILURE
}
