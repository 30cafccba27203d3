//! The client file: which instance is called, which token is shown to it, and what is refused.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    process::{Command, Output},
    sync::mpsc,
    thread,
};

use super::{
    admin_support::Instance,
    run::{Folder, code, command, complained},
};

/// An address that takes down what token each caller shows, and answers as a healthy instance.
struct Watched {
    url: String,
    shown: mpsc::Receiver<Option<String>>,
}

impl Watched {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (sender, shown) = mpsc::channel();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let head: Vec<_> = BufReader::new(stream.try_clone().expect("a descriptor"))
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                    .collect();
                let token = head.iter().find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("authorization: bearer ").map(str::to_owned)
                });
                sender.send(token).ok();
                let body = "{\"ready\": true, \"phase\": \"ready\"}";
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).ok();
            }
        });
        Self { url, shown }
    }

    /// The token that the one caller has shown.
    fn token(&self) -> Option<String> {
        self.shown.try_recv().expect("it was called")
    }

    fn was_called(&self) -> bool {
        self.shown.try_recv().is_ok()
    }
}

fn health(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = command();
    command.arg("health").args(arguments).env("SWITCHBACK_CLIENT_FILE", folder.path().join("client.toml"));
    command
}

fn run(mut command: Command) -> Output {
    command.output().expect("the binary starts")
}

#[test]
fn the_file_says_where_an_instance_is_and_which_token_it_wants() {
    let [usual, shop] = [(); 2].map(|()| Watched::start());
    let folder = Folder::new();
    folder.write("shop.token", "sb_shop\n", 0o600);
    let text = format!(
        "admin = {:?}\ntoken = \"sb_usual\"\n[instance.shop]\nadmin = {:?}\ntoken_file = \"shop.token\"\n",
        usual.url, shop.url
    );
    folder.write("client.toml", &text, 0o600);
    assert_eq!(code(&run(health(&folder, &[]))), 0);
    assert_eq!(usual.token().as_deref(), Some("sb_usual"));
    assert_eq!(code(&run(health(&folder, &["--instance", "shop"]))), 0);
    assert_eq!(shop.token().as_deref(), Some("sb_shop"));
    let mut early = command();
    early
        .args(["--instance", "shop", "health"])
        .env("SWITCHBACK_CLIENT_FILE", folder.path().join("client.toml"));
    assert_eq!(code(&run(early)), 0);
    assert_eq!(shop.token().as_deref(), Some("sb_shop"));

    // It is found where such files are.
    for (variable, place) in
        [("XDG_CONFIG_HOME", "xdg/switchback/client.toml"), ("HOME", "home/.config/switchback/client.toml")]
    {
        folder.write(
            place,
            &text.replace("sb_usual", variable).replace("shop.token", "../../shop.token"),
            0o600,
        );
        let root = folder.path().join(place.split('/').next().expect("a folder"));
        let mut found = command();
        found.arg("health").env(variable, root);
        assert_eq!(code(&run(found)), 0);
        assert_eq!(usual.token(), Some(variable.to_ascii_lowercase()));
    }
}

#[test]
fn a_token_goes_to_no_other_instance_than_the_one_it_is_for() {
    let [usual, shop, other] = [(); 3].map(|()| Watched::start());
    let folder = Folder::new();
    let text = format!(
        "admin = {:?}\ntoken = \"sb_usual\"\n[instance.shop]\nadmin = {:?}\ntoken = \"sb_shop\"\n[instance.bare]\nadmin = {:?}\n",
        usual.url, shop.url, other.url
    );
    folder.write("client.toml", &text, 0o600);
    let with = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = health(&folder, arguments);
        command.envs(variables.iter().copied());
        let output = run(command);
        assert_eq!(code(&output), 0, "{output:?}");
    };
    with(&["--admin", &other.url], &[]);
    assert_eq!(other.token(), None, "a flag names an instance of which the file has no token");
    with(&[], &[("SWITCHBACK_ADMIN", &other.url)]);
    assert_eq!(other.token(), None, "so does the environment");
    with(&["--instance", "bare"], &[]);
    assert_eq!(other.token(), None, "the part without a name is not for it");
    with(&["--admin", &other.url], &[("SWITCHBACK_ADMIN", &shop.url), ("SWITCHBACK_TOKEN", "sb_env")]);
    assert_eq!(other.token(), None, "the environment's token is for the environment's instance");
    with(&["--instance", "bare"], &[("SWITCHBACK_ADMIN", &shop.url), ("SWITCHBACK_TOKEN", "sb_env")]);
    assert_eq!(other.token(), None);
    with(&["--instance", "shop"], &[("SWITCHBACK_ADMIN", &usual.url), ("SWITCHBACK_TOKEN", "sb_env")]);
    assert_eq!(shop.token().as_deref(), Some("sb_shop"), "a flag counts before the environment");
    with(&["--admin", &usual.url], &[]);
    assert_eq!(usual.token().as_deref(), Some("sb_usual"), "the same address, by a flag");
    with(&["--admin", &other.url, "--token", "sb_flag"], &[("SWITCHBACK_TOKEN", "sb_env")]);
    assert_eq!(other.token().as_deref(), Some("sb_flag"));
    with(&[], &[("SWITCHBACK_TOKEN", "sb_env")]);
    assert_eq!(usual.token().as_deref(), Some("sb_env"), "the environment counts before the file");
}

#[test]
fn what_is_wrong_with_the_file_is_said_and_nobody_is_called() {
    let watched = Watched::start();
    let admin = format!("admin = {:?}\n", watched.url);
    let folder = Folder::new();
    folder.write("open.token", "sb_secret", 0o644);
    for (text, mode, word) in [
        (format!("{admin}token = \"sb_secret\"\n"), 0o644, "others can read it: chmod 600"),
        (format!("{admin}token = \"sb_secret\"\n"), 0o640, "others can read it: chmod 600"),
        (format!("{admin}[instance.shop]\ntoken = \"sb_secret\"\n"), 0o644, "others can read it"),
        (admin.clone(), 0o666, "others than its owner may write it"),
        (
            format!("{admin}token_file = \"open.token\"\n"),
            0o600,
            "open.token: it holds a token, and others can read it",
        ),
        (format!("{admin}token_file = \"none.token\"\n"), 0o600, "none.token can't be read"),
        (format!("{admin}tokn = \"sb_secret\"\n"), 0o600, "has no key \"tokn\": did you mean \"token\"?"),
        (
            format!("{admin}[instance.shop]\nadmn = \"x\"\n"),
            0o600,
            "[instance.shop] has no key \"admn\": did you mean \"admin\"?",
        ),
        (
            format!("{admin}colour = \"red\"\n"),
            0o600,
            "known are admin, token, token_file, ca, cert, key, instance",
        ),
        (format!("{admin}token = 7\n"), 0o600, "token is not a text"),
        (format!("{admin}token = \"sb_secret\"\ntoken_file = \"a\"\n"), 0o600, "are both given"),
        (format!("{admin}instance = 3\n"), 0o600, "write [instance.NAME]"),
        (format!("{admin}token = \"sb_secret\ntoken_file\n"), 0o600, "line 3: "),
        (format!("# {}\n", "x".repeat(70_000)), 0o600, "over 64 KiB"),
    ] {
        folder.write("client.toml", &text, mode);
        let wrong = run(health(&folder, &[]));
        assert_eq!(code(&wrong), 1, "{wrong:?}");
        let told = complained(&wrong);
        assert!(told.contains(word) && !told.contains("sb_secret"), "no {word:?} in {told}");
        assert!(!watched.was_called(), "{word}");
    }
    folder.write("client.toml", &format!("{admin}[instance.shop]\n"), 0o644);
    let unknown = run(health(&folder, &["--instance", "shpo"]));
    assert_eq!(code(&unknown), 2, "{unknown:?}");
    assert!(complained(&unknown).contains("no instance \"shpo\": did you mean \"shop\"?"), "{unknown:?}");
    let mut missing = command();
    missing.arg("health").env("SWITCHBACK_CLIENT_FILE", folder.path().join("none.toml"));
    assert_eq!(code(&run(missing)), 1, "a file that is named has to be there");
    // What is not shown is not read.
    folder.write("client.toml", &format!("{admin}token_file = \"none.token\"\n"), 0o600);
    assert_eq!(code(&run(health(&folder, &["--token", "t"]))), 0);
    folder.write("client.toml", "tokn = 1", 0o600);
    let whole = run(health(&folder, &["--admin", &watched.url, "--token", "t"]));
    assert_eq!(code(&whole), 0, "who says everything needs no file: {whole:?}");
}

#[test]
fn who_is_refused_for_want_of_a_token_is_told_that_one_was_kept_back() {
    let folder = Folder::new();
    folder.write("tokens.toml", "", 0o600);
    let instance = Instance::with(|config| config.tokens = Some(folder.path().join("tokens.toml")));
    folder.write("client.toml", "admin = \"http://127.0.0.1:1\"\ntoken = \"sb_secret\"\n", 0o600);
    let mut status = command();
    status
        .args(["status", "--admin", &instance.url()])
        .env("SWITCHBACK_CLIENT_FILE", folder.path().join("client.toml"));
    let refused = run(status);
    assert_eq!(code(&refused), 1);
    let told = complained(&refused);
    assert!(
        told.contains("the token of the client file is for another instance") && !told.contains("sb_secret"),
        "{told}"
    );
}
