//! Sockets to ask: the dataplane's own with a double behind it, and others that just say something.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use levee_dataplane::intake::rights::Policy;
use levee_dataplane::intake::{Listening, serve};
use tokio::sync::oneshot;

use crate::double::Double;

/// A directory of its own for a test, gone with it.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("levee-running-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Directory(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file with this content.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).expect("written");
        path.display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A dataplane's control socket, gone with this.
pub(crate) struct Dataplane {
    pub(crate) directory: Directory,
    pub(crate) double: Arc<Double>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Dataplane {
    pub(crate) fn start() -> Self {
        // Who runs the tests may program.
        Self::with_policy(Policy::new(uid(), Vec::new()))
    }

    fn with_policy(policy: Policy) -> Self {
        let directory = Directory::new();
        let double = Arc::new(Double::new());
        let (stop, stopped) = oneshot::channel::<()>();
        let listening = Listening::bind(&directory.path("dataplane.sock"), None, "levee-dataplane").expect("bound");
        let subject = Arc::clone(&double);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = listening.listener().expect("a listener");
                serve(listener, subject, policy, async { drop(stopped.await) }).await.expect("served");
            });
        });
        Dataplane { directory, double, stop: Some(stop), thread: Some(thread) }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        levee_at(&self.directory.path("dataplane.sock"), &self.directory.path("control.sock"), arguments)
    }

    /// Runs the binary to its end.
    pub(crate) fn levee(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("levee runs")
    }

    /// What it prints when all is well.
    pub(crate) fn prints(&self, arguments: &[&str]) -> String {
        let output = self.levee(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    /// The same as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.prints(&[arguments, &["-o", "json"]].concat())).expect("JSON")
    }

    /// Runs it for as long as the test wants; its output is a pipe.
    pub(crate) fn follow(&self, arguments: &[&str]) -> Following {
        let mut child = self.command(arguments).stdout(Stdio::piped()).spawn().expect("levee runs");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Following { child, lines }
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().expect("a thread").join();
        if !std::thread::panicking() {
            ended.expect("the server ends well");
        }
    }
}

/// A command that goes on until it is dropped.
pub(crate) struct Following {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Following {
    pub(crate) fn line(&mut self) -> String {
        self.lines.next().expect("another line").expect("text")
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary, with these sockets.
pub(crate) fn levee_at(socket: &Path, control: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_levee"));
    // By the environment, as a service would.
    command.env("LEVEE_SOCKET", socket).env("LEVEE_CONTROL_SOCKET", control).args(arguments);
    command
}

/// What it says on standard error.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Answers one connection with these bytes, whatever it asks.
pub(crate) fn say_once(socket: &Path, answer: impl Into<Vec<u8>>) -> JoinHandle<()> {
    let (listener, answer) = (UnixListener::bind(socket).expect("bound"), answer.into());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        // The head of the request; a body that follows need not be read.
        let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
        let mut line = String::new();
        while reader.read_line(&mut line).expect("a line") > 2 {
            line.clear();
        }
        let _ = stream.write_all(&answer);
    })
}

/// An answer with a JSON body.
pub(crate) fn http(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn uid() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").expect("/proc").uid()
}
