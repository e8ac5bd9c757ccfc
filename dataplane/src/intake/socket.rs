//! The socket's file: made, guarded, and removed.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A listening control socket. Its file goes when this goes.
#[derive(Debug)]
pub struct Listening {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process answers there.
    #[error("{0}: another levee-dataplane answers on this socket; stop it, or set another `socket`")]
    InUse(PathBuf),
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

impl Listening {
    /// The listener itself.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn listener(&self) -> io::Result<std::os::unix::net::UnixListener> {
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

/// Listens at `path`: mode 0660, owned by `group` if there is one. A file that a dead daemon left is removed; one that
/// somebody still answers on is not.
///
/// # Errors
/// See [`BindError`].
pub fn bind(path: &Path, group: Option<&str>) -> Result<Listening, BindError> {
    let io_error = |what| move |source| BindError::Io { path: path.to_owned(), what, source };
    let gid = group.map(gid_of).transpose()?;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(io_error("create its directory"))?;
    }
    remove_stale(path)?;
    let listener = listen_privately(path).map_err(io_error("listen"))?;
    // From here on the file is ours to remove, whatever fails.
    let listening = Listening { listener, path: path.to_owned() };
    if let Some(gid) = gid {
        std::os::unix::fs::chown(path, None, Some(gid)).map_err(io_error("give it to its group"))?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(io_error("set its mode"))?;
    listening.listener.set_nonblocking(true).map_err(io_error("make it non-blocking"))?;
    Ok(listening)
}

/// Binds so that nobody but us can connect before the mode is set: a socket's mode comes from the umask, which belongs to
/// the whole process, so it is bound under another name inside a directory of our own, and moved.
fn listen_privately(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let private = directory.join(format!(".l{}", std::process::id()));
    let staged = private.join("s");
    if staged.as_os_str().len() > 107 {
        // The detour would be too long for `sun_path`, so close the door at once instead.
        let listener = std::os::unix::net::UnixListener::bind(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        return Ok(listener);
    }
    let _ = std::fs::remove_dir_all(&private);
    std::fs::DirBuilder::new().create(&private)?;
    let bound = std::fs::set_permissions(&private, Permissions::from_mode(0o700))
        .and_then(|()| std::os::unix::net::UnixListener::bind(&staged))
        .and_then(|listener| {
            std::fs::set_permissions(&staged, Permissions::from_mode(0o600))?;
            std::fs::rename(&staged, path)?;
            Ok(listener)
        });
    let _ = std::fs::remove_dir_all(&private);
    bound
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let io_error = |what| move |source| BindError::Io { path: path.to_owned(), what, source };
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("look at it")(error)),
    };
    if !kind.is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        // The one error that says nobody listens; a full backlog (EAGAIN) does not.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(io_error("remove the stale socket"))
        }
        Ok(_) | Err(_) => Err(BindError::InUse(path.to_owned())),
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
