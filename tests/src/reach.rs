//! The way from one namespace to a port of another, apart from the fabric, as a network for management is. It can be cut.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::namespace::Namespace;

/// How often a connection that is cut looks whether it still is.
const LOOK: Duration = Duration::from_millis(10);

/// What listens on 127.0.0.1 in one namespace is reached at the same port of 127.0.0.1 in another.
pub struct Reach {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    cut: AtomicBool,
    ended: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Reach {
    /// Opens the way.
    ///
    /// # Panics
    /// If the port is taken in the namespace.
    #[must_use]
    pub fn new(from: &Namespace, to: &Namespace, port: u16) -> Reach {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let to = to.clone();
        let listener = from.enter(|| TcpListener::bind(at)).expect("a port of a namespace of our own");
        let shared = Arc::new(Shared::default());
        let reach = Reach { shared: Arc::clone(&shared) };
        listener.set_nonblocking(true).expect("every socket can");
        std::thread::spawn(move || {
            while !shared.ended.load(Ordering::Relaxed) {
                // While it is cut, who connects waits in the backlog.
                match listener.accept() {
                    Ok((near, _)) if !shared.cut.load(Ordering::Relaxed) => shared.connect(near, &to, at),
                    Ok((near, _)) => shared.open().push(near),
                    Err(_) => std::thread::sleep(LOOK),
                }
            }
        });
        reach
    }

    /// Nothing arrives any more, in either direction, and nobody is told so.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::Relaxed);
    }

    /// Things arrive again, on new connections.
    pub fn heal(&self) {
        for stream in self.shared.open().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.shared.cut.store(false, Ordering::Relaxed);
    }
}

impl Drop for Reach {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.heal();
    }
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(self: &Arc<Self>, near: TcpStream, to: &Namespace, at: SocketAddr) {
        let Ok(far) = to.enter(|| TcpStream::connect(at)) else { return };
        let _ = (near.set_nonblocking(false), near.set_nodelay(true), far.set_nodelay(true));
        let (Ok(near_too), Ok(far_too), Ok(kept)) = (near.try_clone(), far.try_clone(), near.try_clone()) else {
            return;
        };
        self.open().push(kept);
        for (from, to) in [(near, far_too), (far, near_too)] {
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.pump(from, to));
        }
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 16 << 10];
        while let Ok(length) = from.read(&mut bytes) {
            // What was on its way when the way was cut is lost; the connection is of no use from then on.
            while self.cut.load(Ordering::Relaxed) && !self.ended.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK);
                if !self.cut.load(Ordering::Relaxed) {
                    let _ = to.shutdown(Shutdown::Both);
                    return;
                }
            }
            if length == 0 || to.write_all(bytes.get(..length).unwrap_or_default()).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}
