//! A real PostgreSQL server of one's own, on a Unix socket and a loopback port.

use rustix::process::{Pid, Signal, getuid, kill_process};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The passwords that roles have, by the server's method.
pub(crate) const PASSWORD: &str = "correct horse";

const HBA: &str = "\
local all all trust
host all admin 127.0.0.1/32 trust
host all open 127.0.0.1/32 trust
host all old 127.0.0.1/32 md5
host all plain 127.0.0.1/32 password
host all all 127.0.0.1/32 scram-sha-256
";

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running server, ended with its directory.
pub(crate) struct Server {
    dir: TempDir,
    pub(crate) port: u16,
    process: Option<Child>,
}

/// Where the server's programs are.
fn programs() -> Option<&'static Path> {
    static PROGRAMS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all =
            debian.map(|version| version.path().join("bin")).chain(std::env::split_paths(&path));
        all.into_iter().find(|dir| dir.join("initdb").exists() && dir.join("postgres").exists())
    };
    PROGRAMS.get_or_init(find).as_deref()
}

/// A program of the server, as somebody who may run it: it does not run as root.
fn command(name: &str) -> Command {
    let program = programs().expect("they are here").join(name);
    if !getuid().is_root() {
        return Command::new(program);
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = if users.contains("\npostgres:") { "postgres" } else { "nobody" };
    let group = if user == "nobody" { "nogroup" } else { user };
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", group, "--clear-groups"]).arg(program);
    command
}

fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("it can be run");
    let errors = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {errors}");
    String::from_utf8(stdout).expect("text").trim_end().to_owned()
}

/// Directories that the server's user may enter, and own.
fn open_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

/// What `initdb` makes, once for all.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<TempDir> = OnceLock::new();
    let made = TEMPLATE.get_or_init(|| {
        let dir = open_dir();
        let data = dir.path().join("data");
        let options = ["-U", "admin", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"];
        run(command("initdb").args(options).arg("-D").arg(&data));
        dir
    });
    made.path()
}

impl Server {
    /// Starts one with this in its configuration; `None`, with a word, where there is no PostgreSQL.
    pub(crate) fn start(configuration: &str) -> Option<Self> {
        Self::start_with(&[], configuration)
    }

    /// The same with these files in its directory, which only its user reads.
    pub(crate) fn start_with(files: &[(&str, &[u8])], configuration: &str) -> Option<Self> {
        if programs().is_none() {
            eprintln!("SKIPPED: there is no PostgreSQL server (apt-get install postgresql)");
            return None;
        }
        let dir = open_dir();
        let data = dir.path().join("data");
        // With its owner, who cannot read the test's own directories.
        run(Command::new("cp").arg("-a").arg(template().join("data")).arg(&data));
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let conf = data.join("postgresql.conf");
        let mut text = fs::read_to_string(&conf).unwrap();
        text += &format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\n\
             fsync = off\nshared_buffers = 8MB\nautovacuum = off\n{configuration}",
            dir.path().display()
        );
        fs::write(&conf, text).unwrap();
        fs::write(data.join("pg_hba.conf"), HBA).unwrap();
        for (name, content) in files {
            let path = data.join(name);
            // What is copied has the right owner.
            run(Command::new("cp").arg("-a").arg(data.join("PG_VERSION")).arg(&path));
            fs::write(&path, content).unwrap();
        }
        drop(free);
        let mut server = Self { dir, port, process: None };
        server.resume();
        Some(server)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where its Unix socket is.
    pub(crate) fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it again, with this in its configuration above all else.
    pub(crate) fn resume_with(&mut self, configuration: &str) {
        fs::write(self.data().join("postgresql.auto.conf"), configuration).unwrap();
        self.resume();
    }

    /// Starts it again.
    pub(crate) fn resume(&mut self) {
        let log = fs::File::create(self.dir.path().join("log")).unwrap();
        let mut command = command("postgres");
        command.arg("-D").arg(self.data()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        until("the server answers", || {
            self.psql_command("postgres", "SELECT 1").output().unwrap().status.success()
        });
    }

    /// Ends it and all of its processes as a loss of power does: nothing is written any more.
    pub(crate) fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let parent = process.id();
        let children = children(parent);
        // Else it would replace those that end.
        process.kill().unwrap();
        process.wait().unwrap();
        for child in &children {
            let _ = kill_process(*child, Signal::KILL);
        }
        let is_there = |child: &Pid| {
            let stat = fs::read_to_string(format!("/proc/{}/stat", child.as_raw_nonzero()));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        until("all of its processes are gone", || !children.iter().any(is_there));
    }

    fn psql_command(&self, database: &str, sql: &str) -> Command {
        let mut command = Command::new(programs().expect("it runs").join("psql"));
        command.env_clear().arg("-XAtq").arg("-v").arg("ON_ERROR_STOP=1").arg("-h");
        command.arg(self.dir.path()).args(["-p", &self.port.to_string(), "-U", "admin"]);
        command.args(["-d", database, "-c", sql]);
        command
    }

    /// What the server says to its superuser.
    pub(crate) fn ask(&self, database: &str, sql: &str) -> String {
        run(&mut self.psql_command(database, sql))
    }

    /// Makes a database of `owner`, who is made too.
    pub(crate) fn make(&self, database: &str, owner: &str) {
        let role = format!(
            "DO $$ BEGIN IF to_regrole('{owner}') IS NULL THEN \
             CREATE ROLE {owner} LOGIN PASSWORD '{PASSWORD}'; END IF; END $$"
        );
        self.ask("postgres", &role);
        self.ask("postgres", &format!("CREATE DATABASE {database} OWNER {owner}"));
    }

    /// The database as a node names it.
    pub(crate) fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // At once, and with its children.
            let pid = Pid::from_raw(process.id().try_into().unwrap()).unwrap();
            let _ = kill_process(pid, Signal::QUIT);
            let _ = process.wait();
        }
    }
}

/// Processes whose parent this is.
fn children(parent: u32) -> Vec<Pid> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        fields.split(' ').nth(1) == Some(&parent.to_string())
    };
    pids.filter(is_child).filter_map(Pid::from_raw).collect()
}
