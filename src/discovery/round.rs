//! One round of a name: its questions, and the endpoints that their answers make.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};

use super::{
    ask::{Answer, Ask, Kind, Question, Record, Service},
    memory::Memory,
    screen::{is_own, screened},
    service,
};
use crate::{
    config::{DnsFamily, defaults},
    model::{endpoint_address::EndpointAddress, resolved::Target},
};

/// Targets of a service that are looked up at the same time.
const AT_ONCE: usize = 16;

/// What a round found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Round {
    /// What the name stands for from now on, in order. `None` if nothing is known, which changes nothing.
    pub targets: Option<Vec<Target>>,
    /// How long the answers may be used; `None` if there was none.
    pub ttl: Option<Duration>,
    /// What went wrong first; what was last known good then stands in for it.
    pub fault: Option<Box<str>>,
    /// What of the answers was left out, first; the rest stands.
    pub left_out: Option<Box<str>>,
}

/// A name's side of its rounds: who is asked, and what is remembered.
#[derive(Debug)]
pub(super) struct Rounds<A> {
    ask: Arc<A>,
    family: DnsFamily,
    own: Arc<[SocketAddr]>,
    memory: Memory,
}

/// What comes together within a round.
#[derive(Debug, Default)]
struct Gathered {
    ttl: Option<Duration>,
    fault: Option<Box<str>>,
    left_out: Option<Box<str>>,
}

impl<A: Ask> Rounds<A> {
    /// `own` are the addresses that this process listens on.
    pub(super) fn new(ask: Arc<A>, family: DnsFamily, own: Arc<[SocketAddr]>) -> Self {
        Self { ask, family, own, memory: Memory::default() }
    }

    /// Asks all that there is to ask about a name.
    pub(super) async fn round(&mut self, name: &EndpointAddress) -> Round {
        let mut gathered = Gathered::default();
        let mut targets = match name {
            EndpointAddress::Socket(address) => vec![Target { address: *address, weight: 1 }],
            EndpointAddress::Host { name, port } => self.host(name, *port, &mut gathered).await,
            EndpointAddress::Service { name } => self.service(name, &mut gathered).await,
        };
        self.memory.end_round(gathered.fault.is_none());
        let had_some = !targets.is_empty();
        targets.retain(|target| {
            let leads_back = is_own(target.address, &self.own);
            if leads_back {
                gathered
                    .leave_out(format!("{} is left out: Switchback itself listens there", target.address));
            }
            !leads_back
        });
        if had_some && targets.is_empty() {
            // As good as no answer: a zone must not be able to empty a pool at once.
            gathered.fault = gathered.fault.take().or_else(|| gathered.left_out.clone());
        }
        targets.sort_unstable();
        if targets.len() > defaults::MAX_DNS_ADDRESSES {
            gathered.leave_out(format!(
                "{} addresses are too many: the lowest {} are used",
                targets.len(),
                defaults::MAX_DNS_ADDRESSES
            ));
            // In their order, or the servers' turning their answers round would change the set each time.
            targets.truncate(defaults::MAX_DNS_ADDRESSES);
        }
        let Gathered { ttl, fault, left_out } = gathered;
        let is_known = !targets.is_empty() || fault.is_none();
        Round { targets: is_known.then_some(targets), ttl, fault, left_out }
    }

    /// All addresses of the first full name that has any.
    async fn host(&mut self, name: &str, port: u16, gathered: &mut Gathered) -> Vec<Target> {
        for candidate in self.candidates(name) {
            let found = self.addresses(&candidate, gathered).await;
            if !found.is_empty() {
                let target = |ip| Target { address: SocketAddr::new(ip, port), weight: 1 };
                return found.into_iter().map(target).collect();
            }
        }
        Vec::new()
    }

    /// The targets of the first full name that has any, with their addresses.
    async fn service(&mut self, name: &str, gathered: &mut Gathered) -> Vec<Target> {
        for candidate in self.candidates(name) {
            let question = Question::new(&candidate, Kind::Srv);
            let answer = self.ask.ask(&question).await;
            let records: Vec<_> =
                self.take(question, answer, gathered).into_iter().filter_map(Record::service).collect();
            if records.is_empty() {
                continue;
            }
            let mut in_force = service::in_force(&records);
            if in_force.len() > defaults::MAX_DNS_ADDRESSES {
                gathered.leave_out(format!("{} targets are too many", in_force.len()));
                in_force.sort_unstable();
                in_force.truncate(defaults::MAX_DNS_ADDRESSES);
            }
            let hosts: BTreeSet<&str> = in_force.iter().map(|record| &*record.target).collect();
            let found = self.all_addresses(hosts, gathered).await;
            let addresses = |record: &Service| {
                found
                    .iter()
                    .find(|(host, _)| **host == *record.target)
                    .map(|(_, addresses)| addresses.clone())
            };
            return service::weighed(
                in_force.iter().map(|record| (*record, addresses(record).unwrap_or_default())),
            );
        }
        Vec::new()
    }

    /// The full names that a name may mean. One with a last dot is a full name, and means no other.
    fn candidates(&self, name: &str) -> Vec<Box<str>> {
        match name.strip_suffix('.') {
            Some(full) => vec![full.into()],
            None => self.ask.candidates(name),
        }
    }

    /// The addresses of one full name.
    async fn addresses(&mut self, host: &str, gathered: &mut Gathered) -> BTreeSet<IpAddr> {
        let (_, answers) = answers(Arc::clone(&self.ask), self.family, host.into()).await;
        self.take_addresses(answers, gathered)
    }

    /// The addresses of several full names.
    async fn all_addresses(
        &mut self,
        hosts: BTreeSet<&str>,
        gathered: &mut Gathered,
    ) -> Vec<(Box<str>, Vec<IpAddr>)> {
        let questions: Vec<_> =
            hosts.into_iter().map(|host| answers(Arc::clone(&self.ask), self.family, host.into())).collect();
        let answered: Vec<_> = stream::iter(questions).buffered(AT_ONCE).collect().await;
        let take = |(host, answers)| (host, self.take_addresses(answers, gathered).into_iter().collect());
        answered.into_iter().map(take).collect()
    }

    fn take_addresses(
        &mut self,
        answers: Vec<(Question, Answer)>,
        gathered: &mut Gathered,
    ) -> BTreeSet<IpAddr> {
        let take = |(question, answer)| self.take(question, answer, gathered);
        answers.into_iter().flat_map(take).filter_map(Record::address).collect()
    }

    /// Takes one answer in, screened.
    fn take(&mut self, question: Question, answer: Answer, gathered: &mut Gathered) -> Vec<Record> {
        let answer = gathered.screened(answer);
        if let Answer::Records { ttl, .. } = &answer {
            gathered.ttl = Some(gathered.ttl.map_or(*ttl, |shortest| shortest.min(*ttl)));
        }
        let (records, fault) = self.memory.take(question, answer);
        gathered.fault = gathered.fault.take().or(fault);
        records
    }
}

/// The answers to all questions for a host's addresses.
async fn answers<A: Ask>(
    ask: Arc<A>,
    family: DnsFamily,
    host: Box<str>,
) -> (Box<str>, Vec<(Question, Answer)>) {
    let one = async |kind| {
        let question = Question::new(&host, kind);
        let answer = ask.ask(&question).await;
        (question, answer)
    };
    let answers = match family {
        DnsFamily::Any => {
            let (four, six) = tokio::join!(one(Kind::A), one(Kind::Aaaa));
            vec![four, six]
        }
        DnsFamily::Ipv4 => vec![one(Kind::A).await],
        DnsFamily::Ipv6 => vec![one(Kind::Aaaa).await],
    };
    (host, answers)
}

impl Gathered {
    /// The answer without the addresses that can't be endpoints. One that has nothing else is as good as none.
    fn screened(&mut self, answer: Answer) -> Answer {
        let Answer::Records { records, ttl } = answer else { return answer };
        let mut refused = None;
        let screen = |record| match record {
            Record::Address(ip) => {
                screened(ip).map(Record::Address).map_err(|why| refused = Some(why.to_string())).ok()
            }
            record => Some(record),
        };
        let records: Vec<_> = records.into_iter().filter_map(screen).collect();
        match refused {
            Some(why) if records.is_empty() => return Answer::Failed(why.into()),
            Some(why) => self.leave_out(why),
            None => {}
        }
        Answer::Records { records, ttl }
    }

    fn leave_out(&mut self, what: String) {
        self.left_out.get_or_insert_with(|| what.into());
    }
}

impl Record {
    fn address(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address),
            Self::Service(_) => None,
        }
    }

    fn service(self) -> Option<Service> {
        match self {
            Self::Service(service) => Some(service),
            Self::Address(_) => None,
        }
    }
}

#[cfg(test)]
#[path = "round_tests.rs"]
mod tests;
