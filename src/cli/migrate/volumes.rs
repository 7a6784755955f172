//! The volumes of a pod, and the paths of their files.

use std::path::{Component, Path, PathBuf};

use super::pod::Pod;
use crate::{
    cli::manifest::{ConfigMapEntry, list, text},
    config::documents::Item,
};

pub(super) enum VolumeContent<'n> {
    ConfigMap {
        object: Item<'n>,
        /// The reference to it, which may select keys and rename files.
        source: Item<'n>,
    },
    /// Something outside the manifest. Holds its name.
    Missing(String),
}

/// The path of a ConfigMap's key in the container, or `None` if it is not
/// mounted there.
pub(super) fn mounted_path(
    mount: Item<'_>,
    source: Item<'_>,
    entry: &ConfigMapEntry<'_>,
) -> Option<PathBuf> {
    let selected = list(source, "items");
    let mut file = if selected.is_empty() { Some(entry.key) } else { None };
    for item in selected {
        if text(item, "key") == entry.key {
            file = Some(text(item, "path"));
            break;
        }
    }
    let file = Path::new(file?).strip_prefix(text(mount, "subPath")).ok()?;
    Some(normalized(&Path::new(text(mount, "mountPath")).join(file)))
}

pub(super) fn mount_path(mount: Item<'_>) -> PathBuf {
    normalized(Path::new(text(mount, "mountPath")))
}

pub(super) fn volume_contents<'n>(pod: &Pod<'n>, mount: Item<'_>) -> Vec<VolumeContent<'n>> {
    let volume_name = text(mount, "name");
    let Some(volume) = find_volume(pod, volume_name) else {
        return vec![VolumeContent::Missing(format!("the volume {volume_name}"))];
    };
    let Some(sources) = volume.get_path(&["projected", "sources"]) else {
        return vec![volume_content(pod, volume_name, volume)];
    };
    let mut contents = Vec::new();
    for source in sources.list() {
        contents.push(volume_content(pod, volume_name, source));
    }
    contents
}

fn volume_content<'n>(pod: &Pod<'n>, volume_name: &str, source: Item<'n>) -> VolumeContent<'n> {
    if let Some(map) = source.get("configMap") {
        let name = text(map, "name");
        return match pod.config_map(name) {
            Some(object) => VolumeContent::ConfigMap { object, source: map },
            None => VolumeContent::Missing(format!("the ConfigMap {name}")),
        };
    }
    let Some(secret) = source.get("secret") else {
        return VolumeContent::Missing(format!("the volume {volume_name}"));
    };
    let name = match text(secret, "secretName") {
        "" => text(secret, "name"),
        name => name,
    };
    VolumeContent::Missing(format!("the Secret {name}"))
}

/// Returns true if Kubernetes fills the mount with symbolic links, by way of a
/// directory `..data`.
pub(super) fn has_links(pod: &Pod<'_>, mount: Item<'_>) -> bool {
    let Some(volume) = find_volume(pod, text(mount, "name")) else { return false };
    let is_updated = volume.get("configMap").is_some() || volume.get("projected").is_some();
    is_updated && text(mount, "subPath").is_empty()
}

fn find_volume<'n>(pod: &Pod<'n>, wanted_name: &str) -> Option<Item<'n>> {
    let mut volumes = pod.spec.get("volumes")?.list();
    volumes.find(|volume| text(*volume, "name") == wanted_name)
}

/// `path` without `.` and repeated slashes.
fn normalized(path: &Path) -> PathBuf {
    let mut normalized = PathBuf::new();
    for component in path.components() {
        if component != Component::CurDir {
            normalized.push(component);
        }
    }
    normalized
}
