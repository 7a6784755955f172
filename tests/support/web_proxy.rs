//! A real nginx, HAProxy or Caddy.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::process::Process;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebProxyKind {
    Nginx,
    Haproxy,
    Caddy,
}

/// A proxy in the foreground. It is killed when dropped.
#[derive(Debug)]
pub struct WebProxy {
    /// The address that its configuration listens on.
    pub address: SocketAddr,
    process: Process,
}

impl WebProxy {
    /// Starts a proxy with `files`, names and texts, in its working directory. The first is
    /// its configuration.
    pub fn start(kind: WebProxyKind, address: SocketAddr, files: &[(&str, String)]) -> Self {
        let directory = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let path = directory.path().join(files[0].0);
        let (name, mut command) = match kind {
            WebProxyKind::Nginx => {
                let text = files[0].1.replacen("http {", NGINX_DIRECTORIES, 1);
                fs::write(&path, text).unwrap();
                let mut command = Command::new(binary("nginx", "sbin"));
                command.arg("-p").arg(directory.path()).args(["-e", "stderr", "-c"]).arg(&path);
                // Without a master process, none is left when this one is killed.
                command.args(["-g", "daemon off; master_process off; pid pid;"]);
                ("nginx", command)
            }
            WebProxyKind::Haproxy => {
                let mut command = Command::new(binary("haproxy", "sbin"));
                command.args(["-db", "-f"]).arg(&path);
                ("haproxy", command)
            }
            WebProxyKind::Caddy => {
                let mut command = Command::new(binary("caddy", "bin"));
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&path);
                for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
                    command.env(variable, directory.path());
                }
                ("caddy", command)
            }
        };
        command.current_dir(directory.path());
        let mut process = Process::start(name, &mut command, directory);
        process.wait_until("accepts connections", || TcpStream::connect(address));
        Self { address, process }
    }

    /// The output so far.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// Directories that exist only where nginx is installed.
const NGINX_DIRECTORIES: &str = "http {
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
";

/// The program that `tests/setup.sh` unpacks, or the one that is installed: Debian installs
/// servers in a directory that is only in the `PATH` of root.
fn binary(name: &str, directory: &str) -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools");
    let installed = Path::new("/usr").join(directory).join(name);
    for path in [tools.join(name).join("usr").join(directory).join(name), installed] {
        if path.exists() {
            return path;
        }
    }
    name.into()
}
