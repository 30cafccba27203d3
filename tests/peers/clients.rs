//! Clients that applications and people use: each agrees on HTTP/2 over TLS, and is served many requests at once.
//!
//! Nothing is replaced beneath them. Those of Python, Node and Java take any GOAWAY, whatever server it is from, for the failure of
//! what is in flight; what one has to say is asked of stricter clients, in tests/hitless.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use super::{
    Edge, run, said,
    support::{is_long, wait_until},
};

/// How many requests each client sends before and after the replacement, all at once.
const REQUESTS: usize = 50;

/// What tests/install keeps of other registries.
fn kept(name: &str) -> PathBuf {
    let home = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".local/share"));
    home.join("switchback-tests").join(name)
}

/// Has a program send its requests, and send them again when it is told to. It exits with an error if any request fails, or
/// comes by another version than HTTP/2.
fn sends_twice(edge: &Edge, command: &mut Command) {
    let before = edge.upstream.requests();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} (see tests/install): {error}"));
    wait_until("its first requests have come", || {
        let is_over = child.try_wait().expect("our own child").is_some();
        is_over || edge.upstream.requests() >= before + REQUESTS
    });
    // Its end tells the program to go on.
    drop(child.stdin.take());
    said(&child.wait_with_output().expect("our own child"));
    assert_eq!(edge.upstream.requests() - before, 2 * REQUESTS, "each came once");
}

#[test]
fn httpx_of_python() {
    const PROGRAM: &str = r#"
import asyncio, ssl, sys, httpx
url, ca, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
async def main():
    trust = ssl.create_default_context(cafile=ca)
    async with httpx.AsyncClient(http2=True, verify=trust, timeout=30) as client:
        async def one(number):
            answer = await client.post(f"{url}/{number}", content=b"x" * 10_000)
            assert answer.http_version == "HTTP/2", answer.http_version
            assert answer.status_code == 200 and answer.text == f"/{number} " + "x" * 10_000, answer
        await asyncio.gather(*(one(number) for number in range(count)))
        await asyncio.to_thread(sys.stdin.read)
        await asyncio.gather(*(one(number) for number in range(count)))
asyncio.run(main())
"#;
    let edge = Edge::start();
    let python = kept("python").join("bin/python");
    let mut command = Command::new(python);
    command.args(["-c", PROGRAM, &edge.url("")]).arg(edge.authority.file()).arg(REQUESTS.to_string());
    sends_twice(&edge, &mut command);
}

#[test]
fn curl_with_many_requests_at_once() {
    let edge = Edge::start();
    let last = REQUESTS - 1;
    let output = run(Command::new("curl")
        .args([
            "-sS",
            "-4",
            "--http2",
            "--parallel",
            "--max-time",
            "20",
            "-w",
            "%{http_version} %{http_code}\n",
        ])
        .args(["-o", "/dev/null", "--cacert"])
        .arg(edge.authority.file())
        .arg(edge.url(&format!("/[0-{last}]"))));
    assert_eq!(said(&output).lines().filter(|line| *line == "2 200").count(), REQUESTS);
}

#[test]
fn the_clients_of_node_and_java_and_a_browser() {
    // They are large to install; what they do the short form has from httpx and curl.
    let programs: &[fn(&Edge)] = if is_long() { &[undici, java, chromium] } else { &[] };
    let edge = Edge::start();
    for program in programs {
        program(&edge);
    }
    // Whatever came before, the next is served.
    let answer = run(Command::new("curl")
        .args(["-sS", "-4", "--cacert"])
        .arg(edge.authority.file())
        .arg(edge.url("/")));
    assert_eq!(said(&answer), "/ ");
}

fn undici(edge: &Edge) {
    const PROGRAM: &str = r#"
const { Agent, request } = require("undici");
const fs = require("node:fs");
const [url, ca, count] = process.argv.slice(2);
const dispatcher = new Agent({ allowH2: true, connections: 2, pipelining: 20, connect: { ca: fs.readFileSync(ca) } });
async function one(number) {
  const answer = await request(`${url}/${number}`, { dispatcher, method: "PUT", body: "x".repeat(1000) });
  const text = await answer.body.text();
  if (answer.statusCode !== 200 || text !== `/${number} ` + "x".repeat(1000)) throw new Error(`${number}: ${text}`);
}
async function all() {
  await Promise.all(Array.from({ length: Number(count) }, (_, number) => one(number)));
}
(async () => {
  await all();
  for await (const _ of process.stdin) {}
  await all();
  await dispatcher.close();
})().catch((error) => { console.error(error); process.exit(1); });
"#;
    let script = edge.authority.path("undici.cjs");
    fs::write(&script, PROGRAM).expect("a writable folder");
    let mut command = Command::new("node");
    command.env("NODE_PATH", kept("node").join("node_modules")).arg(&script);
    command.arg(edge.url("")).arg(edge.authority.file()).arg(REQUESTS.to_string());
    sends_twice(edge, &mut command);
    assert_eq!(edge.upstream.last().head.all("via"), ["2 switchback"]);
}

fn java(edge: &Edge) {
    const PROGRAM: &str = r#"
import java.io.FileInputStream;
import java.net.URI;
import java.net.http.*;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;
import javax.net.ssl.*;

public class Client {
    public static void main(String[] arguments) throws Exception {
        var store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (var file = new FileInputStream(arguments[1])) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        var context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        var client = HttpClient.newBuilder().sslContext(context).version(HttpClient.Version.HTTP_2).build();
        all(client, arguments[0], Integer.parseInt(arguments[2]));
        System.in.readAllBytes();
        all(client, arguments[0], Integer.parseInt(arguments[2]));
    }

    static void all(HttpClient client, String url, int count) {
        var answers = IntStream.range(0, count).mapToObj(number -> {
            var request = HttpRequest.newBuilder(URI.create(url + "/" + number)).build();
            return client.sendAsync(request, HttpResponse.BodyHandlers.ofString()).thenAccept(answer -> {
                var isWhole = answer.statusCode() == 200 && answer.body().equals("/" + number + " ");
                if (!isWhole || answer.version() != HttpClient.Version.HTTP_2) {
                    throw new IllegalStateException(number + ": " + answer + " " + answer.body());
                }
            });
        });
        CompletableFuture.allOf(answers.toArray(CompletableFuture[]::new)).join();
    }
}
"#;
    let source = edge.authority.path("Client.java");
    fs::write(&source, PROGRAM).expect("a writable folder");
    let mut command = Command::new("java");
    command.arg(&source).arg(edge.url("")).arg(edge.authority.file()).arg(REQUESTS.to_string());
    sends_twice(edge, &mut command);
}

/// It is shown a page, and asks for a picture beside it as every browser does.
fn chromium(edge: &Edge) {
    let profile = edge.authority.path("chromium");
    let before = edge.upstream.requests();
    let mut command = Command::new("chromium");
    // The authority is in no store of this machine.
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--ignore-certificate-errors",
        "--dump-dom",
    ]);
    command.arg(format!("--user-data-dir={}", profile.display())).arg(edge.url("/page"));
    let page = said(&run(&mut command));
    assert!(page.contains("/page "), "{page}");
    let asked = edge.upstream.messages().split_off(before);
    assert!(asked.iter().all(|message| message.head.all("via") == ["2 switchback"]), "{asked:?}");
}
