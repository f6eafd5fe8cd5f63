//! Real Redis servers for tests: each with a folder and a port of its own, stopped and removed when it is dropped.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::{Client, Connection, FromRedisValue};
use rustix::process::{kill_process, Pid, Signal};
use tempfile::TempDir;

use crate::wait;

/// How long a server may take to listen, on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// A running server.
#[derive(Debug)]
pub struct Redis {
    child: Child,
    address: SocketAddr,
    args: Vec<String>,
    directory: TempDir,
}

impl Redis {
    /// Starts one with these arguments behind the usual ones (`--requirepass x`), and returns once it listens. It saves nothing.
    /// Panics where it cannot.
    pub fn start(args: &[&str]) -> Redis {
        let address = free_address();
        let directory = tempfile::Builder::new()
            .prefix("redis-")
            .tempdir()
            .expect("a folder for Redis");
        let mut args: Vec<String> = args.iter().map(ToString::to_string).collect();
        if args.iter().any(|arg| arg == "--cluster-enabled") {
            // Its own choice, 10,000 above the other port, may be beyond the last one.
            args.extend([
                "--cluster-port".to_owned(),
                free_address().port().to_string(),
            ]);
        }
        if args.iter().any(|arg| arg == "--tls-cert-file") {
            args.extend(["--tls-port".to_owned(), free_address().port().to_string()]);
        }
        let child = spawn(address, &args, &directory);
        let mut redis = Redis {
            child,
            address,
            args,
            directory,
        };
        redis.wait_until_listening();
        redis
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens with TLS; panics where it has no certificate (`--tls-cert-file`).
    pub fn tls_address(&self) -> SocketAddr {
        SocketAddr::new(self.address.ip(), self.port("--tls-port"))
    }

    /// Where the nodes of its cluster meet it; panics where it is none (`--cluster-enabled`).
    pub fn bus_port(&self) -> u16 {
        self.port("--cluster-port")
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, as a power failure would; what it had is gone.
    pub fn kill(&mut self) {
        // Fails only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again after [`Self::kill`], at the same address, with what `SAVE` wrote: empty without.
    pub fn restart(&mut self) {
        self.child = spawn(self.address, &self.args, &self.directory);
        self.wait_until_listening();
    }

    /// Stops its process: connections are accepted by the kernel, and nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on: it does everything that was asked meanwhile.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Runs a command and returns its reply; panics with what Redis says.
    pub fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_run(words)
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// As [`Self::run`], with the error.
    pub fn try_run<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let mut command = redis::Cmd::new();
        words.iter().for_each(|word| {
            command.arg(word);
        });
        command.query(&mut self.connect()?)
    }

    fn connect(&self) -> redis::RedisResult<Connection> {
        let password = self.argument("--requirepass");
        // With its name the default user may log in also where it needs no password any more.
        let login = password.map_or(String::new(), |password| format!("default:{password}@"));
        let client = Client::open(format!("redis://{login}{}/", self.address))?;
        client.get_connection_with_timeout(Duration::from_secs(5))
    }

    fn port(&self, name: &str) -> u16 {
        let port = self.argument(name).and_then(|port| port.parse().ok());
        port.unwrap_or_else(|| panic!("redis-server has no {name}"))
    }

    fn argument(&self, name: &str) -> Option<&str> {
        let place = self.args.iter().position(|arg| arg == name)?;
        self.args.get(place + 1).map(String::as_str)
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("a process of ours");
    }

    fn wait_until_listening(&mut self) {
        let listens = wait::blocking(START_DEADLINE, || {
            // Whatever it answers: one that loads, or wants a password, is there.
            self.try_run::<String>(&["PING"])
                .map_or_else(|error| !error.is_io_error(), |_| true)
        });
        assert!(listens, "redis-server does not listen at {}", self.address);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(address: SocketAddr, args: &[String], directory: &TempDir) -> Child {
    Command::new("redis-server")
        .args(["--bind", &address.ip().to_string()])
        .args(["--port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
        .args(args)
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("redis-server: {error}; tools/setup.sh redis installs it"))
}

/// Redis takes no port 0. The kernel hands the same port out again only after all others.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address")
}
