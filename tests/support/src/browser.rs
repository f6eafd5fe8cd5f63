//! What a page shows in a real browser: Chromium without a screen, with a profile of its own for each look.

use std::process::{Command, Stdio};

/// Debian's name, and the one that others give the same browser.
const PROGRAMS: [&str; 2] = ["chromium", "google-chrome"];

/// A browser whose user reads this language.
#[derive(Clone, Debug)]
pub struct Browser {
    language: String,
}

impl Browser {
    /// `language` as in `navigator.language`, for example `zh-CN`.
    pub fn new(language: &str) -> Browser {
        Browser {
            language: language.to_owned(),
        }
    }

    /// The page once its scripts have run and have what they fetched, without the scripts and styles themselves.
    /// Panics where there is no browser or it shows nothing.
    pub async fn shown(&self, url: &str) -> String {
        let (language, url) = (self.language.clone(), url.to_owned());
        let dom = tokio::task::spawn_blocking(move || dom(&language, &url))
            .await
            .expect("a browser");
        ["script", "style"]
            .iter()
            .fold(dom, |dom, tag| without(&dom, tag))
    }
}

fn dom(language: &str, url: &str) -> String {
    let profile = tempfile::tempdir().expect("a folder for the browser");
    let output = Command::new(program())
        .args(["--headless", "--disable-gpu", "--dump-dom"])
        // Tests run as root in places, where its sandbox does not start; it sees our own page only.
        .args(["--no-sandbox", "--disable-dev-shm-usage"])
        // Its clock runs while nothing is awaited, and waits for what is fetched.
        .arg("--virtual-time-budget=1500")
        .arg(format!("--accept-lang={language}"))
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .expect("a browser that starts");
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && dom.contains("<body"),
        "{url}: {dom}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    dom
}

fn program() -> &'static str {
    let starts = |program: &&&str| Command::new(program).arg("--version").output().is_ok();
    let program = PROGRAMS.iter().find(starts);
    program.expect("chromium; tools/setup.sh test installs it")
}

fn without(dom: &str, tag: &str) -> String {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let mut pieces = dom.split(&open);
    let mut kept = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        kept.push_str(piece.split_once(&close).map_or("", |(_, rest)| rest));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::without;

    #[test]
    fn scripts_are_cut_out() {
        let dom = "a<script>b</script>c<script>d</script>e";
        assert_eq!(without(dom, "script"), "ace");
        assert_eq!(without("a<script>b", "script"), "a");
    }
}
