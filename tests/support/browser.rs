//! A real Chromium, driven by the JSON protocol of WebDriver.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Read, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    http::{self, Reply},
    network,
    process::Process,
    wait::eventually,
};

/// The time for one command. Starting the browser takes longest.
const PATIENCE: Duration = Duration::from_secs(300);

/// The member that marks an element in WebDriver's JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window. It is closed when dropped.
#[derive(Debug)]
pub struct Browser {
    driver: SocketAddr,
    session: String,
    _process: Process,
}

/// An element of the page.
#[derive(Clone, Debug)]
pub struct Element(String);

impl Browser {
    /// Starts a browser that reaches `host` and nothing else.
    pub fn start(host: Ipv4Addr) -> Self {
        let files = TempDir::new().unwrap();
        let profile = files.path().join("profile");
        let driver = SocketAddr::from((Ipv4Addr::LOCALHOST, network::free_port()));
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={}", driver.port())).env("HOME", files.path());
        let mut process = Process::start("chromedriver (see tests/setup.sh)", &mut command, files);
        process.wait_until("accepts connections", || TcpStream::connect(driver));
        let mut browser = Self { driver, session: String::new(), _process: process };
        let arguments = [
            "--headless=new".to_owned(),
            // Its sandbox needs rights that containers do not have.
            "--no-sandbox".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-gpu".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            "--no-proxy-server".to_owned(),
            "--window-size=1200,1000".to_owned(),
            format!("--user-data-dir={}", profile.display()),
            format!("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {host}"),
        ];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "timeouts": { "script": 60_000, "pageLoad": 180_000 },
        }}});
        let created = browser.send("POST", "/session", &capabilities);
        created["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        browser
    }

    /// Opens an address.
    pub fn open(&self, address: &str) {
        self.command("POST", "/url", &json!({ "url": address }));
    }

    /// The address that the bar shows.
    pub fn address(&self) -> String {
        self.command("GET", "/url", &Value::Null).as_str().unwrap().to_owned()
    }

    /// The result of the body of a function.
    pub fn run(&self, script: &str) -> Value {
        self.command("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The result of an asynchronous function, which is called with nothing.
    pub fn run_async(&self, function: &str) -> Value {
        let script = format!(
            "const done = arguments[0]; ({function})().then(done, (error) => done(`failed: ${{error}}`));"
        );
        self.command("POST", "/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// The first element for a CSS selector whose text contains `text`, as soon as there is one.
    #[track_caller]
    pub fn find(&self, selector: &str, text: &str) -> Element {
        let script = format!(
            "return [...document.querySelectorAll({})].find((it) => it.textContent.includes({}))",
            json!(selector),
            json!(text)
        );
        eventually(&format!("{selector} with {text:?}"), || {
            let found = self.run(&script);
            match found[ELEMENT].as_str() {
                Some(id) => Ok(Element(id.to_owned())),
                None => Err(self.text()),
            }
        })
    }

    /// The text of the page as it is shown.
    pub fn text(&self) -> String {
        self.run("return document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Clicks on an element.
    pub fn click(&self, element: &Element) {
        self.command("POST", &format!("/element/{}/click", element.0), &json!({}));
    }

    /// Types into an element.
    pub fn type_into(&self, element: &Element, text: &str) {
        self.command("POST", &format!("/element/{}/value", element.0), &json!({ "text": text }));
    }

    /// Presses a key where the focus is. Special keys are characters from U+E000.
    pub fn press(&self, key: char) {
        let actions = json!([
            { "type": "keyDown", "value": key.to_string() },
            { "type": "keyUp", "value": key.to_string() },
        ]);
        let source = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.command("POST", "/actions", &json!({ "actions": [source] }));
    }

    /// Asks pages for light or dark colours.
    pub fn prefer_dark(&self, is_dark: bool) {
        let value = if is_dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": value });
        let parameters = json!({ "features": [feature] });
        let command = json!({ "cmd": "Emulation.setEmulatedMedia", "params": parameters });
        self.command("POST", "/goog/cdp/execute", &command);
    }

    /// Writes a picture of the window as PNG.
    pub fn save_picture(&self, path: &Path) {
        let picture = self.command("GET", "/screenshot", &Value::Null);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, STANDARD.decode(picture.as_str().unwrap()).unwrap()).unwrap();
    }

    /// The messages in the console since the last call.
    pub fn console(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in self.log("browser") {
            lines.push(entry["message"].as_str().unwrap().to_owned());
        }
        lines
    }

    /// The addresses that pages have requested since the last call.
    pub fn requests(&self) -> Vec<String> {
        let mut addresses = Vec::new();
        for entry in self.log("performance") {
            let event: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            let event = &event["message"];
            if event["method"] == "Network.requestWillBeSent" {
                let address = event["params"]["request"]["url"].as_str().unwrap();
                addresses.push(address.to_owned());
            }
        }
        addresses
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.command("POST", "/se/log", &json!({ "type": kind }));
        entries.as_array().unwrap().clone()
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        self.send(method, &format!("/session/{}{path}", self.session), body)
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let reply = self.try_send(method, path, body);
        let reply = reply.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let mut answer = reply.json();
        assert_eq!(reply.status, 200, "{method} {path}: {answer}");
        answer["value"].take()
    }

    fn try_send(&self, method: &str, path: &str, body: &Value) -> io::Result<Reply> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
        write!(request, "connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            .unwrap();
        let mut stream = TcpStream::connect(self.driver)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        // The driver keeps the connection open.
        let (mut reply, mut piece) = (Vec::new(), [0; 1 << 16]);
        loop {
            let length = stream.read(&mut piece)?;
            reply.extend_from_slice(&piece[..length]);
            let parsed = http::parse(&reply);
            let is_whole = |reply: &Reply| {
                let length = reply.header("content-length").unwrap_or_default();
                length.parse() == Ok(reply.body.len())
            };
            match parsed {
                Some(reply) if is_whole(&reply) => return Ok(reply),
                _ if length == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser only if it is asked to.
        let path = format!("/session/{}", self.session);
        let _ = self.try_send("DELETE", &path, &Value::Null);
    }
}
