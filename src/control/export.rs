//! The live state written back as a file: the text in force, with what has changed live put in its place.
//!
//! Invariant: what is answered was read again and declares the live state. Comments, order and references of the text stay, and
//! no value that a reference stands for is ever in it.

use toml_edit::{Array, DocumentMut, InlineTable, Item, TableLike, Value, value};

use super::{drift, snapshot::Snapshot};
use crate::{
    config::{self, Config},
    model::{
        endpoint_address::EndpointAddress,
        live_state::{LiveEndpoint, LivePool},
        weights::Weights,
    },
};

/// Why the live state can't be written as a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The text in force is written in a way that can't be edited in place.
    #[error("{0} is written in a way that can't be edited: declare it as a table of its own")]
    Unusual(String),
    /// What was written does not declare what is in force: a fault of Switchback.
    #[error("what was written is not the live state: {0}")]
    Unfaithful(String),
}

/// The file that declares what is in force.
pub fn text(snapshot: &Snapshot) -> Result<String, ExportError> {
    let (config, live) = (&snapshot.config, snapshot.state.live());
    let mut document: DocumentMut = config
        .text
        .parse()
        .map_err(|error: toml_edit::TomlError| ExportError::Unfaithful(error.to_string()))?;
    for split in &config.splits {
        let weights = &live.weights[&split.name];
        if *weights != split.weights {
            let table = table(&mut document, &["split", split.name.as_str(), "weights"])?;
            write_weights(table, weights);
        }
    }
    for pool in &config.pools {
        let declared = snapshot.state.file().pools.get(&pool.name);
        let live = &live.pools[&pool.name];
        if let Some(declared) = declared {
            write_pool(table(&mut document, &["pool", pool.name.as_str()])?, declared, live)?;
        }
    }
    let text = document.to_string();
    prove(&text, snapshot)?;
    Ok(text)
}

/// Reads the text again, and compares.
fn prove(text: &str, snapshot: &Snapshot) -> Result<(), ExportError> {
    let written: Config = config::parse("the export", text)
        .map_err(|errors| ExportError::Unfaithful(errors.errors()[0].message.clone()))?
        .0;
    let declared = written.declared_state(std::time::SystemTime::UNIX_EPOCH);
    match drift::of(&declared, snapshot.state.live()).first() {
        Some(difference) => Err(ExportError::Unfaithful(difference.key.clone())),
        None => Ok(()),
    }
}

/// The table at a path of keys, however it is written.
fn table<'d>(document: &'d mut DocumentMut, path: &[&str]) -> Result<&'d mut dyn TableLike, ExportError> {
    let unusual = || ExportError::Unusual(path.join("."));
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for key in path {
        table = table.get_mut(key).and_then(Item::as_table_like_mut).ok_or_else(unusual)?;
    }
    Ok(table)
}

fn write_weights(table: &mut dyn TableLike, weights: &Weights) {
    for (pool, weight) in weights.iter() {
        set(table, pool.as_str(), i64::from(weight).into());
    }
}

/// Sets a value in its place, with the comment behind it.
fn set(table: &mut dyn TableLike, key: &str, new: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = new;
            *old.decor_mut() = decor;
        }
        None => {
            table.insert(key, value(new));
        }
    }
}

fn write_pool(table: &mut dyn TableLike, declared: &LivePool, live: &LivePool) -> Result<(), ExportError> {
    if declared.drain.is_some() != live.drain.is_some() {
        set(table, "drain", live.drain.is_some().into());
    }
    let find = |address: &EndpointAddress| drift::staying(live).find(|endpoint| endpoint.address == *address);
    let is_same = |declared: &LiveEndpoint| {
        find(&declared.address).is_some_and(|live| {
            (live.weight, live.drain.is_some()) == (declared.weight, declared.drain.is_some())
        })
    };
    let added: Vec<_> = drift::staying(live)
        .filter(|live| !declared.endpoints.iter().any(|endpoint| endpoint.address == live.address))
        .collect();
    if added.is_empty() && declared.endpoints.iter().all(is_same) {
        return Ok(());
    }
    let endpoints = endpoints(table)?;
    // From the end, so that the places of those before stay.
    for (place, declared) in declared.endpoints.iter().enumerate().rev() {
        match find(&declared.address) {
            None => drop(endpoints.remove(place)),
            Some(_) if is_same(declared) => {}
            Some(live) => {
                let old = endpoints.get(place).cloned();
                let decor = old.as_ref().map(|old| old.decor().clone()).unwrap_or_default();
                let mut new = endpoint(live, old.as_ref());
                *new.decor_mut() = decor;
                endpoints.replace_formatted(place, new);
            }
        }
    }
    for live in added {
        endpoints.push(endpoint(live, None));
    }
    Ok(())
}

/// The list of a pool's endpoints.
fn endpoints(table: &mut dyn TableLike) -> Result<&mut Array, ExportError> {
    let item = table.get_mut("endpoints");
    let item = item.ok_or_else(|| ExportError::Unusual("endpoints of a pool".into()))?;
    if item.is_array_of_tables() {
        item.make_value();
    }
    item.as_array_mut().ok_or_else(|| ExportError::Unusual("endpoints of a pool".into()))
}

/// An endpoint as a file writes it; its address as the file wrote it before, which may be a reference.
fn endpoint(live: &LiveEndpoint, old: Option<&Value>) -> Value {
    let written = old.and_then(|old| match old {
        Value::String(text) => Some(text.value().clone()),
        Value::InlineTable(table) => table.get("address")?.as_str().map(str::to_owned),
        _ => None,
    });
    let address = written.unwrap_or_else(|| live.address.to_string());
    if live.weight == 1 && live.drain.is_none() {
        return address.into();
    }
    let mut table = InlineTable::new();
    table.insert("address", address.into());
    if live.weight != 1 {
        table.insert("weight", i64::from(live.weight).into());
    }
    if live.drain.is_some() {
        table.insert("drain", true.into());
    }
    Value::InlineTable(table)
}
