//! Executes the commands of the command line.

use std::{
    error::Error,
    io::{self, IsTerminal},
    sync::Arc,
};

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};
use tracing::{error, info};

use super::{App, AppError, Listeners, Signals, open_files};
use crate::{
    causes,
    cli::{Command, CommandStatus, PipeOutput, check, counters, explain, hit, migrate, test},
    logging,
    settings::{LogFormat, Settings, environment},
    time::SystemClock,
};

/// Executes one command; its output goes to standard output.
///
/// # Errors
///
/// If the command fails, as opposed to a negative result.
pub fn execute(command: Command) -> Result<CommandStatus, Box<dyn Error>> {
    let out = &mut PipeOutput(io::stdout());
    let errors = &mut PipeOutput(io::stderr());
    match command {
        Command::Serve(settings) => serve(*settings),
        Command::Reject(error, log) => {
            logging::init(&log)?;
            error!("{error}");
            Ok(CommandStatus::Failed)
        }
        Command::Check(rules) => Ok(check::check(&rules, out)?),
        Command::Test(tests) => Ok(runtime()?.block_on(test::run(&tests, out, errors))?),
        Command::Explain(question) => {
            let clock = Arc::new(SystemClock);
            Ok(runtime()?.block_on(explain::run(&question, clock, out, errors))?)
        }
        Command::Hit(question) => Ok(runtime()?.block_on(hit::run(&question, out, errors))?),
        Command::Counters(command) => Ok(runtime()?.block_on(counters::run(&command, out))?),
        Command::Migrate(migration) => Ok(migrate::migrate(&migration, out)?),
    }
}

fn serve(mut settings: Settings) -> Result<CommandStatus, Box<dyn Error>> {
    settings.admin.shows_token = io::stdout().is_terminal();
    let runtime = runtime()?;
    // First, because a signal without a handler ends the process.
    let signals = {
        let _context = runtime.enter();
        Signals::from_system().map_err(AppError::Signals)?
    };
    logging::init(&settings.log)?;
    environment::report(&settings);
    let format = settings.log.format;
    open_files::raise_limit(&settings);
    let result = runtime.block_on(run(settings, signals));
    // A name lookup in progress would delay the exit.
    runtime.shutdown_background();
    match result {
        Ok(()) => Ok(CommandStatus::Positive),
        // A collector of logs expects every line in its format.
        Err(error) if format == LogFormat::Json => {
            error!("{}", causes::text(&error));
            Ok(CommandStatus::Failed)
        }
        Err(error) => Err(error.into()),
    }
}

/// Starts the service and runs it. A signal to stop during the start ends it at once.
async fn run(settings: Settings, mut signals: Signals) -> Result<(), AppError> {
    let prometheus = settings.statistics.prometheus.clone();
    let admin = settings.admin.clone();
    let bounds = settings.listeners.clone();
    let listeners = async move { Listeners::bind(bounds, prometheus, &admin).await };
    // A task of its own, because reading many rules blocks its thread.
    let mut start = JoinSet::new();
    start.spawn(App::build(settings, Arc::new(SystemClock), listeners));
    let app = tokio::select! {
        built = start.join_next() => match built {
            Some(Ok(app)) => app?,
            Some(Err(panic)) => return Err(AppError::Start(panic.to_string())),
            None => return Ok(()),
        },
        _ = signals.stop.recv() => {
            info!("a signal has ended the start");
            return Ok(());
        }
    };
    app.run(signals).await
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}
