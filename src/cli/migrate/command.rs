//! Differences in the command of a container.

use super::{
    finding::{Finding, Grade},
    pod::Pod,
};
use crate::cli::{arguments, manifest::list};

/// Checks that the container will run tollgate, and with which arguments.
pub(super) fn command(pod: &Pod<'_>, findings: &mut Vec<Finding>) {
    let command = words(pod, "command");
    let args = words(pod, "args");
    // Arguments may contain passwords, so they are not shown.
    if let Some(program) = command.first()
        && !is_tollgate(program)
    {
        findings.push(
            Finding::new(Grade::Note, format!("the container runs {program}"))
                .at(place(pod, "command"))
                .tollgate("the image has /bin/ratelimit, tollgate, and a small Debian")
                .remedy("make sure that it starts /bin/ratelimit, or remove `command`"),
        );
        return;
    }
    let key = if args.is_empty() { "command" } else { "args" };
    let mut arguments = command.get(1..).unwrap_or_default().to_vec();
    arguments.extend(args);
    let (grade, tollgate) = match arguments.as_slice() {
        [] | ["serve"] => return,
        arguments if serves(arguments) => {
            (Grade::Differs, "takes them as settings, which are not compared here")
        }
        _ => (Grade::WillNotStart, "does not serve with these arguments"),
    };
    findings.push(
        Finding::new(grade, "the container has arguments")
            .at(place(pod, key))
            .reference("ignores them: it has no flags")
            .tollgate(tollgate)
            .remedy(format!("remove them from `{key}`")),
    );
}

/// The texts in a list of the container.
fn words<'n>(pod: &Pod<'n>, key: &str) -> Vec<&'n str> {
    let mut words = Vec::new();
    for item in list(pod.container, key) {
        words.extend(item.text());
    }
    words
}

fn place(pod: &Pod<'_>, key: &str) -> String {
    match pod.container.get(key) {
        Some(item) => pod.place(item),
        None => String::new(),
    }
}

/// Returns true if the path `program` leads to tollgate in its image.
pub(super) fn is_tollgate(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or_default();
    let directory = program.strip_suffix(name).unwrap_or_default();
    ["ratelimit", "tollgate"].contains(&name)
        && ["", "/bin/", "/usr/bin/", "/usr/local/bin/"].contains(&directory)
}

/// Returns true if tollgate serves requests when it has these arguments.
fn serves(arguments: &[&str]) -> bool {
    let command_line = [&["tollgate"], arguments].concat();
    match arguments::command().try_get_matches_from(command_line) {
        Ok(matches) => matches!(matches.subcommand_name(), None | Some("serve")),
        Err(_) => false,
    }
}
