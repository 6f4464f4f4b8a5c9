//! Items that name cards, and their answers.

use mesh::{Call, Fault};
use money::{TenantId, TokenRef};

use super::not_found;

/// A card that an item names, or why it names none.
pub(super) type Name = Result<(TenantId, TokenRef), Fault>;

/// What items of token and tenant (empty: the call's own) name, in the order asked.
pub(super) fn names<'a>(call: &Call, items: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Name> {
    let name = |(token, tenant): (&str, &str)| {
        // What is no token is no token of anyone.
        let token = token.parse().map_err(|_| not_found())?;
        Ok((call.tenant_of_item(tenant)?, token))
    };
    items.into_iter().map(name).collect()
}

/// The cards that can be asked for.
pub(super) fn readable(names: &[Name]) -> Vec<(TenantId, TokenRef)> {
    names.iter().filter_map(|name| name.as_ref().ok().cloned()).collect()
}

/// The answers to those that were [`readable`], each in its item's place.
pub(super) fn in_place<T>(names: Vec<Name>, answers: Vec<T>) -> Vec<Result<(TenantId, T), Fault>> {
    let mut answers = answers.into_iter();
    let mut item = |name: Name| {
        let (tenant, _) = name?;
        Ok((tenant, answers.next().ok_or_else(not_found)?))
    };
    names.into_iter().map(&mut item).collect()
}

/// The answer to the only item.
pub(super) fn only<T>(found: Vec<Result<T, Fault>>) -> Result<T, Fault> {
    found.into_iter().next().unwrap_or_else(|| Err(not_found()))
}
