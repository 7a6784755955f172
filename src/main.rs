//! The `tollgate` command.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use tollgate::{
    app, causes,
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

fn fail(error: &(dyn Error + 'static)) -> ExitCode {
    // Standard error may be closed.
    let _ = writeln!(io::stderr(), "tollgate: {}", causes::text(error));
    CommandStatus::Failed.into()
}
