//! The paths that some pattern names, as a tree of keys: the only parts of an event that are looked at.

use std::hash::Hasher;

use rustc_hash::FxHasher;

use crate::input::ATTRIBUTES;

/// A path, which is a node of the tree.
pub(crate) type PathId = u32;

/// No path.
pub(crate) const NONE: PathId = u32::MAX;
/// The event itself.
pub(crate) const ROOT: PathId = 0;

/// The tree of paths. Finding the child of a node by its key is one probe of a hash table.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    nodes: Vec<Node>,
    /// Open addressing: node numbers, or [`NONE`].
    table: Vec<u32>,
    /// The node `data`.
    pub(crate) data: PathId,
    /// The nodes of the attributes, in the order of [`ATTRIBUTES`].
    pub(crate) attributes: [PathId; ATTRIBUTES.len()],
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    parent: PathId,
    name: Box<str>,
    /// How many children it has.
    pub(crate) children: u32,
    /// How many conditions name exactly this path.
    pub(crate) uses: u32,
}

impl Default for Paths {
    fn default() -> Self {
        let root = Node { parent: NONE, name: "".into(), children: 0, uses: 0 };
        Self { nodes: vec![root], table: vec![NONE; 8], data: NONE, attributes: [NONE; ATTRIBUTES.len()] }
    }
}

impl Paths {
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    #[inline]
    pub(crate) fn node(&self, path: PathId) -> &Node {
        &self.nodes[path as usize]
    }

    /// The child of a node.
    #[inline]
    pub(crate) fn child(&self, parent: PathId, name: &str) -> Option<PathId> {
        let mask = self.table.len() - 1;
        let mut at = hash(parent, name) as usize & mask;
        loop {
            let id = self.table[at];
            if id == NONE {
                return None;
            }
            let node = &self.nodes[id as usize];
            if node.parent == parent && *node.name == *name {
                return Some(id);
            }
            at = (at + 1) & mask;
        }
    }

    /// The node of a path, made if need be, with one more use.
    pub(crate) fn add(&mut self, path: &str) -> PathId {
        let node = path
            .split('.')
            .fold(ROOT, |node, name| self.child(node, name).unwrap_or_else(|| self.add_child(node, name)));
        self.nodes[node as usize].uses += 1;
        node
    }

    fn add_child(&mut self, parent: PathId, name: &str) -> PathId {
        let id = self.nodes.len() as u32;
        self.nodes.push(Node { parent, name: name.into(), children: 0, uses: 0 });
        self.nodes[parent as usize].children += 1;
        if self.nodes.len() * 2 > self.table.len() {
            self.table = vec![NONE; self.table.len() * 2];
            (1..=id).for_each(|node| self.enter(node));
        } else {
            self.enter(id);
        }
        if parent == ROOT {
            if name == "data" {
                self.data = id;
            }
            if let Some(attribute) = ATTRIBUTES.iter().position(|&attribute| attribute == name) {
                self.attributes[attribute] = id;
            }
        }
        id
    }

    fn enter(&mut self, id: PathId) {
        let mask = self.table.len() - 1;
        let node = &self.nodes[id as usize];
        let mut at = hash(node.parent, &node.name) as usize & mask;
        while self.table[at] != NONE {
            at = (at + 1) & mask;
        }
        self.table[at] = id;
    }
}

#[inline]
fn hash(parent: PathId, name: &str) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(name.as_bytes());
    hasher.write_u32(parent);
    hasher.finish()
}
