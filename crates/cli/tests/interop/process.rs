//! Nodes as processes that do not outlive their test, and waiting for what they do.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use selvedge_devnet::ports::HeldPort;

/// How long anything may take on a machine that is busy. Only a failing test waits for so long.
pub const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);

/// A running node, killed when dropped. What it prints is in its log.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Kills it when this program ends without dropping anything, such as by a signal.
    guard: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a node that adds what it prints to the file `log`.
    pub fn start(command: &mut Command, log: PathBuf) -> Self {
        let file = File::options().create(true).append(true).open(&log);
        let file = file.unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        // The other end of its input closes with this program.
        let guard = Command::new("sh")
            .args(["-c", "read -r _; kill -9 \"$1\"", "guard"])
            .arg(child.id().to_string())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, guard, log }
    }

    /// Panics with the end of its log if it has ended.
    pub fn check(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            let log = tail(&self.log);
            panic!("{} ended with {status}:\n{log}", self.log.display());
        }
    }

    /// Whether it has ended by itself, with a failure.
    pub fn has_failed(&mut self) -> Result<(), &'static str> {
        match self.child.try_wait().unwrap() {
            None => Err("it runs"),
            Some(status) if status.success() => Err("it has ended without a failure"),
            Some(_) => Ok(()),
        }
    }

    /// The process's number.
    #[allow(dead_code, reason = "for the measurement in `tests/idle.rs`")]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed, and what earlier processes have with the same log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The guard first, so that it cannot hit another process that gets the same number.
        for process in [&mut self.guard, &mut self.child] {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// Waits until `condition` holds; panics with `what` and its last answer after [`PATIENCE`].
#[track_caller]
pub fn eventually<T, E: std::fmt::Debug>(
    what: &str,
    mut condition: impl FnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(reason) if start.elapsed() > PATIENCE => {
                panic!("not within {PATIENCE:?}: {what}: {reason:?}")
            }
            Err(_) => sleep(LOOK_AGAIN),
        }
    }
}

/// Looks again and again that `condition` holds, for as long as `period`.
#[track_caller]
pub fn throughout(what: &str, period: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < period {
        assert!(condition(), "after {:?}: not {what}", start.elapsed());
        sleep(LOOK_AGAIN);
    }
}

/// Ports of loopback that were free, no two the same. This process holds them for its nodes until it ends.
pub fn free_ports(count: usize) -> Vec<u16> {
    let hold = |_| {
        let port = HeldPort::free().unwrap();
        let number = port.number();
        std::mem::forget(port);
        number
    };
    (0..count).map(hold).collect()
}

/// The body of a successful answer to a GET request on loopback.
pub fn http_get(port: u16, path: &str) -> Result<String, String> {
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(HTTP_TIMEOUT))?;
        // An answer in this version comes in one piece.
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|error| format!("127.0.0.1:{port}{path}: {error}"))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        _ => Err(answer),
    }
}

/// The sum of the samples of a metric whose labels include all of `labels`, in the text format of
/// Prometheus; none without such a sample.
pub fn sum_of(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let sample = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let (found, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_once('}')?,
            None if rest.starts_with(' ') => ("", rest),
            None => return None,
        };
        let has = |(label, value): &(&str, &str)| {
            found
                .split(',')
                .any(|pair| pair == format!("{label}=\"{value}\""))
        };
        if !labels.iter().all(has) {
            return None;
        }
        value.trim().parse::<f64>().ok()
    };
    text.lines()
        .filter_map(sample)
        .fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}
