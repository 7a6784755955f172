//! Executes the commands of the command line.

use std::{error::Error, io, sync::Arc};

use tokio::runtime::{Builder, Runtime};

use super::{App, AppError, Listeners, Signals};
use crate::{
    cli::{Command, CommandStatus, PipeOutput, check, hit, migrate},
    logging,
    settings::{Settings, environment},
    time::SystemClock,
};

/// Executes one command; its output goes to standard output.
///
/// # Errors
///
/// If the command fails, as opposed to a negative result.
pub fn execute(command: Command) -> Result<CommandStatus, Box<dyn Error>> {
    let out = &mut PipeOutput(io::stdout());
    match command {
        Command::Serve(settings) => serve(*settings),
        Command::Check(rules) => Ok(check::check(&rules, out)?),
        Command::Hit(question) => Ok(runtime()?.block_on(hit::run(&question, out))?),
        Command::Migrate(migration) => Ok(migrate::migrate(&migration, out)?),
    }
}

fn serve(settings: Settings) -> Result<CommandStatus, Box<dyn Error>> {
    logging::init(&settings.log)?;
    environment::report(&settings);
    let runtime = runtime()?;
    let result = runtime.block_on(run(settings));
    // A name lookup in progress would delay the exit.
    runtime.shutdown_background();
    result?;
    Ok(CommandStatus::Positive)
}

async fn run(settings: Settings) -> Result<(), AppError> {
    let signals = Signals::from_system().map_err(AppError::Signals)?;
    let prometheus = settings.statistics.prometheus.clone();
    let listeners = Listeners::bind(settings.listeners.clone(), prometheus);
    let app = App::build(settings, Arc::new(SystemClock), listeners).await?;
    app.run(signals).await
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}
