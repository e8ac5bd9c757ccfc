//! One AddressPool by itself.

use crate::model::{AddressPool, external};

use super::{About, unfit};

pub(super) fn validate(object: &external::AddressPool, about: &mut About<'_, '_>) -> Option<AddressPool> {
    if object.spec.addresses.is_empty() {
        about.refuse_with(None, "`addresses` is empty", "add a prefix (`192.0.2.0/24`), a range or an address");
        return None;
    }
    for range in &object.spec.addresses {
        for address in [range.value.first, range.value.last] {
            if let Some(what) = unfit(address) {
                about.refuse(range.place, format!("`{address}` is {what} and cannot be given to a Service"));
                return None;
            }
        }
    }
    Some(AddressPool {
        ranges: object.spec.addresses.iter().map(|range| range.value).collect(),
        auto_assign: object.spec.auto_assign.unwrap_or(true),
        namespaces: object.spec.namespaces.iter().cloned().collect(),
        service_selector: object.spec.service_selector.clone(),
    })
}
