//! Which instance a command calls, how its answer is shown, and on which terms a change is made.

use std::path::PathBuf;

use clap::Args;

use super::values;

/// Which instance is called, and how its answer is shown.
#[derive(Debug, Args)]
pub struct Connection {
    /// The admin API of the instance: http://HOST:PORT, https://HOST:PORT or unix:PATH [default: SWITCHBACK_ADMIN, or the client file's,
    /// or http://127.0.0.1:9900]
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// An instance by its name in the client file
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// A token to show to the admin API [default: SWITCHBACK_TOKEN, or the client file's]
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    #[command(flatten)]
    pub tls: Tls,
    #[command(flatten)]
    pub form: Form,
}

/// How an instance at https:// is known, and this client to it.
#[derive(Debug, Args, Default)]
pub struct Tls {
    /// A PEM file with the authority of the instance's certificate [default: the client file's, or those of the system]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// A PEM file with a certificate to show to the instance [default: the client file's]
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// A PEM file with the private key of that certificate
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
}

/// How a result is shown.
#[derive(Debug, Args)]
pub struct Form {
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

/// On which terms a change is made, and why.
#[derive(Debug, Args)]
pub struct Intent {
    /// Say what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", value_parser = values::reason)]
    pub reason: Option<String>,
    /// Change it only if nothing has touched it since revision N
    #[arg(long, value_name = "N", conflicts_with = "if_match")]
    pub if_revision: Option<u64>,
    /// Change it only if this is still its ETag
    #[arg(long, value_name = "ETAG", value_parser = values::tag)]
    pub if_match: Option<String>,
}

/// The options of a call, where they stand before its name. Help shows them with the calls alone.
#[derive(Debug, Args)]
pub struct Early {
    #[arg(long = "admin", id = "early_admin", hide = true)]
    admin: Option<String>,
    #[arg(long = "instance", id = "early_instance", hide = true)]
    instance: Option<String>,
    #[arg(long = "token", id = "early_token", hide = true)]
    token: Option<String>,
    #[arg(long = "json", id = "early_json", hide = true)]
    pub json: bool,
}

impl Early {
    /// Adds what stood before the name to what stands behind it. An instance that is named twice is refused: a token
    /// could be meant for either.
    pub fn join(self, connection: &mut Connection) -> Result<(), String> {
        let Self { admin, instance, token, json } = self;
        if [&admin, &instance, &connection.admin, &connection.instance].into_iter().flatten().count() > 1 {
            return Err("--admin and --instance say which instance is called: give one of them, once".into());
        }
        connection.admin = connection.admin.take().or(admin);
        connection.instance = connection.instance.take().or(instance);
        connection.token = connection.token.take().or(token);
        connection.form.json |= json;
        Ok(())
    }
}
