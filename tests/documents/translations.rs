//! The Chinese pages say what the English ones do, as far as a program can tell: the same headings, commands and links. And
//! no link within the project leads nowhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, CowStr, Event, LinkType, Options, Parser, Tag, TagEnd};

const CHINESE: &str = ".zh-CN.md";

/// What is not the project's own, or is made by it.
const NOT_OURS: [&str; 4] = ["target", "dist", "found", "node_modules"];

/// A Markdown file, as far as it can be compared.
#[derive(Debug, Default)]
struct Page {
    /// Level and anchor of each heading.
    headings: Vec<(u8, String)>,
    /// Language and text of each block of code.
    code: Vec<(String, String)>,
    links: Vec<String>,
}

type Pages = BTreeMap<PathBuf, Page>;

#[test]
fn a_page_and_its_translation_have_the_same_headings_commands_and_links() {
    let pages = pages();
    let mut pairs = 0;
    for (path, chinese) in &pages {
        let Some(stem) = path.to_str().unwrap().strip_suffix(CHINESE) else {
            continue;
        };
        let original = PathBuf::from(format!("{stem}.md"));
        let english = pages.get(&original);
        let english = english.unwrap_or_else(|| panic!("{} translates nothing", path.display()));
        assert_eq!(levels(english), levels(chinese), "in {}", path.display());
        assert_eq!(
            commands(english),
            commands(chinese),
            "in {}",
            path.display()
        );
        assert_eq!(
            places(&pages, &original, english),
            places(&pages, path, chinese),
            "in {}",
            path.display()
        );
        pairs += 1;
    }
    assert!(pairs >= 3, "{pairs} translations");
}

#[test]
fn a_chinese_page_leads_to_chinese_pages_where_there_are_any() {
    let pages = pages();
    for (path, page) in &pages {
        let Some(stem) = path.to_str().unwrap().strip_suffix(CHINESE) else {
            continue;
        };
        for link in &page.links {
            let (target, _) = resolve(path, link);
            // The one to the original is for those who would rather read that.
            if target == Path::new(&format!("{stem}.md")) {
                continue;
            }
            assert!(
                !pages.contains_key(&target.with_extension("zh-CN.md")),
                "{} leads to {link}, of which there is a translation",
                path.display()
            );
        }
    }
}

#[test]
fn no_link_leads_nowhere() {
    let pages = pages();
    let mut broken = Vec::new();
    let mut links = 0;
    for (path, page) in &pages {
        for link in &page.links {
            links += 1;
            let (target, anchor) = resolve(path, link);
            let is_there = match anchor {
                Some(_) if pages.contains_key(&target) => place(&pages, path, link).1.is_some(),
                _ => root().join(&target).exists(),
            };
            if !is_there {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(links > 100, "{links} links");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Markdown files of the project, by their paths within it.
fn pages() -> Pages {
    let mut pages = Pages::new();
    collect(Path::new(""), &mut pages);
    pages
}

fn collect(folder: &Path, pages: &mut Pages) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = folder.join(&name);
        if entry.file_type().unwrap().is_dir() {
            if !name.starts_with('.') && !NOT_OURS.contains(&name.as_str()) {
                collect(&path, pages);
            }
        } else if name.ends_with(".md") {
            let text = fs::read_to_string(entry.path()).unwrap();
            pages.insert(path, read(&text));
        }
    }
}

fn read(text: &str) -> Page {
    let mut page = Page::default();
    let (mut heading, mut block) = (None::<String>, None::<(String, String)>);
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(level)) => {
                let anchor = anchor(&heading.take().unwrap(), &page.headings);
                page.headings.push((level as u8, anchor));
            }
            Event::Start(Tag::CodeBlock(kind)) => block = Some((language(&kind), String::new())),
            Event::End(TagEnd::CodeBlock) => page.code.push(block.take().unwrap()),
            Event::Text(words) | Event::Code(words) => {
                if let Some((_, text)) = &mut block {
                    text.push_str(&words);
                } else if let Some(text) = &mut heading {
                    text.push_str(&words);
                }
            }
            Event::Start(Tag::Link {
                link_type,
                dest_url,
                ..
            }) if link_type != LinkType::Email => keep(&mut page.links, &dest_url),
            Event::Start(Tag::Image { dest_url, .. }) => keep(&mut page.links, &dest_url),
            _ => {}
        }
    }
    page
}

/// Links to elsewhere are not looked at: a test that asks the network is no test of these pages.
fn keep(links: &mut Vec<String>, link: &CowStr<'_>) {
    if !link.contains("://") && !link.starts_with("mailto:") {
        links.push(link.to_string());
    }
}

fn language(kind: &CodeBlockKind<'_>) -> String {
    match kind {
        CodeBlockKind::Fenced(language) => language.to_string(),
        CodeBlockKind::Indented => String::new(),
    }
}

/// A heading's anchor, as GitHub makes it.
fn anchor(heading: &str, before: &[(u8, String)]) -> String {
    let mut anchor = String::new();
    for letter in heading.trim().to_lowercase().chars() {
        match letter {
            ' ' => anchor.push('-'),
            '-' | '_' => anchor.push(letter),
            _ if letter.is_alphanumeric() => anchor.push(letter),
            _ => {}
        }
    }
    let mut number = 0;
    let mut unique = anchor.clone();
    while before.iter().any(|(_, other)| *other == unique) {
        number += 1;
        unique = format!("{anchor}-{number}");
    }
    unique
}

fn levels(page: &Page) -> Vec<u8> {
    page.headings.iter().map(|(level, _)| *level).collect()
}

/// The blocks that are for a program, without their comments. One without a language is a drawing, whose words are translated.
fn commands(page: &Page) -> Vec<(&str, Vec<String>)> {
    let blocks = page.code.iter().map(|(language, text)| {
        let lines = text.lines().filter(|_| !language.is_empty());
        let lines = lines.map(|line| without_comment(line).to_owned());
        let lines = lines.filter(|line| !line.is_empty()).collect();
        (language.as_str(), lines)
    });
    blocks.collect()
}

fn without_comment(line: &str) -> &str {
    let comment = match line.trim_start().starts_with('#') {
        true => Some(0),
        false => line.find(" #"),
    };
    comment.map_or(line, |begin| &line[..begin]).trim_end()
}

/// A path within the project, and an anchor.
fn resolve(page: &Path, link: &str) -> (PathBuf, Option<String>) {
    let (path, anchor) = match link.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor.to_owned())),
        None => (link, None),
    };
    if path.is_empty() {
        return (page.to_owned(), anchor);
    }
    let mut resolved = page.parent().unwrap_or(Path::new("")).to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => assert!(resolved.pop(), "{link} leads out of the project"),
            Component::Normal(name) => resolved.push(name),
            _ => {}
        }
    }
    (resolved, anchor)
}

/// Where a link leads, the same in all languages: the original's path, and the number of the heading.
fn place(pages: &Pages, page: &Path, link: &str) -> (PathBuf, Option<usize>) {
    let (target, anchor) = resolve(page, link);
    let headings = pages.get(&target).map(|page| &page.headings);
    let number = anchor.and_then(|anchor| {
        let mut anchors = headings?.iter().map(|(_, anchor)| anchor);
        anchors.position(|other| *other == anchor)
    });
    let original = target.to_str().unwrap().replace(CHINESE, ".md");
    (PathBuf::from(original), number)
}

/// Sorted, because languages have their own order of words.
fn places(pages: &Pages, path: &Path, page: &Page) -> Vec<(PathBuf, Option<usize>)> {
    let links = page.links.iter().map(|link| place(pages, path, link));
    let mut links: Vec<_> = links.collect();
    links.sort();
    links
}
