//! A file or directory, followed: read at first, and again whenever it has changed, or one of the files that it names.
//!
//! ```text
//!  inotify says something ─┐
//!                          ├─► other fingerprint? ─► quiet for 100 ms? ─► read ─► same fingerprint still? ─► say
//!  nothing for 5 s ────────┘         no: wait on        no: look again              no: read again
//! ```
//!
//! inotify is only an alarm clock; the [`Fingerprint`] decides. So it does not matter in which way a file changes (written in
//! place, replaced by rename, a ConfigMap's `..data` turned over) nor whether the file system has inotify at all (NFS): then
//! the look every few seconds finds the change.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use levee_api::diagnostic::Diagnostic;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::files::{self, Fingerprint};
use super::{Closed, Event, Outlet, Source};

/// A change is read when nothing has changed for so long: an editor or a copy writes in several steps.
const QUIET: Duration = Duration::from_millis(100);

/// … and after so long even if it never is quiet.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often to look without an alarm; also how soon the thread ends when nobody listens any more.
const LOOK: Duration = Duration::from_secs(5);

/// Pause after an alarm, so that a busy directory costs fifty looks a second at most.
const BREATH: Duration = Duration::from_millis(20);

/// Everything that can make a path mean something else.
const ALARMS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVE_SELF);

/// A file or directory of objects.
#[derive(Debug, Clone)]
pub struct FileSource {
    path: PathBuf,
}

impl FileSource {
    /// Of a path, which need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        FileSource { path: path.into() }
    }
}

impl Source for FileSource {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn start(self: Box<Self>, outlet: Outlet) -> io::Result<()> {
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            let read = |path: &Path| (list(path), None);
            follow(&self.path, || outlet.is_closed(), read, |events| outlet.say(events));
        })?;
        Ok(())
    }
}

/// Reads a path at first and whenever it has changed, and says what it read, until nobody listens any more. With what it reads, `read`
/// tells which other files belong to it; `None` if that cannot be told now, and then it is those that did before.
pub(crate) fn follow<T>(
    path: &Path,
    is_closed: impl Fn() -> bool,
    read: impl Fn(&Path) -> (T, Option<Vec<PathBuf>>),
    say: impl Fn(T) -> Result<(), Closed>,
) {
    let alarm = Alarm::new();
    let mut seen: Option<Vec<Fingerprint>> = None;
    let mut paths = vec![path.to_owned()];
    while !is_closed() {
        // Before looking, so that no change falls between.
        for path in &paths {
            alarm.watch(path);
        }
        let mut now = look(&paths);
        if seen.as_ref() != Some(&now) {
            if seen.is_some() {
                now = settled(&paths, now, &alarm);
            }
            let (content, others) = read(path);
            // Read while it was changing: what was read may be half of the old and half of the new.
            if look(&paths) != now {
                std::thread::sleep(QUIET);
                continue;
            }
            let all = others.map(|others| std::iter::once(path.to_owned()).chain(others).collect());
            if let Some(all) = all.filter(|all| *all != paths) {
                // They were not looked at before they were read.
                paths = all;
                continue;
            }
            if say(content).is_err() {
                return;
            }
            seen = Some(now);
        }
        alarm.wait(LOOK);
    }
}

fn look(paths: &[PathBuf]) -> Vec<Fingerprint> {
    paths.iter().map(|path| Fingerprint::of(path)).collect()
}

/// Waits until nothing has changed for a while.
fn settled(paths: &[PathBuf], mut now: Vec<Fingerprint>, alarm: &Alarm) -> Vec<Fingerprint> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        std::thread::sleep(QUIET);
        alarm.drain();
        let later = look(paths);
        if later == now {
            break;
        }
        now = later;
    }
    now
}

/// The whole path as a list, or why there is none.
fn list(path: &Path) -> Vec<Event> {
    if !Fingerprint::is_regular(path) {
        // To read a FIFO or a terminal could take for ever.
        let mistake = Diagnostic::new(path.display().to_string(), "this is neither a file nor a directory");
        return vec![Event::Failed(vec![mistake])];
    }
    let reading = files::read_path(path);
    if !reading.mistakes.is_empty() {
        return vec![Event::Failed(reading.mistakes)];
    }
    let mut events = vec![Event::ListBegins];
    events.extend(reading.objects.into_iter().map(|object| Event::Listed(Box::new(object))));
    events.extend(reading.notices.into_iter().map(Event::Noticed));
    events.push(Event::ListComplete);
    events
}

/// inotify, or nothing where there is none.
struct Alarm(Option<OwnedFd>);

impl Alarm {
    fn new() -> Self {
        match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Ok(fd) => Alarm(Some(fd)),
            Err(error) => {
                tracing::info!(%error, "no inotify: changes of files are seen within {} s", LOOK.as_secs());
                Alarm(None)
            }
        }
    }

    /// Watches whatever the path now consists of. To watch the same again changes nothing; what is deleted unwatches itself.
    fn watch(&self, path: &Path) {
        let Some(fd) = &self.0 else { return };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // The directory that it is in, for renames; itself; and files in it that are links into another directory.
        for watched in [parent, path].into_iter().map(Path::to_owned).chain(files::files(path).unwrap_or_default()) {
            // What is not there cannot be watched; its directory can.
            let _ = inotify::add_watch(fd, &watched, ALARMS);
        }
    }

    /// Until something happens, but not longer.
    fn wait(&self, longest: Duration) {
        let Some(fd) = &self.0 else {
            std::thread::sleep(longest);
            return;
        };
        let timeout = Timespec { tv_sec: i64::try_from(longest.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
        // An error (EINTR) is as good as an alarm: we look.
        let _ = poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout));
        std::thread::sleep(BREATH);
        self.drain();
    }

    /// Forgets what has happened so far.
    fn drain(&self) {
        let Some(fd) = &self.0 else { return };
        let mut buffer = [0; 4096];
        while rustix::io::read(fd, &mut buffer).is_ok_and(|length| length > 0) {}
    }
}
