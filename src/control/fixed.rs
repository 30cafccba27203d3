//! What a file may not change while the process runs, and what one from outside of this machine may not say. Pure.

use std::path::PathBuf;

use super::{declaration::Source, refusal::FileFault};
use crate::config::{AdminAddress, ClientSettings, Config, PairFiles};

/// Everything in `next` that can't come into force in a process that runs with `now`.
pub fn faults(now: &Config, next: &Config, source: Source) -> Vec<FileFault> {
    let mut faults = Vec::new();
    let restart = "restart with the new file (`switchback upgrade` does so without losing a request), or take the edit back";
    let mut fixed = |pointer: &str, what: &str, is_same: bool| {
        if !is_same {
            let message = format!("{what} can't change in a running process");
            faults.push(FileFault { pointer: pointer.into(), message, help: restart.into() });
        }
    };
    fixed("/workers", "the number of workers", now.workers == next.workers);
    fixed("/admin/listen", "the address of the admin API", now.admin == next.admin);
    let of_admin = |config: &Config| (config.admin_tls.clone(), config.admin_roles.clone());
    fixed("/admin/tls", "the TLS of the admin API", of_admin(now) == of_admin(next));
    fixed("/admin/tokens", "where tokens are kept", now.tokens == next.tokens);
    fixed("/health/listen", "the address for probes", now.health == next.health);
    fixed("/state/path", "where the state is kept", now.state == next.state);
    if source == Source::Applied {
        from_outside(now, next, &mut faults);
    }
    faults
}

/// What whoever may call the admin API could reach by it of this machine: its addresses and its files.
fn from_outside(now: &Config, next: &Config, faults: &mut Vec<FileFault>) {
    let help = "write it into the file on the machine itself";
    let mut refuse = |pointer: String, message: String| {
        faults.push(FileFault { pointer, message, help: help.into() });
    };
    // Who may call the admin API, and where else this process listens, is not for a caller to say.
    let (before, after) = (now.document(), next.document());
    for table in ["admin", "health"] {
        if before.get(table) != after.get(table) {
            refuse(format!("/{table}"), format!("[{table}] can't be changed through the admin API"));
        }
    }
    for (index, listener) in next.listeners.iter().enumerate() {
        let is_known = now.listeners.iter().any(|known| known.address == listener.address);
        if !is_known {
            let message =
                format!("a new address, {}, can't be opened through the admin API", listener.address);
            refuse(format!("/listener/{index}/listen"), message);
        }
    }
    certificate_files(now, next, &mut refuse);
    let log = |config: &Config| config.access_log.as_ref().map(|log| log.path.clone());
    if next.access_log.is_some() && log(now) != log(next) {
        let message = "another file for the access log can't be named through the admin API".to_owned();
        refuse("/access_log/path".into(), message);
    }
    if next.pins.key_file.is_some() && now.pins.key_file != next.pins.key_file {
        let message = "another file of keys can't be named through the admin API".to_owned();
        refuse("/pins/key_file".into(), message);
    }
}

/// A listener may use the files that it has, or fewer; whoever calls the admin API names no others.
fn certificate_files(now: &Config, next: &Config, refuse: &mut impl FnMut(String, String)) {
    let known: Vec<_> = now.listeners.iter().filter_map(|listener| listener.tls.as_deref()).collect();
    let has_pair = |files: &PairFiles| known.iter().any(|tls| tls.certificates.contains(files));
    let has_clients = |clients: &ClientSettings| {
        let known = known.iter().filter_map(|tls| tls.clients.as_ref());
        let lists: Vec<_> = known.clone().flat_map(|known| &known.revocations).collect();
        known.clone().any(|known| known.authorities == clients.authorities)
            && clients.revocations.iter().all(|list| lists.contains(&list))
    };
    for (index, listener) in next.listeners.iter().enumerate() {
        let Some(tls) = &listener.tls else { continue };
        for (place, _) in tls.certificates.iter().enumerate().filter(|(_, files)| !has_pair(files)) {
            let pointer = format!("/listener/{index}/tls/certificates/{place}");
            refuse(pointer, "other files of certificates can't be named through the admin API".to_owned());
        }
        if tls.clients.as_ref().is_some_and(|clients| !has_clients(clients)) {
            let message = "other files of what is asked of clients can't be named through the admin API";
            refuse(format!("/listener/{index}/tls/client_ca"), message.to_owned());
        }
        let is_known = |keys: &PathBuf| known.iter().any(|tls| tls.ticket_keys.as_ref() == Some(keys));
        if tls.ticket_keys.as_ref().is_some_and(|keys| !is_known(keys)) {
            let message = "another file of keys can't be named through the admin API".to_owned();
            refuse(format!("/listener/{index}/tls/ticket_keys"), message);
        }
    }
}

/// The address of the admin API, if it has one of its own on the network.
pub fn admin_address(config: &Config) -> Option<std::net::SocketAddr> {
    match &config.admin {
        Some(AdminAddress::Tcp(address)) => Some(*address),
        Some(AdminAddress::Unix(_)) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(global: &str, port: u16, more: &str) -> Config {
        let text = format!(
            "{global}\n[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:{port}\"\n{more}\n\
             [pool.app]\nendpoints = [\"127.0.0.1:1\"]\n[[route]]\nname = \"all\"\npool = \"app\"\n"
        );
        crate::config::parse("test.toml", &text).unwrap().0
    }

    fn pointers(next: &Config, source: Source) -> Vec<String> {
        let now = config("workers = 1", 8080, "");
        faults(&now, next, source).into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn what_a_process_is_built_on_is_named_and_all_else_may_change() {
        for (next, refused) in [
            (config("workers = 2", 8080, ""), &["/workers"][..]),
            (config("workers = 1\n[admin]\nlisten = \"127.0.0.1:1\"", 8080, ""), &["/admin/listen"]),
            (config("", 8080, "[state]\npath = \"x.db\""), &["/workers", "/state/path"]),
            (config("workers = 1", 8081, "[access_log]\npath = \"a.log\""), &[]),
        ] {
            assert_eq!(pointers(&next, Source::Disk), refused);
        }
    }

    #[test]
    fn through_the_api_no_address_is_opened_and_no_file_named() {
        let next =
            config("workers = 1", 8081, "[access_log]\npath = \"/etc/x\"\n[pins]\nkey_file = \"/etc/y\"");
        let expected = ["/listener/0/listen", "/access_log/path", "/pins/key_file"];
        assert_eq!(pointers(&next, Source::Applied), expected);
        assert!(pointers(&next, Source::Disk).is_empty());
        assert!(pointers(&config("workers = 1", 8080, ""), Source::Applied).is_empty());
    }
}
