//! Names of endpoints: from the live state to the discovery, and from what it finds to the table.
//!
//! Invariant: what DNS says is no revision. It changes which addresses a name stands for, never what was declared or
//! drained: an address that comes back is as its name's drain says.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, mpsc::SyncSender},
};

use tokio::sync::mpsc;

use super::{
    handle::{Control, ControlError},
    snapshot::Snapshot,
};
pub use crate::discovery::book::{Book, Entry};
use crate::{
    config,
    discovery::{
        ask::Ask,
        watch::{Finding, Watch},
    },
    model::{
        endpoint_address::EndpointAddress,
        live_state::LivePool,
        name::Name,
        resolved::{Resolved, Target},
    },
};

/// Findings on their way to the controller. What is over that holds the discovery back.
const MAX_WAITING: usize = 64;

/// What names stand for from now on.
pub type Findings = BTreeMap<EndpointAddress, Vec<Target>>;

/// Resolves the names that the live state has, as they come and go, until the process ends. `first` is told when each
/// of the names that there were at first has been asked for, and what was found is in the table. `own` are the addresses
/// that this process listens on.
pub async fn follow<A: Ask>(
    control: Control,
    ask: A,
    settings: config::Dns,
    own: Vec<SocketAddr>,
    first: SyncSender<()>,
) {
    let (found, mut findings) = mpsc::channel(MAX_WAITING);
    let mut watch = Watch::new(ask, settings, own, Arc::clone(control.names()), found);
    let mut changes = control.changes();
    let mut wanted = in_use(&changes.borrow_and_update().state.live().pools);
    watch.follow(&wanted);
    let mut awaited = Some((watch.names().cloned().collect::<BTreeSet<_>>(), first));
    loop {
        awaited = told(awaited);
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = in_use(&changes.borrow_and_update().state.live().pools);
                if now != wanted {
                    wanted = now;
                    watch.follow(&wanted);
                }
            }
            Some(finding) = findings.recv() => {
                let batch = gathered(finding, &mut findings, awaited.as_mut().map(|(names, _)| names));
                // The controller's table does not know names that are not used any more.
                let batch: Findings = batch.into_iter().filter(|(name, _)| wanted.contains(name)).collect();
                match control.resolve(batch).await {
                    Ok(()) => {}
                    Err(ControlError::Stopped) => return,
                    // The next round finds the same.
                    Err(error) => tracing::error!(%error, "addresses of names could not be put in force"),
                }
            }
        }
    }
}

/// The names among the endpoints of these pools.
pub fn in_use(pools: &BTreeMap<Name, LivePool>) -> BTreeSet<EndpointAddress> {
    let endpoints = pools.values().flat_map(|pool| &pool.endpoints);
    endpoints
        .map(|endpoint| &endpoint.address)
        .filter(|address| address.socket().is_none())
        .cloned()
        .collect()
}

/// A finding and all that wait behind it: of a name that was found twice, the newest.
fn gathered(
    finding: Finding,
    more: &mut mpsc::Receiver<Finding>,
    mut awaited: Option<&mut BTreeSet<EndpointAddress>>,
) -> Findings {
    let mut batch = Findings::new();
    let mut next = Some(finding);
    while let Some(Finding { name, targets }) = next {
        if let Some(awaited) = &mut awaited {
            awaited.remove(&name);
        }
        if let Some(targets) = targets {
            batch.insert(name, targets);
        }
        next = more.try_recv().ok();
    }
    batch
}

/// Tells whoever waits for the first names, once none is left.
fn told(
    awaited: Option<(BTreeSet<EndpointAddress>, SyncSender<()>)>,
) -> Option<(BTreeSet<EndpointAddress>, SyncSender<()>)> {
    let (names, first) = awaited?;
    if names.is_empty() {
        // Who waited may have lost patience.
        let _ = first.try_send(());
        return None;
    }
    Some((names, first))
}

/// What names stand for after these findings; `None` if that is what they stood for before.
pub(super) fn applied(before: &Snapshot, findings: Findings) -> Option<Resolved> {
    let live = before.state.live();
    let mut resolved = Resolved::clone(&before.resolved);
    for (name, targets) in findings {
        resolved.set(name, targets);
    }
    let wanted = in_use(&live.pools);
    resolved.retain(|name| wanted.contains(name));
    (resolved != *before.resolved).then_some(resolved)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        control::controller::Controller,
        routing::live::Live,
        upstream::{endpoint::Endpoint, occupancy::Claim},
    };

    const NAME: &str = "app.test:80";

    /// A control plane over a file whose pool `app` has one name, with these keys.
    fn start(endpoint: &str, pool: &str) -> (Control, Live) {
        let file = format!(
            "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:8080\"\n[pool.app]\nendpoints = [{endpoint}]\n{pool}\n\
             [[route]]\nname = \"all\"\npool = \"app\"\n"
        );
        let (config, _) = config::parse("t.toml", &file).expect("it is sound");
        let (controller, control, live) = Controller::new(Arc::new(config), Arc::default());
        tokio::spawn(controller.run());
        (control, live)
    }

    async fn resolve(control: &Control, addresses: &[&str]) {
        let target = |text: &&str| Target { address: text.parse().unwrap(), weight: 1 };
        let findings = Findings::from([(NAME.parse().unwrap(), addresses.iter().map(target).collect())]);
        control.resolve(findings).await.unwrap();
    }

    fn endpoints(live: &Live) -> Vec<Arc<Endpoint>> {
        live.table().pools[0].endpoints.iter().map(|(endpoint, _)| Arc::clone(endpoint)).collect()
    }

    #[tokio::test]
    async fn what_left_is_drained_and_what_comes_back_takes_traffic_again() {
        let (control, live) = start("\"app.test:80\", \"10.0.0.9:80\"", "");
        resolve(&control, &["10.0.0.1:80", "10.0.0.2:80"]).await;
        let [first, second, declared] = endpoints(&live).try_into().expect("three");
        resolve(&control, &["10.0.0.2:80", "10.0.0.9:80"]).await;
        assert_eq!(endpoints(&live).len(), 2, "an address that is declared, too, is there once");
        assert!(first.occupancy.is_draining());
        assert!(second.occupancy.is_available() && declared.occupancy.is_available());
        resolve(&control, &["10.0.0.1:80"]).await;
        let back = endpoints(&live).remove(0);
        assert!(back.address == first.address && back.occupancy.is_available(), "it has come back");
        assert!(declared.occupancy.is_available(), "it is still declared");
        assert!(second.occupancy.is_draining());
        assert_eq!((live.table().generation, control.snapshot().state.revision()), (4, 0));
        resolve(&control, &["10.0.0.1:80"]).await;
        assert_eq!(live.table().generation, 4, "nothing changed");
    }

    #[tokio::test]
    async fn a_drain_of_the_name_or_the_pool_holds_for_every_address_that_comes() {
        let (control, live) = start("{ address = \"app.test:80\", drain = true }", "");
        for addresses in [&["10.0.0.1:80"], &["10.0.0.2:80"], &["10.0.0.1:80"]] {
            resolve(&control, addresses).await;
            assert!(endpoints(&live).iter().all(|endpoint| endpoint.occupancy.is_draining()));
        }
        let (control, live) = start("\"app.test:80\"", "drain = true");
        for addresses in [&["10.0.0.1:80"], &["10.0.0.2:80"], &["10.0.0.1:80"]] {
            resolve(&control, addresses).await;
            assert!(!endpoints(&live)[0].occupancy.is_available());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_come_and_go_leave_nothing_behind() {
        let (control, live) = start("\"app.test:80\"", "");
        for round in 0..300 {
            resolve(&control, &[&format!("10.1.{}.{}:80", round / 250, round % 250 + 1)]).await;
        }
        let held = endpoints(&live).remove(0);
        assert_eq!(held.occupancy.claim(u64::MAX), Claim::Granted);
        resolve(&control, &["10.0.0.1:80"]).await;
        let until = async |count| {
            while control.series().endpoints() != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        until(2).await;
        assert!(held.occupancy.is_draining() && !held.is_retired(), "it has a request");
        let address = held.address.to_string();
        resolve(&control, &[&address]).await;
        assert!(Arc::ptr_eq(&endpoints(&live)[0], &held), "it comes back as it was");
        held.occupancy.release();
        resolve(&control, &["10.0.0.1:80"]).await;
        until(1).await;
        assert!(held.is_retired());
        resolve(&control, &[&address]).await;
        assert!(!Arc::ptr_eq(&endpoints(&live)[0], &held), "now it is a new one");
    }

    #[tokio::test]
    async fn a_name_that_nobody_uses_is_not_kept() {
        let (control, _live) = start("\"app.test:80\"", "");
        let target = Target { address: "10.0.0.1:80".parse().unwrap(), weight: 1 };
        let other: EndpointAddress = "other.test:80".parse().unwrap();
        control.resolve(Findings::from([(other.clone(), vec![target])])).await.unwrap();
        assert!(control.snapshot().resolved.targets(&other).is_empty());
    }

    #[test]
    fn findings_that_wait_go_together_and_the_newest_of_a_name_counts() {
        let (sender, mut waiting) = mpsc::channel(8);
        let finding = |name: &str, last: Option<u8>| {
            let target = |last| Target { address: SocketAddr::from(([10, 0, 0, last], 80)), weight: 1 };
            Finding { name: name.parse().unwrap(), targets: last.map(|last| vec![target(last)]) }
        };
        for next in [finding("b:80", None), finding("a:80", Some(2))] {
            sender.try_send(next).unwrap();
        }
        let mut awaited: BTreeSet<_> = ["a:80", "b:80", "c:80"].map(|name| name.parse().unwrap()).into();
        let batch = gathered(finding("a:80", Some(1)), &mut waiting, Some(&mut awaited));
        assert_eq!(batch.len(), 1, "nothing is known of b");
        assert_eq!(batch[&"a:80".parse().unwrap()][0].address, SocketAddr::from(([10, 0, 0, 2], 80)));
        assert_eq!(awaited.len(), 1, "b was asked for, too");
    }
}
