//! The program while it runs, and how it ended.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than anything takes on a busy machine; shorter than a CI's patience.
const PATIENCE: Duration = Duration::from_secs(90);

/// The program, running. Killed when dropped: a test that fails leaves no process.
pub(crate) struct Program {
    child: Child,
    /// Lines of standard error. Closed when the program ends: nobody else may hold that stream.
    news: Receiver<String>,
    /// Lines of standard output.
    results: Receiver<String>,
    heard: String,
}

/// How the program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Program {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            news: lines_of(child.stderr.take().unwrap()),
            results: lines_of(child.stdout.take().unwrap()),
            child,
            heard: String::new(),
        }
    }

    /// Waits until the program says `text` on standard error, and returns that line.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            match self.news.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.hear(&line);
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(why) => panic!("{why} while waiting for {text:?}; heard:\n{}", self.heard),
            }
        }
    }

    /// Waits for the next line of standard output.
    pub(crate) fn next_result(&mut self) -> String {
        self.results.recv_timeout(PATIENCE).unwrap()
    }

    fn hear(&mut self, line: &str) {
        self.heard.push_str(line);
        self.heard.push('\n');
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Stops the program for as long as said, as a busy machine or a closed lid does.
    pub(crate) fn stop_for(&self, stall: Duration) {
        self.signal(Signal::SIGSTOP);
        for _tick in 0..stall.as_millis() / 10 {
            thread::park_timeout(Duration::from_millis(10));
        }
        self.signal(Signal::SIGCONT);
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Ended {
        loop {
            match self.news.recv_timeout(PATIENCE) {
                Ok(line) => self.hear(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("it does not end; heard:\n{}", self.heard)
                }
            }
        }
        Ended {
            status: self.child.wait().unwrap(),
            stdout: self.results.iter().map(|line| line + "\n").collect(),
            stderr: std::mem::take(&mut self.heard),
        }
    }
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (say, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            // A test that has ended listens no more.
            if say.send(line.unwrap()).is_err() {
                break;
            }
        }
    });
    lines
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.is_running() {
            self.signal(Signal::SIGKILL);
            self.child.wait().unwrap();
        }
    }
}

impl Ended {
    /// Checks the exit code, and shows all that was said when it is another.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self
    }

    /// Checks that standard error says each of `texts`.
    #[track_caller]
    pub(crate) fn says(&self, texts: &[&str]) {
        // Diagnostics are wrapped and framed for the eye.
        let words = |text: &str| {
            let words = text.split_whitespace().filter(|word| *word != "|");
            words.collect::<Vec<_>>().join(" ")
        };
        let said = words(&self.stderr);
        for text in texts {
            assert!(
                said.contains(&words(text)),
                "it does not say {text:?}: {self}"
            );
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n-- stdout\n{}-- stderr\n{}",
            self.status, self.stdout, self.stderr
        )
    }
}

/// Waits until `holds`, a minute at most.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _look in 0..6_000 {
        if holds() {
            return;
        }
        thread::park_timeout(Duration::from_millis(10));
    }
    panic!("waited for {what}");
}
