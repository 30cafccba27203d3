//! Path patterns as a radix tree: from a path to the patterns that take it, most specific first.
//!
//! Invariant: a look-up walks the path's bytes once and then from one pattern that takes the path to the next shorter
//! one; its cost depends on the path, not on the number of patterns. Building and looking up are loops: no pattern,
//! however long, deepens a stack.

use std::{collections::VecDeque, ops::Range};

/// No terminal, or no child.
const NONE: u32 = u32::MAX;

/// The trees of all hosts in one arena.
#[derive(Debug, Default)]
pub(super) struct PathTrees {
    nodes: Vec<Node>,
    /// By node: the first byte of its label. Children are neighbours, so a child is found by scanning a few bytes.
    firsts: Vec<u8>,
    /// The labels' bytes.
    labels: Vec<u8>,
    terminals: Vec<Terminal>,
    /// The routes of all terminals, those of one list next to each other.
    routes: Vec<u32>,
}

/// The root of one host's tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Root(u32);

#[derive(Debug)]
struct Node {
    label: Range<u32>,
    children: Range<u32>,
    terminal: u32,
}

/// A text that patterns have.
#[derive(Debug)]
struct Terminal {
    /// The length of the text.
    length: u32,
    /// The routes that take this path alone.
    exact: Range<u32>,
    /// The routes that take this path and all below it.
    prefix: Range<u32>,
    /// The nearest shorter terminal that is a prefix of this one by whole segments and has prefix routes.
    shorter: u32,
}

/// A pattern's routes, in the order in which they are tried.
#[derive(Debug, Default)]
pub(super) struct Pattern {
    /// Those that take this path alone.
    pub exact: Vec<u32>,
    /// Those that take this path and all below it.
    pub prefix: Vec<u32>,
}

/// A list of routes whose path pattern takes a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit<'a> {
    /// How specific the pattern is: exact before prefix, then the longer one.
    pub rank: (bool, u32),
    /// Its routes, in the order in which they are tried.
    pub routes: &'a [u32],
}

/// A node that is yet to be made: the patterns below it, and what is known from above.
struct Pending {
    patterns: Range<usize>,
    depth: usize,
    node: usize,
    shorter: u32,
}

impl PathTrees {
    /// Adds a tree of patterns: at least one, sorted by their texts, each once.
    pub fn add(&mut self, patterns: &[(&str, Pattern)]) -> Root {
        let root = self.reserve(1).start;
        let mut pending = VecDeque::from([Pending {
            patterns: 0..patterns.len(),
            depth: 0,
            node: root as usize,
            shorter: NONE,
        }]);
        while let Some(next) = pending.pop_front() {
            self.make(patterns, next, &mut pending);
        }
        Root(root)
    }

    /// Makes a node of the text that all of its patterns share, and reserves its children.
    fn make(&mut self, patterns: &[(&str, Pattern)], next: Pending, pending: &mut VecDeque<Pending>) {
        let Pending { patterns: Range { mut start, end }, depth, node, shorter } = next;
        // As they are sorted, what the first and the last share, all share.
        let first = patterns[start].0.as_bytes();
        let last = patterns[end - 1].0.as_bytes();
        let below = depth + first[depth..].iter().zip(&last[depth..]).take_while(|(a, b)| a == b).count();
        self.firsts[node] = first.get(depth).copied().unwrap_or(0);
        self.nodes[node].label = append(&mut self.labels, &first[depth..below]);

        let mut here = NONE;
        if first.len() == below {
            here = self.terminal(below, &patterns[start].1, shorter);
            self.nodes[node].terminal = here;
            start += 1;
        }
        let takes_what_is_below = here != NONE && !self.terminals[here as usize].prefix.is_empty();

        let byte_of = |pattern: usize| patterns[pattern].0.as_bytes()[below];
        let mut groups = Vec::new();
        while start < end {
            let byte = byte_of(start);
            let length = patterns[start..end].partition_point(|(text, _)| text.as_bytes()[below] == byte);
            groups.push(start..start + length);
            start += length;
        }
        let children = self.reserve(groups.len());
        self.nodes[node].children = children.clone();
        for (patterns, child) in groups.into_iter().zip(children) {
            let whole_segment = below == 0 || byte_of(patterns.start) == b'/';
            let shorter = if takes_what_is_below && whole_segment { here } else { shorter };
            pending.push_back(Pending { patterns, depth: below, node: child as usize, shorter });
        }
    }

    fn terminal(&mut self, length: usize, pattern: &Pattern, shorter: u32) -> u32 {
        let exact = append(&mut self.routes, &pattern.exact);
        let prefix = append(&mut self.routes, &pattern.prefix);
        self.terminals.push(Terminal { length: index(length), exact, prefix, shorter });
        index(self.terminals.len() - 1)
    }

    fn reserve(&mut self, count: usize) -> Range<u32> {
        let start = self.nodes.len();
        let end = start + count;
        self.nodes.resize_with(end, || Node { label: 0..0, children: 0..0, terminal: NONE });
        self.firsts.resize(end, 0);
        index(start)..index(end)
    }

    /// The lists of routes whose patterns take a path, most specific first.
    pub fn hits<'a>(&'a self, root: Root, path: &[u8]) -> impl Iterator<Item = Hit<'a>> + use<'a> {
        let (exact, mut prefix) = self.walk(root, path);
        let exact = exact.map(|terminal| Hit {
            rank: (true, terminal.length),
            routes: &self.routes[terminal.exact.start as usize..terminal.exact.end as usize],
        });
        let prefixes = std::iter::from_fn(move || {
            let terminal = self.terminals.get(prefix as usize)?;
            prefix = terminal.shorter;
            let routes = &self.routes[terminal.prefix.start as usize..terminal.prefix.end as usize];
            Some(Hit { rank: (false, terminal.length), routes })
        });
        exact.into_iter().chain(prefixes)
    }

    /// The terminal of the path itself, if it has exact routes, and the longest one that takes it as a prefix.
    #[inline]
    fn walk(&self, root: Root, path: &[u8]) -> (Option<&Terminal>, u32) {
        let mut longest = NONE;
        let mut rest = path;
        let mut at = root.0 as usize;
        loop {
            let node = &self.nodes[at];
            let label = &self.labels[node.label.start as usize..node.label.end as usize];
            let Some(behind) = rest.strip_prefix(label) else { return (None, longest) };
            rest = behind;
            let terminal = self.terminals.get(node.terminal as usize);
            if let Some(terminal) = terminal {
                // The empty text takes every path, `*` among them, which does not begin with a slash.
                let whole_segment = terminal.length == 0 || rest.first().is_none_or(|byte| *byte == b'/');
                if whole_segment && !terminal.prefix.is_empty() {
                    longest = node.terminal;
                }
            }
            let Some(byte) = rest.first() else {
                return (terminal.filter(|terminal| !terminal.exact.is_empty()), longest);
            };
            let children = node.children.start as usize..node.children.end as usize;
            match memchr::memchr(*byte, &self.firsts[children.clone()]) {
                Some(child) => at = children.start + child,
                None => return (None, longest),
            }
        }
    }
}

/// Appends to an arena and says where.
fn append<T: Clone>(arena: &mut Vec<T>, items: &[T]) -> Range<u32> {
    let start = index(arena.len());
    arena.extend_from_slice(items);
    start..index(arena.len())
}

fn index(length: usize) -> u32 {
    u32::try_from(length).expect("a configuration file is limited far under 4 GiB")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each text is a prefix pattern with its place as the route, and an exact one with its place + 1000.
    fn trees(texts: &[&str]) -> (PathTrees, Root) {
        let mut patterns: Vec<_> = texts
            .iter()
            .zip(0..)
            .map(|(text, place)| (*text, Pattern { exact: vec![place + 1000], prefix: vec![place] }))
            .collect();
        patterns.sort_by_key(|(text, _)| *text);
        let mut trees = PathTrees::default();
        let root = trees.add(&patterns);
        (trees, root)
    }

    fn routes(texts: &[&str], path: &str) -> Vec<u32> {
        let (trees, root) = trees(texts);
        trees.hits(root, path.as_bytes()).flat_map(|hit| hit.routes.iter().copied()).collect()
    }

    #[test]
    fn a_prefix_takes_whole_segments_longest_first() {
        let texts = ["", "/a", "/ab", "/a/b", "/a/bc", "/a/b/c"];
        for (path, expected) in [
            ("/", vec![0]),
            ("/a", vec![1001, 1, 0]),
            ("/a/", vec![1, 0]),
            ("/ab", vec![1002, 2, 0]),
            ("/abc", vec![0]),
            ("/ab/x", vec![2, 0]),
            ("/a/b", vec![1003, 3, 1, 0]),
            ("/a/bcd", vec![1, 0]),
            ("/a/b/c/d", vec![5, 3, 1, 0]),
            ("/b", vec![0]),
            ("*", vec![0]),
        ] {
            assert_eq!(routes(&texts, path), expected, "{path}");
        }
        assert_eq!(routes(&["/a"], "/"), [0; 0]);
        assert_eq!(routes(&["/a"], "*"), [0; 0]);
    }

    #[test]
    fn a_very_long_pattern_needs_no_stack() {
        let texts: Vec<String> = (0..20_000).map(|length| "/a".repeat(length)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).take(2000).collect();
        assert_eq!(routes(&texts, &"/a".repeat(1500)).len(), 1502);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn the_tree_finds_what_a_scan_finds(
            texts in prop::collection::btree_set("(/[ab%é]{0,2}){0,3}", 1..12),
            path in "(/[ab%é]{0,2}){1,4}",
        ) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).map(|text| text.trim_end_matches('/')).collect();
            let texts: Vec<&str> = std::collections::BTreeSet::from_iter(texts).into_iter().collect();
            let takes = |text: &str| path.strip_prefix(text).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            let mut expected: Vec<_> = (0..texts.len()).filter(|place| takes(texts[*place])).collect();
            expected.sort_by_key(|place| std::cmp::Reverse(texts[*place].len()));
            let mut expected: Vec<u32> = expected.into_iter().map(|place| place as u32).collect();
            if let Some(place) = texts.iter().position(|text| *text == path) {
                expected.insert(0, place as u32 + 1000);
            }
            prop_assert_eq!(routes(&texts, &path), expected);
        }
    }
}
