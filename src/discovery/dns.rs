//! Asks as the machine would: the hosts file first, then the name servers of `/etc/resolv.conf`, or those of the file.
//!
//! Invariant: a question ends within the configured time, and no more are open at once than were allowed. Both
//! system files are read anew when they have changed.

use std::{
    fs, io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::{Query, ResponseCode},
        rr::{Name, RData, RecordType},
    },
    system_conf,
};
use tokio::sync::Semaphore;

use super::ask::{Answer, Ask, Kind, Question, Record, Service};
use crate::config;

/// The parts that a question's time is shared out to: a first try and two more, since packets get lost.
const TRIES: u32 = 3;
/// How long an entry of the hosts file is used. It is read anew only if it has changed.
const HOSTS_TTL: Duration = Duration::from_secs(5);
/// How often the system's files are looked at, at most.
const LOOK: Duration = Duration::from_millis(500);
/// The file that says whom to ask.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The file that goes before all name servers.
const HOSTS: &str = "/etc/hosts";
/// The most characters of a fault that are kept.
const MAX_FAULT: usize = 200;

/// The machine's view of names.
pub struct Dns {
    settings: config::Dns,
    questions: Semaphore,
    system: Mutex<System>,
}

/// The system's files as they were last read.
struct System {
    looked: Instant,
    stamps: [Option<Stamp>; 2],
    view: Arc<View>,
}

/// What tells that a file has changed.
type Stamp = (SystemTime, u64);

/// What questions are asked by.
struct View {
    /// Why there is none is told with each question.
    resolver: Result<TokioResolver, Box<str>>,
    hosts: Hosts,
    /// The domains that a short name may be within.
    search: Vec<Name>,
    /// A name with fewer dots is tried within the search list's domains first.
    dots: usize,
}

impl Dns {
    /// Reads the system's files. What is wrong with them is told with each question. At most `questions` are open at
    /// once, over all names.
    pub fn new(settings: config::Dns, questions: usize) -> Self {
        let view = Arc::new(View::read(&settings));
        let system = Mutex::new(System { looked: Instant::now(), stamps: stamps(), view });
        Self { settings, questions: Semaphore::new(questions.clamp(1, Semaphore::MAX_PERMITS)), system }
    }

    /// The view of the system's files as they are now.
    fn view(&self) -> Arc<View> {
        // A panic while it was held can't leave it half changed: the view is replaced as a whole.
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        if system.looked.elapsed() >= LOOK {
            system.looked = Instant::now();
            let stamps = stamps();
            if stamps != system.stamps {
                tracing::info!("{RESOLV_CONF} or {HOSTS} has changed and is read anew");
                system.stamps = stamps;
                system.view = Arc::new(View::read(&self.settings));
            }
        }
        Arc::clone(&system.view)
    }
}

impl Ask for Dns {
    fn candidates(&self, name: &str) -> Vec<Box<str>> {
        self.view().candidates(name)
    }

    async fn ask(&self, question: &Question) -> Answer {
        let Ok(_open) = self.questions.acquire().await else {
            return Answer::Failed("no questions are taken any more".into());
        };
        let view = self.view();
        let answered = tokio::time::timeout(self.settings.timeout, view.ask(question)).await;
        answered.unwrap_or_else(|_| Answer::Failed("the name servers have not answered in time".into()))
    }
}

fn stamps() -> [Option<Stamp>; 2] {
    [RESOLV_CONF, HOSTS].map(|path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

impl View {
    fn read(settings: &config::Dns) -> Self {
        let (config, options) = if settings.servers.is_empty() {
            match system_conf::read_system_conf() {
                Ok(read) => read,
                Err(error) => {
                    let why = format!("{RESOLV_CONF}: {error}; name servers can be given in [dns]");
                    return Self { resolver: Err(why.into()), hosts: hosts(), search: Vec::new(), dots: 1 };
                }
            }
        } else {
            let servers = settings.servers.iter().map(|address| server(*address)).collect();
            (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
        };
        let (search, dots) = (config.search().to_vec(), options.ndots);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let given = builder.options_mut();
        *given = options;
        given.timeout = settings.timeout / TRIES;
        given.attempts = TRIES as usize - 1;
        // Answers are asked for when they have run out; another cache would only hold them longer.
        given.cache_size = 0;
        given.use_hosts_file = ResolveHosts::Never;
        let resolver = builder.build().map_err(|error| shown(&error));
        Self { resolver, hosts: hosts(), search, dots }
    }

    fn candidates(&self, name: &str) -> Vec<Box<str>> {
        let Some(full) = full_name(name) else { return Vec::new() };
        if full.is_localhost() || self.in_hosts(&full) {
            return vec![name.into()];
        }
        let within = |domain: &Name| {
            let full = Name::from_ascii(name).ok()?.append_domain(domain).ok()?;
            Some(full.to_ascii().trim_end_matches('.').into())
        };
        let mut names: Vec<Box<str>> = self.search.iter().filter_map(within).collect();
        let has_dots = name.bytes().filter(|byte| *byte == b'.').count() >= self.dots;
        names.insert(if has_dots { 0 } else { names.len() }, name.into());
        names
    }

    fn in_hosts(&self, name: &Name) -> bool {
        [RecordType::A, RecordType::AAAA].into_iter().any(|kind| self.of_hosts(name, kind).is_some())
    }

    fn of_hosts(&self, name: &Name, kind: RecordType) -> Option<Lookup> {
        let lookup = self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        lookup.filter(|lookup| !lookup.answers().is_empty())
    }

    async fn ask(&self, question: &Question) -> Answer {
        let Some(name) = full_name(&question.name) else { return Answer::Failed("this is no name".into()) };
        let kind = match question.kind {
            Kind::A => RecordType::A,
            Kind::Aaaa => RecordType::AAAA,
            Kind::Srv => RecordType::SRV,
        };
        if kind != RecordType::SRV && self.in_hosts(&name) {
            return self
                .of_hosts(&name, kind)
                .map_or(Answer::Nothing, |lookup| answer(&lookup, kind, HOSTS_TTL));
        }
        let resolver = match &self.resolver {
            Ok(resolver) => resolver,
            Err(why) => return Answer::Failed(why.clone()),
        };
        match resolver.lookup(name, kind).await {
            Ok(lookup) => {
                let ttl = lookup.valid_until().saturating_duration_since(Instant::now());
                answer(&lookup, kind, ttl)
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
            {
                Answer::Nothing
            }
            Err(error) => Answer::Failed(shown(&error)),
        }
    }
}

/// A name server that is asked over UDP, and over TCP where an answer did not fit.
fn server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn hosts() -> Hosts {
    let read = Hosts::from_system();
    if let Err(error) = read.as_ref()
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "{HOSTS} can't be read");
    }
    read.unwrap_or_default()
}

/// A name that no search list is applied to.
fn full_name(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// The records of the type that was asked for: what else is in a section is not for us.
fn answer(lookup: &Lookup, kind: RecordType, ttl: Duration) -> Answer {
    let of_kind = lookup.answers().iter().filter(|record| record.record_type() == kind);
    let records: Vec<_> = of_kind.filter_map(|record| read(&record.data)).collect();
    if records.is_empty() { Answer::Nothing } else { Answer::Records { records, ttl } }
}

fn read(data: &RData) -> Option<Record> {
    match data {
        RData::A(address) => Some(Record::Address(address.0.into())),
        RData::AAAA(address) => Some(Record::Address(address.0.into())),
        RData::SRV(srv) => Some(Record::Service(Service {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: srv.target.to_ascii().trim_end_matches('.').to_ascii_lowercase().into(),
        })),
        _ => None,
    }
}

/// What went wrong, in a length that fits a line.
fn shown(error: &NetError) -> Box<str> {
    let text = error.to_string();
    text.chars().take(MAX_FAULT).flat_map(char::escape_debug).collect::<String>().into()
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_few_dots_is_tried_within_the_search_list_first() {
        let search = ["one.test", "two.test"].map(|domain| Name::from_ascii(domain).unwrap()).to_vec();
        let view = |dots| View {
            resolver: Err("nobody is asked".into()),
            hosts: Hosts::default(),
            search: search.clone(),
            dots,
        };
        let candidates = |dots, name: &str| view(dots).candidates(name).join(" ");
        assert_eq!(candidates(5, "api.example"), "api.example.one.test api.example.two.test api.example");
        assert_eq!(candidates(1, "api.example"), "api.example api.example.one.test api.example.two.test");
        assert_eq!(candidates(5, "localhost"), "localhost");
    }
}
