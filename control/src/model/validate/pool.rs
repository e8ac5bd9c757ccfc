//! One AddressPool by itself.

use crate::model::external::{self, AddressPoolSpec, Sharing};
use crate::model::{AddressPool, Identity, Place};

use super::{About, unfit};

/// An AddressPool, before it meets the others.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    pub(super) identity: Identity,
    pub(super) status: external::AddressPoolStatus,
    /// What its `spec` says; `None` if that is wrong by itself, which was told.
    pub(super) new: Option<AddressPool>,
    /// What was in force last, as its status says. In files, whose last good state is kept whole, nothing.
    pub(super) old: Option<AddressPool>,
    /// The same, also when it is found to be in another's way.
    pub(super) recorded: Option<AddressPool>,
    /// Why the `spec` is not in force.
    pub(super) refused: Option<String>,
}

pub(super) fn validate(object: &external::AddressPool, about: &mut About<'_, '_>) -> Candidate {
    let live = about.subject.origin.live;
    let old = object.status.in_force.as_ref().filter(|_| live).and_then(|spec| pool(spec).ok());
    let mut candidate = Candidate {
        identity: Identity::of(&object.metadata, live),
        status: object.status.clone(),
        new: None,
        recorded: old.clone(),
        old,
        refused: None,
    };
    let wrong = match (&object.fault, pool(&object.spec)) {
        (Some(fault), _) => Wrong { place: None, message: fault.clone(), help: None },
        (None, Err(wrong)) => wrong,
        (None, Ok(pool)) => {
            candidate.new = Some(pool);
            return candidate;
        }
    };
    candidate.refuse(about, wrong);
    candidate
}

/// What is wrong with a pool.
pub(super) struct Wrong {
    pub(super) place: Option<Place>,
    pub(super) message: String,
    pub(super) help: Option<&'static str>,
}

impl Candidate {
    /// Says so; where there is one, what was in force last stays.
    pub(super) fn refuse(&mut self, about: &mut About<'_, '_>, wrong: Wrong) {
        let Wrong { place, message, help } = wrong;
        let whole = help.map_or_else(|| message.clone(), |help| format!("{message}; {help}"));
        if self.old.is_some() {
            about.refuse_live(&whole, "and what was good last stays in force");
        } else {
            match help {
                Some(help) => about.refuse_with(place, &message, help),
                None => about.refuse(place, &message),
            }
        }
        self.refused.get_or_insert(whole);
    }
}

fn pool(spec: &AddressPoolSpec) -> Result<AddressPool, Wrong> {
    if spec.addresses.is_empty() {
        let help = Some("add a prefix (`192.0.2.0/24`), a range or an address");
        return Err(Wrong { place: None, message: "`addresses` is empty".to_owned(), help });
    }
    for range in &spec.addresses {
        for address in [range.value.first, range.value.last] {
            if let Some(what) = unfit(address) {
                let message = format!("`{address}` is {what} and cannot be given to a Service");
                return Err(Wrong { place: range.place, message, help: None });
            }
        }
    }
    Ok(AddressPool {
        ranges: spec.addresses.iter().map(|range| range.value).collect(),
        auto_assign: spec.auto_assign.unwrap_or(true),
        namespaces: spec.namespaces.iter().cloned().collect(),
        service_selector: spec.service_selector.clone(),
        shares_across_namespaces: spec.sharing == Some(Sharing::Cluster),
        withheld: Default::default(),
    })
}
