//! The Unix socket that a daemon of levee's is asked on: its file, made, guarded, and removed.
//!
//! ```text
//!  a file is there ─┬─ somebody answers ──► InUse
//!                   ├─ nobody answers ────► removed: a daemon that was killed has left it
//!                   └─ no socket ─────────► NotASocket, and left alone
//!  bound in a directory of our own ─► group ─► 0660 ─► moved to its place ─► Listening ─► (dropped) removed
//! ```
//!
//! Both daemons use it. What is served on it, to how many and for how long is theirs; so is an async runtime, if they have one.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process answers there.
    #[error("{path}: another {daemon} answers on this socket; stop it, or set another `socket`")]
    InUse {
        /// The path.
        path: PathBuf,
        /// What this daemon is called.
        daemon: &'static str,
    },
    /// Something else stands in the way.
    #[error("{0}: exists and is not a socket; remove it, or set another `socket`")]
    NotASocket(PathBuf),
    /// `socket_group` names nobody.
    #[error("group `{0}` does not exist; `getent group` lists those that do")]
    NoGroup(String),
    /// The system refused.
    #[error("{path}: cannot {what}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl BindError {
    fn io(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> BindError {
        move |source| BindError::Io { path: path.to_owned(), what, source }
    }
}

/// A listening socket, non-blocking. Its file goes when this goes.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    path: PathBuf,
}

impl Listening {
    /// Listens at `path`, whose directory is made if there is none: mode 0660, owned by `group` (a name or a number) if there is one. A
    /// file that a dead process left is removed; one that somebody still answers on is not. `daemon` is what this one is called.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(path: &Path, group: Option<&str>, daemon: &'static str) -> Result<Listening, BindError> {
        let gid = group.map(gid_of).transpose()?;
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(BindError::io(path, "create its directory"))?;
        }
        remove_stale(path, daemon)?;
        let listener = listen_privately(path).map_err(BindError::io(path, "listen"))?;
        // From here on the file is ours to remove, whatever fails.
        let listening = Listening { listener, path: path.to_owned() };
        if let Some(gid) = gid {
            std::os::unix::fs::chown(path, None, Some(gid)).map_err(BindError::io(path, "give it to its group"))?;
        }
        std::fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(BindError::io(path, "set its mode"))?;
        listening.listener.set_nonblocking(true).map_err(BindError::io(path, "make it non-blocking"))?;
        Ok(listening)
    }

    /// The listener itself.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // Nobody can be told, and the next start removes a stale file by itself.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What fits into `sun_path` with the zero behind it (unix(7)).
const LONGEST: usize = 107;

/// Binds so that nobody but us can connect before the mode is set: a socket's mode comes from the umask, which belongs to
/// the whole process, so it is bound inside a directory of our own, and moved.
fn listen_privately(path: &Path) -> io::Result<UnixListener> {
    let private = private(path);
    let staged = private.join("s");
    if staged.as_os_str().len() > LONGEST {
        // The detour would be too long, so close the door at once instead.
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        return Ok(listener);
    }
    // Left by a process of the same number that was killed just here.
    let _ = std::fs::remove_dir_all(&private);
    DirBuilder::new().mode(0o700).create(&private)?;
    let bound = UnixListener::bind(&staged).and_then(|listener| {
        std::fs::set_permissions(&staged, Permissions::from_mode(0o600))?;
        std::fs::rename(&staged, path)?;
        Ok(listener)
    });
    let _ = std::fs::remove_dir_all(&private);
    bound
}

/// A directory beside the socket that nobody else uses: daemons in containers share a directory, and all have the number 1.
fn private(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

fn remove_stale(path: &Path, daemon: &'static str) -> Result<(), BindError> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BindError::io(path, "look at it")(error)),
    };
    if !kind.is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        // The one error that says nobody listens; a full backlog (EAGAIN) does not.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(BindError::io(path, "remove the stale socket"))
        }
        Ok(_) | Err(_) => Err(BindError::InUse { path: path.to_owned(), daemon }),
    }
}

fn gid_of(name: &str) -> Result<u32, BindError> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) | Err(_) => Err(BindError::NoGroup(name.to_owned())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use tempfile::TempDir;

    use super::*;

    /// A directory, and a socket's path in one below it that is not there yet.
    fn place() -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("levee").join("it.sock");
        (directory, path)
    }

    fn bind(path: &Path) -> Result<Listening, BindError> {
        Listening::bind(path, None, "levee-it")
    }

    /// What is in the socket's directory.
    fn files(path: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(path.parent().unwrap()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn it_is_private_and_there_is_nothing_else() {
        let (_directory, path) = place();
        let listening = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!((files(&path), listening.path()), (vec!["it.sock".to_owned()], path.as_path()));
        // Who connects is heard, and who has nobody to hear does not wait.
        let listener = listening.listener().unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let _client = UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        drop(listening);
        assert!(files(&path).is_empty());
    }

    #[test]
    fn stale_ones_are_replaced_and_live_ones_are_not() {
        let (_directory, path) = place();
        let listening = bind(&path).unwrap();
        let error = bind(&path).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
        assert!(error.to_string().contains("another levee-it answers on this socket; stop it"), "{error}");
        drop(listening);
        // What a killed daemon leaves: a file that nobody listens on, and perhaps the directory that it bound in.
        drop(UnixListener::bind(&path).unwrap());
        std::fs::create_dir(private(&path)).unwrap();
        drop(UnixListener::bind(private(&path).join("s")).unwrap());
        let _listening = bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(files(&path), ["it.sock"]);
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let (_directory, path) = place();
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "something else").unwrap();
        assert!(matches!(bind(&path), Err(BindError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "something else");
        // Nor is one that is led to: the link may be anybody's.
        let (_elsewhere, socket) = place();
        let _other = bind(&socket).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&socket, &path).unwrap();
        assert!(matches!(bind(&path), Err(BindError::NotASocket(_))));
        let below = path.join("it.sock");
        assert!(matches!(bind(&below), Err(BindError::Io { what: "create its directory", .. })));
    }

    #[test]
    fn it_is_its_groups() {
        let (_directory, path) = place();
        let bind = |group: &str| Listening::bind(&path, Some(group), "levee-it");
        let error = bind("no-such-group").unwrap_err();
        assert!(error.to_string().contains("group `no-such-group` does not exist"), "{error}");
        assert!(!path.exists());
        let own = nix::unistd::getgid().as_raw();
        drop(bind(&own.to_string()).unwrap());
        if !nix::unistd::getuid().is_root() {
            eprintln!("SKIPPED: only root can give a file to another group");
            return;
        }
        let _listening = bind("nogroup").or_else(|_| bind("65534")).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().gid(), 65534);
    }

    #[test]
    fn a_path_that_leaves_no_room_for_a_detour_will_do() {
        let (directory, _) = place();
        let length = LONGEST - directory.path().as_os_str().len() - 1;
        let path = directory.path().join("s".repeat(length));
        let _listening = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        UnixStream::connect(&path).unwrap();
        let longer = directory.path().join("s".repeat(length + 1));
        assert!(matches!(bind(&longer), Err(BindError::Io { what: "listen", .. })));
    }
}
