//! Which Service has which address: (`&Balanced`) → [`Allocation`].
//!
//! ```text
//!  1 keep      what a status has, if its pool is still for the Service and nobody is in the way
//!  2 move      who asks for another address or pool, if that can be had; until then it keeps what it has
//!  3 give      to who has none: what it asks for, what it can share, or the first free address from where its name falls
//! ```
//!
//! Pure and deterministic: no I/O, clock, randomness or hash-map order. The only memory is the status of the Services, which the cluster keeps:
//! what a Service has it keeps, whoever comes, and after a restart of everything. Within each step Services are taken by
//! namespace and name; those that an address was written for with all the ports that they have now come before those that
//! have more now, so that nobody gets another off a shared address by a new port.
//!
//! A free address is looked for from a place that the Service's name decides. So one that is deleted and created anew mostly finds its
//! old address, and a freed address is not the next Service's at once, whose clients may still ask for the old one.
//!
//! Steps cost O(log n) a Service, whatever is in use.
//!
//! Services of files alone, without anybody who writes status, get their addresses in the compiler by [`in_files`]: each
//! levee that reads the same files finds the same.

mod book;
mod problem;
mod report;
mod space;

use std::collections::BTreeMap;
use std::net::IpAddr;

use levee_api::net::Family;

use crate::model::external::Usage;
use crate::model::{Asked, Balanced, LoadBalancer, ObjectName};
use crate::notice::Notice;

use book::Book;
pub use problem::{NotShared, Problem};
pub use report::{AddressEntry, Addresses, PoolEntry};

/// Services of this class are ours (rule 41).
pub const LOAD_BALANCER_CLASS: &str = "levee.dev/levee";

/// How often movers are gone through, so that one can have what another has left. A longer chain of moves ends with the next
/// change.
const ROUNDS: usize = 8;

/// Whether a Service of type LoadBalancer is ours (rule 41). With `class_required`, one without a class is not.
#[must_use]
pub fn is_ours(class: Option<&str>, class_required: bool) -> bool {
    class.map_or(!class_required, |class| class == LOAD_BALANCER_CLASS)
}

/// Who has what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allocation {
    /// Every Service that is ours and wants addresses.
    pub services: BTreeMap<ObjectName, Assignment>,
    /// Every pool that is in force, by family.
    pub pools: BTreeMap<String, BTreeMap<Family, Usage>>,
}

/// What one Service has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assignment {
    /// At most one address of each family, with its pool.
    pub addresses: BTreeMap<Family, (IpAddr, String)>,
    /// What it asks for or needs and does not have: by family, or as a whole where no family is concerned.
    pub problems: Vec<Problem>,
    /// What its status has and it may not keep, and why.
    pub withdrawn: Vec<(IpAddr, Problem)>,
}

/// Gives addresses.
#[must_use]
pub fn allocate(balanced: &Balanced, class_required: bool) -> Allocation {
    let mut work = Work::new(balanced, class_required);
    work.keep();
    work.reserve(balanced, class_required);
    work.move_about();
    work.give();
    work.finish()
}

/// Addresses for Services of files, of each family of which their status has none; and why there are none.
#[must_use]
pub fn in_files(balanced: &Balanced, class_required: bool) -> (BTreeMap<ObjectName, Vec<IpAddr>>, Vec<Notice>) {
    let (mut found, mut notices) = (BTreeMap::new(), Vec::new());
    if balanced.services.values().all(|service| service.identity.live) {
        return (found, notices);
    }
    for (name, assignment) in allocate(balanced, class_required).services {
        let Some(service) = balanced.services.get(&name).filter(|service| !service.identity.live) else { continue };
        let has = |family: Family| service.holds.iter().any(|held| Family::of(held.address) == family);
        let missing = assignment.addresses.into_iter().filter(|(family, _)| !has(*family));
        let addresses: Vec<IpAddr> = missing.map(|(_, (address, _))| address).collect();
        // Without pools, addresses are not levee's business.
        if !balanced.pools.is_empty() {
            let about = format!("Service {name}");
            notices.extend(assignment.problems.iter().map(|problem| Notice::new(about.clone(), problem.to_string())));
        }
        if !addresses.is_empty() {
            found.insert(name, addresses);
        }
    }
    (found, notices)
}

/// One Service, while addresses are given.
struct Applicant<'a> {
    name: &'a ObjectName,
    service: &'a LoadBalancer,
    has: BTreeMap<Family, IpAddr>,
    withdrawn: Vec<(IpAddr, Problem)>,
    problems: Vec<Problem>,
}

struct Work<'a> {
    book: Book<'a>,
    applicants: Vec<Applicant<'a>>,
}

impl<'a> Work<'a> {
    fn new(balanced: &'a Balanced, class_required: bool) -> Self {
        let ours = balanced
            .services
            .iter()
            .filter(|(_, service)| service.is_wanted && is_ours(service.class.as_deref(), class_required));
        let applicants = ours.map(|(name, service)| Applicant {
            name,
            service,
            has: BTreeMap::new(),
            withdrawn: Vec::new(),
            problems: Vec::new(),
        });
        Work { book: Book::new(balanced), applicants: applicants.collect() }
    }

    fn keep(&mut self) {
        // First those for whose every port the address was written.
        for grown in [false, true] {
            for applicant in &mut self.applicants {
                let Applicant { name, service, .. } = *applicant;
                for held in &service.holds {
                    let has_grown = held.ports.as_ref().is_some_and(|ports| !service.ports.is_subset(ports));
                    let family = Family::of(held.address);
                    // Of two of one family, the first in order that can be kept.
                    if has_grown != grown || !service.families.contains(&family) || applicant.has.contains_key(&family)
                    {
                        continue;
                    }
                    match self.book.join(held.address, name, service) {
                        Ok(()) => {
                            applicant.has.insert(family, held.address);
                        }
                        Err(problem) => applicant.withdrawn.push((held.address, problem)),
                    }
                }
            }
        }
    }

    /// Addresses of our pools that Services have which are not ours.
    fn reserve(&mut self, balanced: &'a Balanced, class_required: bool) {
        let others = balanced.services.iter().filter(|(_, service)| !is_ours(service.class.as_deref(), class_required));
        for (name, service) in others {
            for held in &service.holds {
                self.book.reserve(held.address, name, service);
            }
        }
    }

    fn move_about(&mut self) {
        let movers: Vec<usize> = self
            .applicants
            .iter()
            .enumerate()
            .filter(|(_, applicant)| !applicant.has.is_empty() && applicant.asks())
            .map(|(index, _)| index)
            .collect();
        for _ in 0..ROUNDS {
            let mut has_moved = false;
            for index in &movers {
                let Some(applicant) = self.applicants.get_mut(*index) else { continue };
                for family in applicant.service.families.iter().copied() {
                    let Some(now) = applicant.has.get(&family).copied() else { continue };
                    if self.book.suits(now, family, applicant.service) {
                        continue;
                    }
                    if let Ok(address) = self.book.wanted(family, applicant.name, applicant.service)
                        && self.book.join(address, applicant.name, applicant.service).is_ok()
                    {
                        self.book.leave(now, applicant.name, applicant.service);
                        applicant.has.insert(family, address);
                        has_moved = true;
                    }
                }
            }
            if !has_moved {
                break;
            }
        }
    }

    fn give(&mut self) {
        // Who asks for an address comes before who is content with any.
        for particular in [true, false] {
            for applicant in &mut self.applicants {
                let Applicant { name, service, .. } = *applicant;
                for family in service.families.iter().copied() {
                    let is_particular = matches!(&service.asked, Asked::For(asked) if asked.contains_key(&family));
                    if is_particular != particular || applicant.has.contains_key(&family) {
                        continue;
                    }
                    let found = self.book.wanted(family, name, service);
                    if let Ok(address) = found
                        && self.book.join(address, name, service).is_ok()
                    {
                        applicant.has.insert(family, address);
                    }
                }
            }
        }
        // What is in the way is told as it is in the end.
        for applicant in &mut self.applicants {
            applicant.problems = problems(&self.book, applicant);
        }
    }

    fn finish(self) -> Allocation {
        let Work { book, applicants } = self;
        let pool = |address: IpAddr| book.pool_of(address).map_or_else(String::new, |(_, book)| book.name.to_owned());
        let services = applicants.into_iter().map(|applicant| {
            let Applicant { name, has, problems, mut withdrawn, .. } = applicant;
            withdrawn.retain(|(address, _)| !has.values().any(|other| other == address));
            let addresses = has.into_iter().map(|(family, address)| (family, (address, pool(address)))).collect();
            (name.clone(), Assignment { addresses, problems, withdrawn })
        });
        let services = services.collect();
        let pools = book.pools.iter().map(|book| {
            let usage = book.spaces.iter().map(|(family, space)| {
                let scale = |number: u128| u64::try_from(number).unwrap_or(u64::MAX).min(i64::MAX as u64);
                let assigned = book.assigned.get(family).copied().unwrap_or(0);
                let free = scale(space.size().saturating_sub(space.used()));
                (*family, Usage { total: scale(space.size()), assigned, free })
            });
            (book.name.to_owned(), usage.collect())
        });
        Allocation { services, pools: pools.collect() }
    }
}

impl Applicant<'_> {
    /// Whether it asks for anything in particular.
    fn asks(&self) -> bool {
        !matches!(self.service.asked, Asked::Any) || self.service.pool.is_some()
    }
}

/// What a Service asks for or needs, and does not have.
fn problems(book: &Book<'_>, applicant: &Applicant<'_>) -> Vec<Problem> {
    let Applicant { name, service, has, .. } = applicant;
    if let Asked::Wrong(why) = &service.asked {
        return vec![Problem::AskedWrong(why.clone())];
    }
    let mut problems = Vec::new();
    for family in service.families.iter().copied() {
        let suits = has.get(&family).is_some_and(|address| book.suits(*address, family, service));
        if suits {
            continue;
        }
        match book.wanted(family, name, service) {
            Err(problem) => problems.push(problem),
            Ok(address) => problems.extend(book.refuses(address, name, service)),
        }
    }
    // Who prefers two families is content with one.
    if !service.needs_every_family && !has.is_empty() && service.pool.is_none() {
        problems.retain(|problem| !matches!(problem, Problem::NoPool(_) | Problem::Exhausted { .. }));
    }
    problems.dedup();
    problems
}

impl<'a> Book<'a> {
    /// Whether an address is what a Service asks for.
    fn suits(&self, address: IpAddr, family: Family, service: &LoadBalancer) -> bool {
        let asked = match &service.asked {
            Asked::Wrong(_) => return false,
            Asked::For(asked) => asked.get(&family).is_none_or(|asked| *asked == address),
            Asked::Any => true,
        };
        let pool = service.pool.as_deref();
        asked && pool.is_none_or(|pool| self.pool_of(address).is_some_and(|(_, book)| book.name == pool))
    }

    /// The address that a Service should have next, or why there is none. Whether it is free is another question if it asks
    /// for this one.
    fn wanted(&self, family: Family, name: &'a ObjectName, service: &'a LoadBalancer) -> Result<IpAddr, Problem> {
        let asked = match &service.asked {
            Asked::Wrong(why) => return Err(Problem::AskedWrong(why.clone())),
            Asked::For(asked) => asked.get(&family).copied(),
            Asked::Any => None,
        };
        let named = match &service.pool {
            Some(pool) => Some(self.named(pool).ok_or_else(|| Problem::NoSuchPool(pool.clone()))?),
            None => None,
        };
        if let Some(address) = asked {
            let pool = self.permits(address, name, service)?;
            if let (Some(named), Some(book), Some(asked)) = (named, self.pools.get(pool), &service.pool)
                && named != pool
            {
                return Err(Problem::OtherPool { address, pool: book.name.to_owned(), asked: asked.clone() });
            }
            return Ok(address);
        }
        let candidates: Vec<usize> = match named {
            Some(index) => {
                if let Some(book) = self.pools.get(index).filter(|book| !book.pool.permits(name, service)) {
                    return Err(Problem::NotPermitted { pool: book.name.to_owned(), address: None });
                }
                vec![index]
            }
            None => {
                let open = self.pools.iter().enumerate();
                let open = open.filter(|(_, book)| book.pool.auto_assign && book.pool.permits(name, service));
                // Those that are for some Services only come first, lest they stay empty while others run out.
                let mut open: Vec<(bool, usize)> =
                    open.map(|(index, book)| (!book.pool.is_particular(), index)).collect();
                open.sort_unstable();
                open.into_iter().map(|(_, index)| index).collect()
            }
        };
        let of_family = |index: &usize| self.pools.get(*index).is_some_and(|book| book.spaces.contains_key(&family));
        let candidates: Vec<usize> = candidates.into_iter().filter(of_family).collect();
        if candidates.is_empty() {
            return Err(Problem::NoPool(family));
        }
        candidates.iter().find_map(|index| self.find(*index, family, name, service)).ok_or_else(|| {
            let names = candidates.iter().filter_map(|index| self.pools.get(*index));
            Problem::Exhausted { family, pools: names.map(|book| book.name.to_owned()).collect() }
        })
    }
}
