//! The tree, compared with the simplest implementation: a copy of a small file system after
//! every operation.

use st_decode::time::Monotonic;
use st_pathtree::tree::{DirEntry, Found, Span, Tree};
use std::collections::BTreeMap;

/// Sebastiano Vigna's splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

const ROOT: u64 = 1;

/// A directory's parent and name, and its own number, as an inode number is used again.
#[derive(Debug, Clone)]
struct Dir {
    parent: u64,
    name: String,
    id: usize,
}

/// Directories by inode; the root is not among them.
type State = BTreeMap<u64, Dir>;

/// The path of a directory, and the numbers of the directories on the path.
fn path(state: &State, mut inode: u64) -> (String, Vec<usize>) {
    let (mut path, mut on_the_way) = (String::new(), Vec::new());
    while inode != ROOT {
        let dir = &state[&inode];
        path = format!("/{}{path}", dir.name);
        on_the_way.push(dir.id);
        inode = dir.parent;
    }
    (path, on_the_way)
}

fn is_below(state: &State, inode: u64, above: u64) -> bool {
    (state.get(&above)).is_some_and(|above| path(state, inode).1.contains(&above.id))
}

fn entry(state: &State, inode: u64) -> DirEntry<'_> {
    let Dir { parent, name, .. } = &state[&inode];
    DirEntry {
        parent: *parent,
        name: name.as_bytes(),
    }
}

struct Run {
    random: Random,
    tree: Tree,
    /// The state after each operation. Operation `n` begins at `10 n` and has succeeded at
    /// `10 n + 5`.
    states: Vec<State>,
    next: u64,
    /// Inode numbers of removed directories, which new ones get.
    free: Vec<u64>,
    /// The numbers of the directories that the tree has learned of.
    known: Vec<usize>,
    /// How many directories there have been.
    count: usize,
    /// The first state that the tree still remembers.
    settled: usize,
}

impl Run {
    fn state(&self) -> &State {
        self.states.last().expect("there is always one")
    }

    fn inodes(&self) -> Vec<u64> {
        self.state().keys().copied().collect()
    }

    /// A name that no directory in `parent` has yet.
    fn new_name(&mut self, parent: u64) -> String {
        loop {
            let name = self.random.pick(&["a", "b", "c", "d", "e", "f"]).to_owned();
            let taken = |dir: &Dir| dir.parent == parent && dir.name == name;
            if !self.state().values().any(taken) {
                return name;
            }
            if self.random.below(4) == 0 {
                self.next += 1;
                return format!("n{}", self.next);
            }
        }
    }

    fn span(&self) -> Span {
        let began = 10 * self.states.len() as u64;
        Span {
            began: Monotonic(began),
            ts: Monotonic(began + 5),
        }
    }

    /// Makes one operation, and tells the tree of it.
    fn step(&mut self) {
        let span = self.span();
        let mut state = self.state().clone();
        let inodes = self.inodes();
        let parents: Vec<u64> = inodes.iter().copied().chain([ROOT]).collect();
        let parent = self.random.pick(&parents);
        match self.random.below(8) {
            0..=2 => {
                let inode = self.free.pop().unwrap_or(self.next + 1);
                self.next = self.next.max(inode);
                let name = self.new_name(parent);
                self.count += 1;
                let id = self.count;
                state.insert(inode, Dir { parent, name, id });
                self.tree.made(span, inode, entry(&state, inode));
                self.known.push(id);
            }
            3 if !inodes.is_empty() => {
                let inode = self.random.pick(&inodes);
                if state.values().any(|dir| dir.parent == inode) {
                    return;
                }
                self.tree.removed(span, inode, entry(&state, inode));
                self.known.extend(state.remove(&inode).map(|dir| dir.id));
                self.free.push(inode);
            }
            4..=6 if !inodes.is_empty() => {
                let inode = self.random.pick(&inodes);
                if is_below(&state, parent, inode) {
                    return;
                }
                let name = self.new_name(parent);
                let old = state.clone();
                let id = old[&inode].id;
                state.insert(inode, Dir { parent, name, id });
                let (from, to) = (entry(&old, inode), entry(&state, inode));
                self.tree.moved(span, inode, from, to);
                self.known.push(id);
            }
            7 if inodes.len() > 1 => {
                let (one, other) = (self.random.pick(&inodes), self.random.pick(&inodes));
                if is_below(&state, one, other) || is_below(&state, other, one) {
                    return;
                }
                let old = state.clone();
                for (inode, place) in [(one, other), (other, one)] {
                    let id = old[&inode].id;
                    let place = old[&place].clone();
                    state.insert(inode, Dir { id, ..place });
                }
                for inode in [one, other] {
                    let (from, to) = (entry(&old, inode), entry(&state, inode));
                    self.tree.moved(span, inode, from, to);
                    self.known.push(state[&inode].id);
                }
            }
            _ => return,
        }
        self.states.push(state);
    }

    /// Tells the tree of a directory, as a walk does.
    fn meet(&mut self) {
        let inodes = self.inodes();
        if !inodes.is_empty() {
            let inode = self.random.pick(&inodes);
            let state = self.states.last().expect("there is always one");
            self.tree.seen(inode, entry(state, inode));
            self.known.push(state[&inode].id);
        }
    }

    /// Lets the tree forget old states.
    fn settle(&mut self) {
        self.settled = self.settled.max(self.states.len().saturating_sub(5));
        self.tree.settle(Monotonic(10 * self.settled as u64 + 6));
    }

    /// Compares a path at any instant. What the tree knows of it must be right, and it must be
    /// whole if the tree has learned of all directories on it. Returns whether it is whole.
    fn ask(&mut self) -> bool {
        let at = self.settled + self.random.below(self.states.len() - self.settled);
        let state = &self.states[at];
        let inodes: Vec<u64> = state.keys().copied().collect();
        if inodes.is_empty() {
            return false;
        }
        let inode = self.random.pick(&inodes);
        let (right, on_the_way) = path(state, inode);
        // After the operation that made this state, and before the next one has succeeded.
        let began = Monotonic(10 * at as u64 + 6);
        let tail = format!("{}/file", state[&inode].name);
        match self.tree.path(began, inode, tail.as_bytes()) {
            Found::Whole(found) => {
                let right = format!("{right}/file");
                assert_eq!(
                    String::from_utf8_lossy(&found),
                    right,
                    "at {at} of {}",
                    self.states.len()
                );
                true
            }
            Found::Tail(found) => {
                let found = String::from_utf8_lossy(&found).into_owned();
                let right = format!("{right}/file");
                assert!(
                    right.ends_with(&format!("/{found}")),
                    "{found} of {right} at {at}"
                );
                let told = |id| self.known.contains(id);
                assert!(!on_the_way.iter().all(told), "{right} at {at} is not whole");
                false
            }
        }
    }
}

#[test]
fn every_path_is_right_at_every_instant() {
    let (mut whole, mut asked) = (0, 0);
    for seed in 0..300 {
        let mut run = Run {
            random: Random(seed),
            tree: Tree::default(),
            states: vec![State::new()],
            next: ROOT,
            free: Vec::new(),
            known: Vec::new(),
            count: 12,
            settled: 0,
        };
        run.tree.root(ROOT);
        // The directories from before tracing, which the tree does not know yet.
        let mut before = State::new();
        for inode in 2..12 {
            let parent = 1 + run.random.below(inode as usize - 1) as u64;
            let (name, id) = (format!("old{inode}"), inode as usize);
            before.insert(inode, Dir { parent, name, id });
        }
        run.next = 12;
        run.states = vec![before];
        for _ in 0..120 {
            match run.random.below(12) {
                // In half of the runs the tree forgets nothing.
                0 if seed % 2 == 0 => run.settle(),
                0..=2 => run.meet(),
                3..=5 => {
                    asked += 1;
                    whole += u32::from(run.ask());
                }
                _ => run.step(),
            }
        }
    }
    // The test proves something only if many paths are whole.
    assert!(whole > asked / 4, "{whole} of {asked}");
}
