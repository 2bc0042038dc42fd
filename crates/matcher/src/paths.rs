//! The paths that some pattern names, as a tree of keys: the only parts of an event that are looked at.

use std::{hash::Hasher, sync::Arc};

use rustc_hash::FxHasher;

use crate::{
    index::{PathIndex, pages::Pages, table::Table},
    input::ATTRIBUTES,
};

/// A path, which is a node of the tree.
pub(crate) type PathId = u32;

/// No path, and in general no number.
pub(crate) const NONE: u32 = u32::MAX;
/// The event itself.
pub(crate) const ROOT: PathId = 0;

/// The tree of paths. Finding the child of a node by its key is one probe of a hash table.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    nodes: Pages<Node>,
    table: Table,
    free: Pages<u32>,
    /// How many nodes are not at the top level.
    deep: u32,
    /// The node `data`.
    pub(crate) data: PathId,
    /// The nodes of the attributes, in the order of [`ATTRIBUTES`].
    pub(crate) attributes: [PathId; ATTRIBUTES.len()],
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    parent: PathId,
    name: Box<str>,
    /// How many children it has.
    pub(crate) children: u32,
    /// How many conditions name exactly this path.
    pub(crate) uses: u32,
    /// How many of the atoms of the index want a value to be equal to theirs.
    pub(crate) equalities: u32,
    /// What else the index asks of a value here.
    pub(crate) index: Option<Arc<PathIndex>>,
}

impl Default for Paths {
    fn default() -> Self {
        let mut nodes = Pages::default();
        nodes.push(Node { parent: NONE, ..Node::default() });
        let attributes = [NONE; ATTRIBUTES.len()];
        Self { nodes, table: Table::default(), free: Pages::default(), deep: 0, data: NONE, attributes }
    }
}

impl Paths {
    /// One more than the highest number of a path.
    pub(crate) fn bound(&self) -> usize {
        self.nodes.len()
    }

    /// How many paths have more than one part, counting what leads to them.
    pub(crate) fn deep(&self) -> u32 {
        self.deep
    }

    #[inline]
    pub(crate) fn node(&self, path: PathId) -> &Node {
        self.nodes.get(path as usize)
    }

    pub(crate) fn node_mut(&mut self, path: PathId) -> &mut Node {
        self.nodes.get_mut(path as usize)
    }

    /// The child of a node.
    #[inline]
    pub(crate) fn child(&self, parent: PathId, name: &str) -> Option<PathId> {
        self.table.find(hash(parent, name), |id| {
            let node = self.node(id);
            node.parent == parent && *node.name == *name
        })
    }

    /// The node of a path, if some pattern names it or something below it.
    pub(crate) fn find(&self, path: &str) -> Option<PathId> {
        self.below(ROOT, path)
    }

    /// As [`Paths::find`], for a path that starts at a node.
    pub(crate) fn below(&self, parent: PathId, path: &str) -> Option<PathId> {
        path.split('.').try_fold(parent, |node, name| self.child(node, name))
    }

    /// The path of a node.
    pub(crate) fn path(&self, id: PathId) -> String {
        let Node { parent, name, .. } = self.node(id);
        if *parent == ROOT { name.to_string() } else { format!("{}.{name}", self.path(*parent)) }
    }

    /// The node of a path, made if need be, with one more use.
    pub(crate) fn add(&mut self, path: &str) -> PathId {
        let node = path
            .split('.')
            .fold(ROOT, |node, name| self.child(node, name).unwrap_or_else(|| self.add_child(node, name)));
        self.node_mut(node).uses += 1;
        node
    }

    /// Takes one use back. A node that nothing needs any more goes.
    pub(crate) fn release(&mut self, path: PathId) {
        self.node_mut(path).uses -= 1;
        let mut path = path;
        while path != ROOT && self.node(path).uses == 0 && self.node(path).children == 0 {
            let node = std::mem::take(self.node_mut(path));
            self.table.remove(hash(node.parent, &node.name), path);
            self.free.push(path);
            self.nodes.release(path as usize, |node| node.parent != NONE && node.uses == 0 && node.children == 0);
            self.note_special(node.parent, &node.name, NONE);
            self.node_mut(node.parent).children -= 1;
            self.deep -= u32::from(node.parent != ROOT);
            path = node.parent;
        }
    }

    fn add_child(&mut self, parent: PathId, name: &str) -> PathId {
        let node = Node { parent, name: name.into(), ..Node::default() };
        let id = match self.free.len() {
            0 => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
            free => {
                let id = *self.free.get(free - 1);
                self.free.swap_remove(free - 1);
                self.nodes.restore(id as usize);
                *self.node_mut(id) = node;
                id
            }
        };
        self.node_mut(parent).children += 1;
        self.deep += u32::from(parent != ROOT);
        self.table.insert(hash(parent, name), id);
        self.note_special(parent, name, id);
        id
    }

    /// The nodes that reading an event asks for by name.
    fn note_special(&mut self, parent: PathId, name: &str, id: PathId) {
        if parent == ROOT {
            if name == "data" {
                self.data = id;
            }
            if let Some(attribute) = ATTRIBUTES.iter().position(|&attribute| attribute == name) {
                self.attributes[attribute] = id;
            }
        }
    }
}

#[inline]
fn hash(parent: PathId, name: &str) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(name.as_bytes());
    hasher.write_u32(parent);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_there_while_something_uses_it() {
        let mut paths = Paths::default();
        let (deep, data) = (paths.add("a.b.c"), paths.add("data.x"));
        let inner = paths.add("a.b");
        assert_eq!(paths.add("a.b.c"), deep);
        assert_eq!((paths.find("a.b"), paths.data), (Some(inner), paths.find("data").unwrap()));
        paths.release(deep);
        assert_eq!(paths.find("a.b.c"), Some(deep));
        paths.release(deep);
        assert_eq!((paths.find("a.b.c"), paths.find("a.b")), (None, Some(inner)));
        paths.release(inner);
        paths.release(data);
        assert_eq!((paths.find("a"), paths.data, paths.node(ROOT).children), (None, NONE, 0));
        let bound = paths.bound();
        paths.add("event.x.y.z");
        assert_eq!(paths.bound(), bound, "numbers are used again");
        assert_ne!(paths.attributes[1], NONE);
    }
}
