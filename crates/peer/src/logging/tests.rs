use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::subscriber::with_default;
use tracing::{debug, error, info, trace, warn};

use super::*;

/// A writer whose content can be looked at.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn take(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log(spec: &str) -> (LogControl, Memory) {
    let memory = Memory::default();
    let control = LogControl::new(
        spec,
        "%{level} %{module} %{shortfunc} %{message}",
        memory.clone(),
    );
    (control.unwrap(), memory)
}

fn say_everything() {
    trace!(target: "gossip.state", "one");
    debug!(target: "gossip.state", "two");
    info!(target: "gossip.comm", peer = "a b", count = 3, "three");
    warn!(target: "msp", error = %"bad", "four");
    error!(target: "msp", "five {}", 5);
}

#[test]
fn the_specification_decides_and_can_change() {
    let (control, memory) = log("warn:gossip=debug");
    with_default(control.subscriber(), || {
        say_everything();
        assert_eq!(
            memory.take(),
            [
                "DEBUG gossip.state tests two",
                "INFO gossip.comm tests three peer=\"a b\" count=3",
                "WARN msp tests four error=bad",
                "ERROR msp tests five 5",
            ]
        );

        control.activate_spec("error:gossip.state=payload").unwrap();
        assert_eq!(control.spec(), "gossip.state=payload:error");
        say_everything();
        assert_eq!(
            memory.take(),
            [
                "PAYLOAD gossip.state tests one",
                "DEBUG gossip.state tests two",
                "ERROR msp tests five 5",
            ]
        );

        control.activate_spec("nonsense").unwrap_err();
        assert_eq!(control.spec(), "gossip.state=payload:error");

        control.activate_spec("fatal").unwrap();
        say_everything();
        assert_eq!(memory.take(), Vec::<String>::new());
        fatal("the end");
        assert_eq!(memory.take(), ["FATAL peer logging the end"]);
    });
    let written: Vec<u64> = control.entries_written().map(|(_, count)| count).to_vec();
    assert_eq!(written, [1, 2, 1, 1, 2, 0, 0, 1]);
}

#[test]
fn long_texts_are_cut_and_errors_tell_their_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    let (control, memory) = log("info");
    with_default(control.subscriber(), || {
        let outer = Outer(io::Error::other("inner"));
        info!(error = &outer as &dyn std::error::Error, "failed");
        let line = memory.take();
        assert!(
            line[0].ends_with("failed error=\"outer: inner\""),
            "{line:?}"
        );

        info!(text = ?"\u{e4}".repeat(100_000), "{}", "x".repeat(100_000));
        let line = memory.take();
        assert!(
            (32_000..33_000).contains(&line[0].len()),
            "{}",
            line[0].len()
        );
    });
}

#[test]
fn wrong_settings_are_refused() {
    let error = LogControl::new("loud", "", io::sink()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid logging specification 'loud': bad segment 'loud'"
    );
    let error = LogControl::new("", "%{level:7d}", io::sink()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "FABRIC_LOGGING_FORMAT: %{level:7d} is not understood"
    );
}
