//! The calls that change endpoints and drain pools.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{
    body::{Object, WEIGHTS_ALLOWED, short},
    call::{Call, Done, Made, Patch},
    changes::LOOK_EVERY,
    difference::Difference,
    drains::DrainView,
    problem::{Fault, Problem},
    query::{MAX_WAIT, Named},
    router::Admin,
};
use crate::{
    control::{
        change::{Change, Effect, Kind},
        command::{Bound, Command, EndpointOf, MAX_DEADLINE, Terms},
        drains::{Cut, Draining},
        snapshot::Snapshot,
    },
    model::{
        endpoint_address::EndpointAddress,
        live_state::{Drain, LiveEndpoint, PinsOnDrain},
        name::Name,
    },
};

/// A wait that does not say how long lasts so much longer than the last deadline: what is cut ends when it is next
/// looked at.
const CUT_WITHIN: Duration = Duration::from_secs(5);

/// The weight of an endpoint where the call names none.
const WEIGHT: u64 = 1;

/// The answer to a change of an endpoint or of a pool's drain.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    revision: u64,
    changed: bool,
    dry_run: bool,
    kind: Kind,
    pool: Name,
    #[serde(flatten)]
    subject: Subject,
    at: String,
    #[serde(flatten)]
    waited: Option<Waited>,
    /// What a dry run would change.
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<Vec<Difference>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum Subject {
    Endpoint {
        address: EndpointAddress,
        /// What it is now; `null` is one that is not there.
        endpoint: Option<EndpointState>,
        previous: Option<EndpointState>,
    },
    Pool {
        /// The drain in force, if any.
        drain: Option<DrainView>,
        previous: Option<DrainView>,
    },
}

#[derive(Debug, Serialize, JsonSchema)]
struct EndpointState {
    weight: u32,
    drain: Option<DrainView>,
    /// It is removed when its drain has ended.
    leaving: bool,
    /// Its pool is probed: a new endpoint takes traffic after its first good probe.
    probed: bool,
}

/// What there was when a wait ended.
#[derive(Debug, Serialize, JsonSchema)]
struct Waited {
    drained: bool,
    /// Requests in flight, streams among them.
    in_flight: u64,
    streams: u64,
    cut: Cut,
}

type Names = Named<(String, String)>;

/// `PUT /v1/pools/{pool}/endpoints/{address}`.
pub async fn put_endpoint(Named(names): Names, mut call: Call<false>) -> Result<Done<Answer>, Problem> {
    let [weight] = call.optional_body().members(["weight"])?;
    let weight = weight.map_or(Ok(WEIGHT), |number| whole(&number))?;
    answer(call.make(Command::PutEndpoint { of: of(names), weight }).await?).await
}

/// `PATCH /v1/pools/{pool}/endpoints/{address}`: a weight of `null` is that of an endpoint which is put without one.
pub async fn patch_endpoint(Named(names): Names, Patch(mut call): Patch) -> Result<Done<Answer>, Problem> {
    let [weight] = call.body()?.members(["weight"])?;
    let weight = match weight {
        None => None,
        Some(Value::Null) => Some(WEIGHT),
        Some(number) => Some(whole(&number)?),
    };
    answer(call.make(Command::WeighEndpoint { of: of(names), weight }).await?).await
}

fn whole(weight: &Value) -> Result<u64, Problem> {
    weight.as_u64().ok_or_else(|| {
        let fault = Fault::at("/weight", format!("the weight {} is not a whole number", short(weight)));
        Problem::invalid(vec![fault.allowing([WEIGHTS_ALLOWED])])
    })
}

/// `DELETE /v1/pools/{pool}/endpoints/{address}`; its body may be empty.
pub async fn delete_endpoint(Named(names): Names, mut call: Call<true>) -> Result<Done<Answer>, Problem> {
    let terms = terms(call.optional_body())?;
    answer(call.make(Command::DeleteEndpoint { of: of(names), terms }).await?).await
}

/// `POST /v1/pools/{pool}/endpoints/{address}/drain`; its body may be empty.
pub async fn drain_endpoint(Named(names): Names, mut call: Call<true>) -> Result<Done<Answer>, Problem> {
    let terms = terms(call.optional_body())?;
    answer(call.make(Command::DrainEndpoint { of: of(names), terms }).await?).await
}

/// `POST /v1/pools/{pool}/endpoints/{address}/undrain`.
pub async fn undrain_endpoint(Named(names): Names, mut call: Call<false>) -> Result<Done<Answer>, Problem> {
    let [] = call.optional_body().members([])?;
    answer(call.make(Command::UndrainEndpoint { of: of(names) }).await?).await
}

/// `POST /v1/pools/{pool}/drain`; its body may be empty.
pub async fn drain_pool(Named(pool): Named, mut call: Call<true>) -> Result<Done<Answer>, Problem> {
    let terms = terms(call.optional_body())?;
    answer(call.make(Command::DrainPool { pool, terms }).await?).await
}

/// `POST /v1/pools/{pool}/undrain`.
pub async fn undrain_pool(Named(pool): Named, mut call: Call<false>) -> Result<Done<Answer>, Problem> {
    let [] = call.optional_body().members([])?;
    answer(call.make(Command::UndrainPool { pool }).await?).await
}

fn of((pool, address): (String, String)) -> EndpointOf {
    EndpointOf { pool, address }
}

/// Reads how a drain is to be.
fn terms(body: Object) -> Result<Terms, Problem> {
    let [deadline, stream_deadline, pins] = body.members(["deadline", "stream_deadline", "pins"])?;
    let mut faults = Vec::new();
    let terms = Terms {
        deadline: deadline.and_then(|value| bound("/deadline", &value, &mut faults)),
        stream_deadline: stream_deadline.and_then(|value| bound("/stream_deadline", &value, &mut faults)),
        pins: match pins.as_ref().map(|value| (value.as_str(), value)) {
            None => None,
            Some((Some("keep"), _)) => Some(PinsOnDrain::Keep),
            Some((Some("move"), _)) => Some(PinsOnDrain::Move),
            Some((_, other)) => {
                let detail = format!("{} does not say what becomes of pins", short(other));
                faults.push(Fault::at("/pins", detail).allowing(["keep", "move"]));
                None
            }
        },
    };
    if faults.is_empty() { Ok(terms) } else { Err(Problem::invalid(faults)) }
}

/// Reads `"30s"` or `"off"`.
fn bound(pointer: &str, value: &Value, faults: &mut Vec<Fault>) -> Option<Bound> {
    let text = value.as_str().unwrap_or_default();
    if text == "off" {
        return Some(Bound::Unbounded);
    }
    match humantime::parse_duration(text) {
        Ok(limit) if limit <= MAX_DEADLINE => Some(Bound::Within(limit)),
        _ => {
            let most = humantime::format_duration(MAX_DEADLINE);
            let detail = format!("{} is not a duration such as \"30s\", or it is over {most}", short(value));
            faults.push(Fault::at(pointer, detail).allowing([format!("0s to {most}"), "off".into()]));
            None
        }
    }
}

/// Says what a change did, and waits first where that was asked for.
async fn answer(made: Made) -> Result<Done<Answer>, Problem> {
    let waited = match made.wait {
        Some(timeout) => Some(drained(&made.admin, made.change.effect(), timeout).await),
        None => None,
    };
    let changed = made.change.changed();
    let effect = made.change.effect().clone();
    let Change { revision, kind, at, .. } = made.change;
    let config = Arc::clone(&made.admin.control.snapshot().config);
    let is_probed = |of: &Name| config.pools.iter().any(|pool| pool.name == *of && pool.health.is_some());
    let state = |probed: bool, endpoint: LiveEndpoint| EndpointState {
        weight: endpoint.weight,
        drain: endpoint.drain.as_ref().map(DrainView::of),
        leaving: endpoint.is_leaving,
        probed,
    };
    let drain = |drain: Option<Drain>| drain.as_ref().map(DrainView::of);
    let (pool, subject) = match effect {
        Effect::Endpoint { pool, address, before, after } => {
            let state = |endpoint| state(is_probed(&pool), endpoint);
            let (endpoint, previous) = (after.map(state), before.map(state));
            (pool, Subject::Endpoint { address, endpoint, previous })
        }
        Effect::Pool { pool, before, after } => {
            (pool, Subject::Pool { drain: drain(after), previous: drain(before) })
        }
        Effect::Weights { .. } | Effect::Split { .. } | Effect::Setting { .. } => {
            unreachable!("these commands are about pools and endpoints")
        }
    };
    let at = humantime::format_rfc3339_millis(at).to_string();
    let diff = made.diff();
    Ok(made.done(Answer { revision, changed, dry_run: made.dry_run, kind, pool, subject, at, waited, diff }))
}

/// Waits until nothing is in flight where an effect has begun a drain, and answers what is left and what was cut. It
/// ends early if the drain is taken back.
async fn drained(admin: &Admin, effect: &Effect, timeout: Option<Duration>) -> Waited {
    let begun = tokio::time::Instant::now();
    let mut known = BTreeMap::new();
    let mut limit = timeout;
    loop {
        let snapshot = admin.control.snapshot();
        let draining = snapshot
            .draining
            .values()
            .filter(|draining| is_of(effect, &draining.endpoint.pool, &draining.declared));
        let mut longest = Some(Duration::ZERO);
        for draining in draining {
            known.insert(draining.endpoint.id, draining.clone());
            longest = longest.zip(draining.left()).map(|(one, other)| one.max(other));
        }
        // By the first look; a wait that says how long is not made longer by new terms either.
        let limit = *limit.get_or_insert_with(|| wait(longest));
        let elsewhere: u64 = known.values().map(|known| elsewhere(admin, known)).sum();
        let is_drained = elsewhere == 0 && known.values().all(Draining::is_drained);
        let stands = standing(&snapshot, effect);
        let is_done = match stands {
            Standing::Drains => is_drained,
            // Its drain has ended, but it has not been removed yet.
            Standing::Leaves => false,
            Standing::TakenBack | Standing::Gone => true,
        };
        if is_done || begun.elapsed() >= limit {
            return Waited {
                drained: is_drained && stands != Standing::TakenBack,
                in_flight: elsewhere + known.values().map(Draining::in_flight).sum::<u64>(),
                streams: known.values().map(Draining::streams).sum(),
                cut: known.values().map(Draining::cut).sum(),
            };
        }
        tokio::time::sleep_until((begun + limit).min(tokio::time::Instant::now() + LOOK_EVERY)).await;
    }
}

/// What a process that was replaced has in flight at an endpoint.
fn elsewhere(admin: &Admin, draining: &Draining) -> u64 {
    admin.succession.in_flight(&draining.endpoint.pool, Some(draining.endpoint.address))
}

/// How long a wait is that does not say it: to the last deadline, which is so long ahead.
fn wait(longest: Option<Duration>) -> Duration {
    longest.map_or(MAX_WAIT, |longest| longest + CUT_WITHIN).min(MAX_WAIT)
}

/// What has become of what is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Drains,
    Leaves,
    Gone,
    TakenBack,
}

fn standing(snapshot: &Snapshot, effect: &Effect) -> Standing {
    let pools = &snapshot.state.live().pools;
    match effect {
        Effect::Pool { pool, .. } if pools.get(pool).is_some_and(|pool| pool.drain.is_some()) => {
            Standing::Drains
        }
        Effect::Endpoint { pool, address, after, .. } => {
            let leaves = after.as_ref().is_some_and(|endpoint| endpoint.is_leaving);
            // A reload may have taken the whole pool.
            let endpoints = pools.get(pool).map_or(&[][..], |pool| &pool.endpoints);
            match endpoints.iter().find(|endpoint| endpoint.address == *address) {
                None => Standing::Gone,
                Some(LiveEndpoint { is_leaving: true, .. }) => Standing::Leaves,
                Some(LiveEndpoint { drain: Some(_), .. }) if !leaves => Standing::Drains,
                Some(_) => Standing::TakenBack,
            }
        }
        Effect::Pool { .. } | Effect::Weights { .. } | Effect::Split { .. } | Effect::Setting { .. } => {
            Standing::TakenBack
        }
    }
}

/// Whether an effect is about an endpoint.
fn is_of(effect: &Effect, of: &Name, declared: &EndpointAddress) -> bool {
    match effect {
        Effect::Weights { .. } | Effect::Split { .. } | Effect::Setting { .. } => false,
        Effect::Endpoint { pool, address, .. } => pool == of && address == declared,
        Effect::Pool { pool, .. } => pool == of,
    }
}
