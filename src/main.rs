//! The `tollgate` command.

use std::{
    error::Error,
    io::{self, Write},
    iter,
    path::PathBuf,
    process::ExitCode,
};

use tokio::runtime::{Builder, Runtime};
use tollgate::{
    app,
    cli::{
        self, Command, Status,
        hit::{self, Hit},
        migrate::{self, Migration},
    },
    config::CompileOptions,
    logging,
    settings::{Settings, environment},
};

/// The system's allocator takes twice as long for memory that one thread
/// allocates and another frees.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os(), environment::variable) {
        Ok(command) => command,
        Err(error) => error.exit(),
    };
    let result = match command {
        Command::Serve(settings) => serve(*settings),
        Command::Check { paths, merge_domains } => check(&paths, merge_domains),
        Command::Hit(hit) => ask(&hit),
        Command::Migrate(migration) => compare(&migration),
    };
    result.map_or_else(|error| fail(&*error), ExitCode::from)
}

type Outcome = Result<Status, Box<dyn Error>>;

fn serve(settings: Settings) -> Outcome {
    logging::init(&settings.log)?;
    environment::report(&settings);
    let runtime = runtime()?;
    let result = runtime.block_on(app::serve(settings));
    // A name that is being looked up would hold it for as long as that takes.
    runtime.shutdown_background();
    Ok(result.map(|()| Status::Yes)?)
}

fn check(paths: &[PathBuf], merge_domains: bool) -> Outcome {
    Ok(cli::check::check(paths, CompileOptions { merge_domains }, &mut io::stdout())?)
}

fn ask(hit: &Hit) -> Outcome {
    Ok(runtime()?.block_on(hit::run(hit, &mut io::stdout()))?)
}

fn compare(migration: &Migration) -> Outcome {
    Ok(migrate::migrate(migration, &mut io::stdout())?)
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}

/// Prints the error with all its causes.
fn fail(error: &dyn Error) -> ExitCode {
    let causes = iter::successors(error.source(), |&it| it.source());
    let causes: String = causes.map(|it| format!(": {it}")).collect();
    // Whoever reads this may be gone.
    let _ = writeln!(io::stderr(), "tollgate: {error}{causes}");
    Status::Failed.into()
}
