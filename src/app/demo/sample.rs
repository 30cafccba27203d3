//! The sample app: a page that shows its colour and version.

use std::{convert::Infallible, net::SocketAddr};

use http::{Request, Response, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

/// Starts one version of the app on a free port of the loopback address. It serves as long as the runtime lives.
pub(super) async fn start(colour: &'static str, version: &'static str) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            tokio::spawn(async move {
                let service =
                    service_fn(
                        move |request| async move { Ok::<_, Infallible>(page(&request, colour, version)) },
                    );
                // A visitor that goes away early is no concern of the app.
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok(address)
}

fn page(request: &Request<Incoming>, colour: &str, version: &str) -> Response<String> {
    let wants_html = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    let (kind, body) = if wants_html {
        let background = if colour == "blue" { "#1d4ed8" } else { "#15803d" };
        let body = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{colour} {version}</title>\
             <body style=\"margin:0;display:grid;place-items:center;height:100vh;background:{background};\
             color:#fff;font-family:system-ui,sans-serif\"><main style=\"text-align:center\">\
             <h1 style=\"font-size:5rem;margin:0\">{colour}</h1><p style=\"font-size:1.5rem\">version {version}</p>\
             </main></body></html>\n"
        );
        ("text/html; charset=utf-8", body)
    } else {
        ("text/plain; charset=utf-8", format!("{colour}, version {version}\n"))
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
