//! The `tollgate` command.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use tollgate::{
    app,
    cli::{self, CommandStatus},
    settings::environment,
};

/// The system's allocator takes twice as long for memory that one thread
/// allocates and another frees.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let parsed = cli::parse(std::env::args_os(), environment::variable);
    let command = parsed.unwrap_or_else(|error| error.exit());
    match app::execute(command) {
        Ok(status) => status.into(),
        Err(error) => fail(&*error),
    }
}

fn fail(error: &dyn Error) -> ExitCode {
    let mut message = format!("tollgate: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        message += &format!(": {error}");
        cause = error.source();
    }
    // Standard error may be closed.
    let _ = writeln!(io::stderr(), "{message}");
    CommandStatus::Failed.into()
}
