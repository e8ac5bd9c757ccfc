//! Why a Service does not have the addresses that it should have.

use std::fmt;
use std::net::IpAddr;

use levee_api::net::Family;

use crate::model::ObjectName;

/// The first thing that is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// What it asks for cannot be understood.
    AskedWrong(String),
    /// It asks for a pool that does not exist, or that was never in force.
    NoSuchPool(String),
    /// It asks for a pool that is not for it.
    NotPermitted {
        /// The pool.
        pool: String,
        /// The address, if it asked for one.
        address: Option<IpAddr>,
    },
    /// It asks for an address that no pool has.
    InNoPool(IpAddr),
    /// It asks for an address of one pool and for another pool.
    OtherPool {
        /// The address.
        address: IpAddr,
        /// The pool that has it.
        pool: String,
        /// The pool that it asks for.
        asked: String,
    },
    /// It asks for an address that is given to nobody.
    Withheld {
        /// The address.
        address: IpAddr,
        /// The pool that has it.
        pool: String,
        /// What else it is.
        why: String,
    },
    /// It asks for an address that another has and does not share with it.
    InUse {
        /// The address.
        address: IpAddr,
        /// Whose it is.
        holder: ObjectName,
        /// Why it is not shared.
        why: NotShared,
    },
    /// No pool has addresses of this family for it.
    NoPool(Family),
    /// All addresses of this family that are for it are in use.
    Exhausted {
        /// The family.
        family: Family,
        /// The pools that were looked into.
        pools: Vec<String>,
    },
}

/// Why an address is not shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotShared {
    /// One of the two has no `levee.dev/share-key`, or they have different ones.
    Key,
    /// They are of different namespaces, and the pool does not allow that.
    Namespace,
    /// Both have this port.
    Port(crate::model::PortKey),
    /// Both serve this.
    Wide(crate::model::Overlap),
    /// The other is not levee's to speak for.
    Foreign,
}

impl Problem {
    /// One word for programs: the condition's reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Problem::AskedWrong(_) => "InvalidRequest",
            Problem::NoSuchPool(_) => "NoSuchPool",
            Problem::NotPermitted { .. } => "PoolNotPermitted",
            Problem::InNoPool(_) => "AddressInNoPool",
            Problem::OtherPool { .. } => "AddressOfOtherPool",
            Problem::Withheld { .. } => "AddressWithheld",
            Problem::InUse { .. } => "AddressInUse",
            Problem::NoPool(_) => "NoPool",
            Problem::Exhausted { .. } => "PoolExhausted",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::AskedWrong(why) => f.write_str(why),
            Problem::NoSuchPool(pool) => {
                let shown: String = pool.chars().take(60).collect();
                write!(f, "there is no AddressPool `{shown}` in force, for which annotation `levee.dev/pool` asks")
            }
            Problem::NotPermitted { pool, address: Some(address) } => {
                write!(
                    f,
                    "{address} is of AddressPool {pool}, which by its `namespaces` or `serviceSelector` is not for this Service"
                )
            }
            Problem::NotPermitted { pool, address: None } => {
                write!(f, "AddressPool {pool} by its `namespaces` or `serviceSelector` is not for this Service")
            }
            Problem::InNoPool(address) => write!(f, "{address} is in no AddressPool"),
            Problem::OtherPool { address, pool, asked } => {
                let shown: String = asked.chars().take(60).collect();
                write!(f, "{address} is of AddressPool {pool}, and annotation `levee.dev/pool` asks for `{shown}`")
            }
            Problem::Withheld { address, pool, why } => {
                write!(f, "{address} of AddressPool {pool} is given to nobody: {why}")
            }
            Problem::InUse { address, holder, why } => {
                write!(f, "{address} is Service {holder}'s")?;
                match why {
                    NotShared::Key => f.write_str("; to share it, both need the same annotation `levee.dev/share-key`"),
                    NotShared::Namespace => {
                        f.write_str(", of another namespace; to share it, its AddressPool needs `sharing: Cluster`")
                    }
                    NotShared::Port((protocol, port)) => write!(f, ", which has {protocol} port {port} too"),
                    NotShared::Wide(what) => write!(f, ", which serves {what} too"),
                    NotShared::Foreign => f.write_str(", which is another implementation's"),
                }
            }
            Problem::NoPool(family) => write!(f, "no AddressPool has addresses of {family} for this Service"),
            Problem::Exhausted { family, pools } => {
                write!(f, "every address of {family} is in use in AddressPool {}", pools.join(", "))
            }
        }
    }
}
