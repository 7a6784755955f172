use std::path::PathBuf;

use super::listeners::host_port;
use crate::{
    admin::AdminSettings,
    settings::{reader::SettingReader, value},
};

const HOST: &str = "ADMIN_HOST";
const TOKENS_FILE: &str = "ADMIN_TOKENS_FILE";

pub(super) fn admin(reader: &mut SettingReader<'_>) -> AdminSettings {
    let settings = AdminSettings {
        address: host_port(reader, HOST, "ADMIN_PORT"),
        names: reader.value("ADMIN_NAMES", names),
        tokens_file: reader.optional(TOKENS_FILE, value::readable_file),
        token_file: reader.optional("ADMIN_TOKEN_FILE", token_file),
        shows_token: false,
    };
    // An invalid host is empty, and reported already.
    if !settings.address.host.is_empty() && !settings.is_loopback() && !reader.is_set(TOKENS_FILE) {
        let problem = format!("expected a loopback address, or {TOKENS_FILE} to be set, too");
        reader.reject(HOST, &[TOKENS_FILE], &problem);
    }
    settings
}

fn names(text: &str) -> value::Parsed<Vec<String>> {
    let mut names = Vec::new();
    for name in value::list(text) {
        names.push(value::host(name)?);
    }
    Ok(names)
}

fn token_file(text: &str) -> value::Parsed<PathBuf> {
    let path = PathBuf::from(text);
    if path.file_name().is_none() || text.ends_with('/') || path.is_dir() {
        return Err("expected the path of a file".to_owned());
    }
    Ok(path)
}
