//! Who may do what, by the credentials that the kernel gives for the peer (`SO_PEERCRED`, unix(7)).
//!
//! Whoever the socket's file mode lets in may read. To program takes the superuser, the daemon's own user, or one that
//! `program_uids` names.

use tokio::net::unix::UCred;

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Look.
    Read,
    /// Look, program, and flush flows.
    Program,
}

/// Decides rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    own_uid: u32,
    program_uids: Vec<u32>,
}

impl Policy {
    /// For a daemon that runs as `own_uid`.
    #[must_use]
    pub fn new(own_uid: u32, program_uids: Vec<u32>) -> Self {
        Policy { own_uid, program_uids }
    }

    /// The rights of a user.
    #[must_use]
    pub fn of_uid(&self, uid: u32) -> Rights {
        if uid == 0 || uid == self.own_uid || self.program_uids.contains(&uid) { Rights::Program } else { Rights::Read }
    }

    /// The rights of a peer. The kernel took its credentials at `connect`, so handing the socket on hands on the rights.
    #[must_use]
    pub fn of(&self, peer: &UCred) -> Rights {
        self.of_uid(peer.uid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_may_program() {
        let policy = Policy::new(500, vec![1000, 1001]);
        for uid in [0, 500, 1000, 1001] {
            assert_eq!(policy.of_uid(uid), Rights::Program, "{uid}");
        }
        for uid in [1, 999, 1002, 65534, u32::MAX] {
            assert_eq!(policy.of_uid(uid), Rights::Read, "{uid}");
        }
    }
}
