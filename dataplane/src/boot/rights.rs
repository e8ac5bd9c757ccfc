//! What the process may do, before and after boot.
//!
//! | for | capability |
//! |---|---|
//! | AF_XDP sockets | CAP_NET_RAW |
//! | XDP programs, maps, TAP, offloads, managed neighbours | CAP_NET_ADMIN, CAP_BPF |
//! | locked memory over the limit | CAP_IPC_LOCK, or CAP_SYS_RESOURCE to raise it |
//! | the control socket's group | CAP_CHOWN |
//! | workers' places on their cores | CAP_SYS_NICE |
//!
//! After boot no thread has any, but for the neighbours' one, which keeps CAP_NET_ADMIN. Each worker takes its place and then gives up the
//! right to. Threads share memory, so this is a second line
//! and no wall: it makes most mistakes and many exploits harmless, not all.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// Lets any amount of memory be locked: a UMEM counts against the limit, and 8 MiB, the usual one, are few frames. Best effort: with
/// CAP_IPC_LOCK the limit does not count, and without either the UMEM's own error says what to do.
pub fn raise_memory_limit() {
    let unlimited = Rlimit { current: None, maximum: None };
    let hard = getrlimit(Resource::Memlock).maximum;
    let as_far_as_allowed = Rlimit { current: hard, maximum: hard };
    if let Err(error) =
        setrlimit(Resource::Memlock, unlimited).or_else(|_| setrlimit(Resource::Memlock, as_far_as_allowed))
    {
        tracing::debug!(%error, "the limit of locked memory stays");
    }
}

/// This thread, and those that it starts from now on, keep only `kept`. They cannot come back.
///
/// # Errors
/// None in practice: giving up needs no right.
pub fn keep_only(kept: CapabilitySet) -> std::io::Result<()> {
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(set_capabilities(None, sets)?)
}

/// Nothing.
///
/// # Errors
/// As [`keep_only`].
pub fn drop_all() -> std::io::Result<()> {
    keep_only(CapabilitySet::empty())
}

/// What the neighbours' thread needs.
///
/// # Errors
/// As [`keep_only`].
pub fn keep_net_admin() -> std::io::Result<()> {
    keep_only(CapabilitySet::NET_ADMIN)
}

/// What a worker needs to take its place on its core, if this process has it: levee can do without.
///
/// # Errors
/// As [`keep_only`].
pub fn keep_sys_nice() -> std::io::Result<()> {
    keep_only(capabilities(None)?.permitted & CapabilitySet::SYS_NICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_given_up_by_thread_and_for_good() {
        let before = capabilities(None).unwrap().permitted;
        std::thread::spawn(move || {
            if before.contains(CapabilitySet::NET_ADMIN) {
                keep_net_admin().unwrap();
                assert_eq!(capabilities(None).unwrap().effective, CapabilitySet::NET_ADMIN);
            } else {
                eprintln!("SKIPPED: keeping CAP_NET_ADMIN needs root");
            }
            keep_sys_nice().unwrap();
            assert_eq!(
                capabilities(None).unwrap().permitted,
                CapabilitySet::empty(),
                "what is given up does not come back"
            );
            drop_all().unwrap();
            assert_eq!(capabilities(None).unwrap().permitted, CapabilitySet::empty());
            if before.contains(CapabilitySet::NET_ADMIN) {
                assert!(keep_net_admin().is_err());
            }
            let child = std::thread::spawn(|| capabilities(None).unwrap().permitted).join().unwrap();
            assert_eq!(child, CapabilitySet::empty());
        })
        .join()
        .unwrap();
        assert_eq!(capabilities(None).unwrap().permitted, before);
    }
}
