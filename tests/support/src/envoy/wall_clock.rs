//! A wall clock that steps, for one Envoy, without touching the machine's: see `wall_clock.c`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::Builder;

const SOURCE: &str = "src/envoy/wall_clock.c";

/// The wall clock of the Envoys that were started with it; their monotonic clock is the machine's.
#[derive(Debug)]
pub struct WallClock {
    directory: TempDir,
    ahead: File,
}

impl WallClock {
    /// A clock that is so many seconds ahead of the machine's, or behind it. Panics where there is no C compiler.
    pub fn ahead(seconds: i64) -> Self {
        Self::try_ahead(seconds).unwrap_or_else(|error| panic!("a wall clock: {error}"))
    }

    fn try_ahead(seconds: i64) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let ahead = File::create(directory.path().join("ahead"))?;
        let clock = Self { directory, ahead };
        clock.step(seconds);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(SOURCE);
        let mut compiler = Command::new("cc");
        compiler.args(["-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o"]);
        let status = compiler.arg(clock.library()).arg(source).status()?;
        if status.success() {
            Ok(clock)
        } else {
            Err(io::Error::other(format!("cc {SOURCE}: {status}")))
        }
    }

    /// Steps to so many seconds ahead of the machine's, at once.
    pub fn step(&self, seconds: i64) {
        let written = self.ahead.write_all_at(&seconds.to_ne_bytes(), 0);
        written.expect("an open file of our own");
    }

    /// Gives it to an Envoy.
    #[must_use]
    pub fn of(&self, envoy: Builder) -> Builder {
        envoy
            .env("LD_PRELOAD", &self.library())
            .env("WALL_CLOCK_AHEAD", &self.path("ahead"))
    }

    fn library(&self) -> String {
        self.path("wall_clock.so")
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}
