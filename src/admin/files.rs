//! The calls about the configuration file: check one, read it again, apply one, show it, and where the live state differs.
//!
//! Invariant: what is answered holds the file's text as it is written; what its references stand for is never told. A text that
//! comes through a call names no file, no variable and no address of this machine that is not in force already.

use axum::{
    Json,
    extract::{FromRequest, Request, State},
    http::{StatusCode, Uri, header},
    response::IntoResponse,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{
    body::{self, Media, short},
    call::{Call, Done, Made},
    changes::wrong,
    difference::{self, Difference},
    problem::{Fault, Problem},
    query,
    reading::timestamp,
    router::Admin,
};
use crate::{
    control::{
        change::Kind,
        command::Command,
        declaration::Source,
        drift,
        export::{self, ExportError},
        file::{self, File, OUTCOMES, Trouble, Warning},
        snapshot::Snapshot,
        state::Object,
    },
    telemetry::prometheus::Text as Metrics,
};

/// The declaration in force, and what is wrong with the file on disk.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FileView {
    /// `file`, or `applied` if another one was applied since the file last changed.
    source: &'static str,
    /// Where the file is; left out where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// SHA-256 of the text in force.
    digest: String,
    /// The revision that put it in force.
    revision: u64,
    /// Why what is on disk is not in force.
    error: Option<TroubleView>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct TroubleView {
    since: String,
    detail: String,
    errors: Vec<Fault>,
}

/// `GET /v1/config`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Whole {
    #[serde(flatten)]
    file: FileView,
    /// The text in force, as it is written.
    text: String,
}

/// The answer to a text that was checked.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Valid {
    valid: bool,
    warnings: Vec<Fault>,
    /// What is right and could not come into force in this process.
    refused: Vec<Fault>,
}

/// The answer to a file that was loaded.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Loaded {
    revision: u64,
    changed: bool,
    dry_run: bool,
    kind: Kind,
    at: String,
    /// What is different.
    changes: Vec<Difference>,
    warnings: Vec<Fault>,
}

/// `GET /v1/drift`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Drift {
    revision: u64,
    /// Whether the live state is what the file declares.
    in_sync: bool,
    differences: Vec<Field>,
}

/// A field of which the live state says something else than the file.
#[derive(Debug, Serialize, JsonSchema)]
struct Field {
    /// Where it stands: `split.shop.weights`.
    key: String,
    /// What the file says; `null` is something that it does not have.
    file: Value,
    /// What is in force.
    live: Value,
}

/// A call whose body is a whole file: TOML, or a JSON object with the member `text`.
#[derive(Debug)]
pub struct Text(Call<false>);

impl FromRequest<Admin> for Text {
    type Rejection = Problem;

    async fn from_request(request: Request, admin: &Admin) -> Result<Self, Problem> {
        Call::read(request, admin, Media::Toml).await.map(Self)
    }
}

/// `POST /v1/config/validate`.
pub async fn validate(State(admin): State<Admin>, request: Request) -> Result<Json<Valid>, Problem> {
    query::none(request.uri())?;
    let (_, body) = body::read(request, Media::Toml).await?;
    let text = text(body::needed(body)?)?;
    let snapshot = admin.control.snapshot();
    let (config, warnings) = file::checked_in_turn(text, &snapshot).await?;
    let refused = file::unloadable(&config, &snapshot, admin.control.own_addresses());
    let refused = refused.iter().map(Fault::from).collect();
    Ok(Json(Valid { valid: true, warnings: listed(&warnings), refused }))
}

/// `POST /v1/config/reload`.
pub async fn reload(State(admin): State<Admin>, mut call: Call<false>) -> Result<Done<Loaded>, Problem> {
    // The reason, which every change takes, has been taken.
    let [] = call.optional_body().members([])?;
    let file = admin.file.as_ref().ok_or_else(no_file)?;
    let is_dry = call.is_dry_run();
    let loaded = async {
        let (config, warnings) = file.read_in_turn().await?;
        let made = call.make(Command::Load { config, source: Source::Disk }).await?;
        Ok::<_, Problem>((made, warnings))
    };
    match loaded.await {
        Ok((made, warnings)) => {
            if !is_dry {
                file.note(Ok(&made.change));
            }
            Ok(done(&made, &warnings))
        }
        Err(problem) => {
            if !is_dry {
                // Whoever follows the file takes down what is wrong with it.
                file.ask();
            }
            Err(problem)
        }
    }
}

/// `PUT /v1/config`.
pub async fn apply(State(admin): State<Admin>, Text(mut call): Text) -> Result<Done<Loaded>, Problem> {
    let text = text(call.body()?)?;
    let (config, warnings) = file::checked_in_turn(text, &admin.control.snapshot()).await?;
    let made = call.make(Command::Load { config, source: Source::Applied }).await?;
    Ok(done(&made, &warnings))
}

/// `GET /v1/config`.
pub async fn config(State(admin): State<Admin>, uri: Uri) -> Result<impl IntoResponse, Problem> {
    query::none(&uri)?;
    let snapshot = admin.control.snapshot();
    let tag = admin.tags.field(snapshot.state.touched(&Object::File));
    let (file, text) = (view(&admin, &snapshot), snapshot.config.text.to_string());
    Ok((tag, Json(Whole { file, text })))
}

/// `GET /v1/config/export`.
pub async fn export(State(admin): State<Admin>, uri: Uri) -> Result<impl IntoResponse, Problem> {
    query::none(&uri)?;
    let snapshot = admin.control.snapshot();
    let tag = admin.tags.field(snapshot.state.revision());
    let written = tokio::task::spawn_blocking(move || export::text(&snapshot)).await;
    let fault = |error| Err(ExportError::Unfaithful(format!("a fault in Switchback: {error}")));
    let text = written.unwrap_or_else(fault).map_err(|error| {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Problem::new(status, "no-export", "The live state can't be written as a file", error.to_string())
    })?;
    Ok((tag, [(header::CONTENT_TYPE, "application/toml")], text))
}

/// `GET /v1/drift`.
pub async fn drift(State(admin): State<Admin>, uri: Uri) -> Result<impl IntoResponse, Problem> {
    query::none(&uri)?;
    let state = &admin.control.snapshot().state;
    let differences = drift::of(state.file(), state.live());
    let field = |drift::Difference { key, file, live }| Field { key, file, live };
    let (revision, in_sync) = (state.revision(), differences.is_empty());
    let differences = differences.into_iter().map(field).collect();
    Ok((admin.tags.field(revision), Json(Drift { revision, in_sync, differences })))
}

/// What `status` shows of the file.
pub(super) fn view(admin: &Admin, snapshot: &Snapshot) -> FileView {
    let declaration = snapshot.state.declaration();
    let error = admin.file.as_ref().and_then(|file| file.trouble());
    FileView {
        source: if declaration.is_applied() { "applied" } else { "file" },
        path: admin.file.as_ref().map(|file| file.path().display().to_string()),
        digest: declaration.text.clone(),
        revision: snapshot.state.touched(&Object::File),
        error: error.as_deref().map(TroubleView::of),
    }
}

/// What is counted of the file; nothing where there is none.
pub(super) fn metrics(admin: &Admin, text: &mut Metrics) {
    // An instance without a file to follow has the same families, so that nobody asks for one in vain.
    let file = admin.file.as_ref();
    let mut family =
        text.counter("switchback_file_reads_total", "Readings of the file, by what came of them.");
    for (place, result) in OUTCOMES.into_iter().enumerate() {
        let count = file.and_then(|file| file.outcomes().nth(place)).map_or(0, |(_, count)| count);
        family.sample(&[("result", result)], count);
    }
    text.gauge(
        "switchback_file_refused",
        "Whether what is on disk can't be loaded, so that something older is in force.",
    )
    .sample(&[], u8::from(file.is_some_and(|file| file.trouble().is_some())));
    text.gauge("switchback_file_loaded_timestamp_seconds", "When what is on disk was last found to be good.")
        .sample(&[], file.map_or(0, File::loaded_at));
}

impl TroubleView {
    fn of(trouble: &Trouble) -> Self {
        let errors = trouble.errors.iter().map(Fault::from).chain(trouble.refused.iter().map(Fault::from));
        Self { since: timestamp(trouble.at), detail: trouble.detail.clone(), errors: errors.collect() }
    }
}

fn done(made: &Made, warnings: &[Warning]) -> Done<Loaded> {
    let change = &made.change;
    made.done(Loaded {
        revision: change.revision,
        changed: change.changed(),
        dry_run: made.dry_run,
        kind: change.kind,
        at: timestamp(change.at),
        changes: difference::of(change),
        warnings: listed(warnings),
    })
}

fn listed(warnings: &[Warning]) -> Vec<Fault> {
    warnings.iter().map(|Warning(warning)| Fault::from(warning)).collect()
}

/// The text in a body.
fn text(body: body::Object) -> Result<String, Problem> {
    let [text] = body.members(["text"])?;
    match text {
        Some(Value::String(text)) => Ok(text),
        Some(other) => wrong("/text", format!("{} is not the text of a file", short(&other))),
        None => wrong("/text", "the text of the file is missing".into()),
    }
}

fn no_file() -> Problem {
    let detail = "this process was started without a file; PUT /v1/config applies one";
    Problem::new(StatusCode::CONFLICT, "no-file", "There is no file", detail)
}
