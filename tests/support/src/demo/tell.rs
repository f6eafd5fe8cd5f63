//! How the demo tells its story: headings, facts in two columns, and what held or did not. Colours only on a terminal.

use std::fmt::Display;
use std::io::IsTerminal as _;

const BOLD: &str = "1";
const GREEN: &str = "32";
const RED: &str = "31";
const DIM: &str = "2";
/// Width of the first column, in characters.
const NAME: usize = 18;

/// The story's teller: counts what held and what did not.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    step: u32,
    held: u32,
    failed: u32,
}

impl Teller {
    /// Begins the next step.
    pub(crate) fn step(&mut self, title: &str) {
        self.step += 1;
        println!("\n{}", paint(BOLD, &format!("{}. {title}", self.step)));
    }

    /// Says a thing that proves nothing by itself.
    pub(crate) fn fact(&self, name: &str, value: impl Display) {
        println!("   {name:NAME$} {value}");
    }

    /// A line of its own, for what is quoted.
    pub(crate) fn quote(&self, text: &str) {
        println!("   {}", paint(DIM, text));
    }

    /// Says whether something held, and keeps it for the end.
    pub(crate) fn check(&mut self, held: bool, what: &str, seen: impl Display) {
        let (word, colour) = if held {
            self.held += 1;
            ("ok", GREEN)
        } else {
            self.failed += 1;
            ("FAILED", RED)
        };
        println!("   {} {what}: {seen}", paint(colour, &format!("{word:6}")));
    }

    /// Says how it ended; true where everything held.
    pub(crate) fn end(&self) -> bool {
        let (held, failed) = (self.held, self.failed);
        let verdict = if failed == 0 {
            paint(GREEN, &format!("All {held} checks held."))
        } else {
            paint(
                RED,
                &format!("{failed} of {} checks FAILED.", held + failed),
            )
        };
        println!("\n{verdict}");
        failed == 0
    }
}

/// `text` in a colour, on a terminal that wants colours.
pub(crate) fn paint(colour: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
