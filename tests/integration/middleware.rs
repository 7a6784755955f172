//! The examples of middleware, each in a server of its language. Express and the Servlet API
//! are replaced by the little of them that the examples use. `make test` does not require
//! Java, and leaves out Go, whose compiler needs 20 s; `make test-middleware` requires both.

use std::{
    env, fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use axum::{Router, http::request::Parts, routing::any};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{
    faulty_proxy::FaultyProxy,
    http::{self, Reply},
    network::{free_port, unused_host},
    process::Process,
    tollgate::Tollgate,
    wait::eventually,
};
use tokio::net::TcpListener;
use tower::layer::layer_fn;

#[path = "../../examples/middleware/rust/rate_limit.rs"]
mod rate_limit;

use self::rate_limit::RateLimit;

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 3, name: per-user }
";

const PORT: u16 = 62_095;

/// A service behind a proxy that can fail.
struct Limiter {
    _tollgate: Tollgate,
    proxy: FaultyProxy,
}

impl Limiter {
    async fn start() -> Self {
        let port = free_port();
        let text = port.to_string();
        let settings = [("HOST", "127.0.0.1"), ("PORT", &text), ("JSON_MAX_BYTES", "1000")];
        let tollgate = Tollgate::start_ready(RULES, &settings);
        Self { _tollgate: tollgate, proxy: FaultyProxy::start(port).await }
    }

    fn url(&self) -> String {
        format!("http://{}/json", self.proxy.address())
    }

    /// Checks a server with the paths `/patient` and `/open`, which fail open, and `/closed`.
    /// `/patient` waits for a minute, the others for 300 ms.
    fn check(&self, server: SocketAddr) {
        let ask = |path: &str, user: &str| http::get(server, path, &[("x-user", user.as_bytes())]);
        for user in ["ann", "a\"b\\c},{"] {
            for _ in 0..3 {
                assert!(is_passed(&ask("/patient", user)), "{user}");
            }
            for _ in 0..3 {
                check_refusal(&ask("/patient", user));
            }
        }
        let connections = self.proxy.accepted();
        assert!(connections <= 3, "{connections} connections for 12 calls");
        // The service refuses to read so long a question.
        assert!(is_unavailable(&ask("/patient", &"x".repeat(2_000))));

        let is_limited =
            || ask("/open", "ann").status == 429 && ask("/closed", "ann").status == 429;
        eventually("the limit", is_limited);
        self.proxy.refuse_connections();
        assert!(is_passed(&ask("/open", "ann")), "down");
        assert!(is_unavailable(&ask("/closed", "ann")), "down");
        self.proxy.accept_connections();
        eventually("the limit after a failure", is_limited);
        // Without a deadline there would be no answer.
        self.proxy.start_dropping();
        assert!(is_passed(&ask("/open", "ann")), "hanging");
        assert!(is_unavailable(&ask("/closed", "ann")), "hanging");
        self.proxy.stop_dropping();
        eventually("the limit after a hang", is_limited);
    }

    /// [`Self::check`], for the server that `command` starts. It gets its host and port, the
    /// URL of the service, and the directory of the example.
    fn check_process(&self, mut command: Command, example: &Path) {
        let server = SocketAddr::new(unused_host().into(), PORT);
        command.args([&server.ip().to_string(), &PORT.to_string(), &self.url()]).arg(example);
        let mut process = Process::start("server", &mut command, TempDir::new().unwrap());
        process.wait_until("listens", || TcpStream::connect(server));
        self.check(server);
    }
}

fn is_passed(reply: &Reply) -> bool {
    reply.status == 200 && reply.text() == "hello"
}

fn is_unavailable(reply: &Reply) -> bool {
    reply.status == 503 && reply.body.is_empty()
}

/// The fields for clients are there, and nothing else of the answer of the service.
fn check_refusal(reply: &Reply) {
    assert_eq!((reply.status, reply.text().as_str()), (429, ""));
    let wait: u32 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!(0 < wait);
    let policy = reply.header("ratelimit-policy").unwrap();
    assert_eq!(policy, "\"per-user\";q=3;w=31536000");
    let limit = reply.header("ratelimit").unwrap();
    assert!(limit.starts_with("\"per-user\";r=0;t="), "{limit}");
}

/// A file of this repository.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a compiler in `directory`.
fn compile(command: &mut Command, directory: &Path) {
    let output = command.current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Whether the examples for all languages are to be run, or to fail.
fn all_examples() -> bool {
    env::var_os("ALL_EXAMPLES").is_some()
}

fn entries(request: &Parts) -> Value {
    json!([{ "key": "user", "value": request.headers["x-user"].to_str().unwrap() }])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_for_rust_limits_requests() {
    let limiter = Limiter::start().await;
    let limited = |timeout, fail_open| {
        let limit = RateLimit {
            client: Client::builder(TokioExecutor::new()).build_http(),
            url: limiter.url().parse().unwrap(),
            domain: "shop",
            entries,
            timeout,
            fail_open,
        };
        any(async || "hello").layer(layer_fn(move |it| limit.clone().protect(it)))
    };
    let router: Router = Router::new()
        .route("/patient", limited(Duration::from_secs(60), true))
        .route("/open", limited(Duration::from_millis(300), true))
        .route("/closed", limited(Duration::from_millis(300), false));
    let listener = TcpListener::bind((unused_host(), PORT)).await.unwrap();
    let server = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, router).into_future());
    limiter.check(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_for_python_limits_requests() {
    // `tests/setup.sh` makes it.
    let python = file("target/test-tools/venv/bin/python");
    let mut command = Command::new(if python.exists() { python } else { "python3".into() });
    command.arg("-B").arg(file("tests/integration/middleware/app.py"));
    Limiter::start().await.check_process(command, &file("examples/middleware/python"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_for_node_limits_requests() {
    let mut command = Command::new("node");
    command.arg(file("tests/integration/middleware/app.mjs"));
    Limiter::start().await.check_process(command, &file("examples/middleware/node"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_for_go_limits_requests() {
    if !all_examples() {
        return;
    }
    let example = file("examples/middleware/go");
    let module = TempDir::new().unwrap();
    fs::create_dir(module.path().join("ratelimit")).unwrap();
    fs::write(module.path().join("go.mod"), "module app\n\ngo 1.19\n").unwrap();
    let source = module.path().join("ratelimit/ratelimit.go");
    fs::copy(example.join("ratelimit.go"), source).unwrap();
    let main = file("tests/integration/middleware/main.go");
    fs::copy(main, module.path().join("main.go")).unwrap();
    let mut go = Command::new("go");
    go.args(["build", "-o", "server", "."]).env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "local");
    compile(&mut go, module.path());
    let server = Command::new(module.path().join("server"));
    Limiter::start().await.check_process(server, &example);
}

/// The version of the JDK; `None` if there is none.
fn java_version() -> Option<u32> {
    let output = Command::new("javac").arg("-version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.strip_prefix("javac ")?.split(['.', '-', '\n']).next()?.parse().ok()
}

/// The part of the Servlet API that the filter uses: files and their content.
const SERVLET_API: [(&str, &str); 7] = [
    (
        "Filter",
        "package jakarta.servlet;
        public interface Filter {
            void doFilter(ServletRequest request, ServletResponse response, FilterChain chain)
                    throws java.io.IOException, ServletException;
        }",
    ),
    (
        "FilterChain",
        "package jakarta.servlet;
        public interface FilterChain {
            void doFilter(ServletRequest request, ServletResponse response)
                    throws java.io.IOException, ServletException;
        }",
    ),
    ("ServletRequest", "package jakarta.servlet; public interface ServletRequest {}"),
    ("ServletResponse", "package jakarta.servlet; public interface ServletResponse {}"),
    (
        "ServletException",
        "package jakarta.servlet; public class ServletException extends Exception {}",
    ),
    (
        "HttpServletRequest",
        "package jakarta.servlet.http;
        public interface HttpServletRequest extends jakarta.servlet.ServletRequest {
            String getHeader(String name);
        }",
    ),
    (
        "HttpServletResponse",
        "package jakarta.servlet.http;
        public interface HttpServletResponse extends jakarta.servlet.ServletResponse {
            void setStatus(int status);
            void setHeader(String name, String value);
        }",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_for_java_limits_requests() {
    if !all_examples() && java_version().is_none_or(|version| version < 17) {
        return;
    }
    let example = file("examples/middleware/java");
    let classes = TempDir::new().unwrap();
    let mut javac = Command::new("javac");
    javac.args(["-d", "."]);
    // The compiler takes files in its own directory for classes without a package.
    fs::create_dir(classes.path().join("api")).unwrap();
    for (name, text) in SERVLET_API {
        let source = format!("api/{name}.java");
        fs::write(classes.path().join(&source), text).unwrap();
        javac.arg(source);
    }
    javac.arg(example.join("RateLimitFilter.java"));
    javac.arg(file("tests/integration/middleware/App.java"));
    compile(&mut javac, classes.path());
    let mut server = Command::new("java");
    server.args(["-XX:TieredStopAtLevel=1", "-cp"]).arg(classes.path()).arg("App");
    Limiter::start().await.check_process(server, &example);
}
