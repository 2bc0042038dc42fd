//! Reading an event once: the values at the paths that are wanted, and the array elements they stand in.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    Fields,
    index::Work,
    input::{ATTRIBUTES, Attributes, Source},
    json::{Broken, DEPTH_MAX, Quoted, Scalar, Scanner},
    number::Number,
    paths::{NONE, PathId, Paths, ROOT},
    test::Value,
};

/// The elements of arrays around a value, from the outside in. Zero is none.
pub(crate) type TrailId = u32;

/// Memory for matching, kept from event to event. One for each thread.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) view: View,
    pub(crate) work: Work,
}

impl Scratch {
    /// Empty memory, which grows with use.
    pub fn new() -> Self {
        Self::default()
    }

    /// For data that is known to be JSON, such as that from a log which accepts nothing else: where all that is wanted are
    /// top-level keys, reading stops when they have been seen. Of data that is not JSON after all, the part before the
    /// fault may then count.
    #[must_use]
    pub fn trusting(mut self) -> Self {
        self.view.trusts = true;
        self
    }
}

/// What was found in one event.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// The number of the event: what a slot holds of another event does not count.
    event: u32,
    slots: Vec<Slot>,
    /// The paths that have values.
    touched: Vec<PathId>,
    values: Vec<Found>,
    trails: Vec<Trail>,
    /// Attributes, and texts that had escapes.
    texts: String,
    buffer: String,
    /// The dotted keys that were found: in which object, from which path on, and the path they lead to.
    dotted: FxHashSet<(u32, PathId, PathId)>,
    /// Of each key of parsed fields, the path that it leads to, and the one below `data`.
    resolved: Vec<(PathId, PathId)>,
    /// Whether data may be taken for JSON without looking at the whole of it.
    trusts: bool,
}

/// Room for more values than this is given back.
const VALUES_KEPT: usize = 1 << 16;

/// What was found at one path.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    event: u32,
    first: u32,
    last: u32,
    /// The object in which the key was last seen: the first of two equal keys counts.
    object: u32,
}

/// One value at one path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    stored: Stored,
    /// The next value at the same path, or [`NONE`].
    pub(crate) next: u32,
    pub(crate) trail: TrailId,
    /// The atom of the index that wants exactly this value, or [`NONE`].
    pub(crate) equal: u32,
    /// Found under `data.` without a key `data`.
    alias: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Stored {
    /// In the text that [`View::read`] gives.
    Data(u32, u32),
    /// In [`View::texts`].
    Text(u32, u32),
    Number(Number),
    True,
    False,
    Null,
}

/// An element of an array, within the element of another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trail {
    pub(crate) parent: TrailId,
    /// Where in the data the array begins: its name.
    pub(crate) array: u32,
    pub(crate) index: u32,
    pub(crate) depth: u32,
}

impl Trail {
    /// Outside of arrays.
    pub(crate) const NONE: Self = Self { parent: 0, array: NONE, index: NONE, depth: 0 };
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Fails,
    Holds,
    /// It depends on the element of some array.
    InArrays,
}

impl Outcome {
    /// Of a condition that there be no value, where this is the outcome of one that there be any.
    pub(crate) fn negated(self) -> Self {
        match self {
            Self::Fails => Self::Holds,
            Self::Holds => Self::Fails,
            Self::InArrays => Self::InArrays,
        }
    }
}

impl View {
    /// Reads the event, and gives the text that its values are in.
    pub(crate) fn read<'a>(&mut self, paths: &Paths, attributes: &dyn Attributes, source: Source<'a>) -> &'a str {
        self.begin(paths.bound());
        let mut shadowed = 0u8;
        for (bit, &path) in paths.attributes.iter().enumerate().filter(|(_, path)| **path != NONE) {
            let Some(text) = attributes.get(ATTRIBUTES[bit]) else { continue };
            shadowed |= 1 << bit;
            if paths.node(path).uses > 0 {
                let stored = self.keep(&text);
                self.push(path, stored, 0, false);
            }
        }
        if shadowed.count_ones() == paths.node(ROOT).children {
            // Nothing of the data is wanted.
            return "";
        }
        match source {
            Source::Json(data) => self.read_json(paths, data, shadowed),
            Source::Fields(fields) => {
                self.read_fields(paths, fields, shadowed);
                fields.texts()
            }
        }
    }

    fn read_json<'a>(&mut self, paths: &Paths, data: &'a [u8], shadowed: u8) -> &'a str {
        let of_attributes = self.values.len();
        let Some(text) = std::str::from_utf8(data).ok().filter(|text| u32::try_from(text.len()).is_ok()) else {
            return "";
        };
        let mut walk = Walk { scanner: Scanner::new(text), paths, view: self, alias: false, stopped: false };
        match walk.data(shadowed) {
            Ok(()) if self.dotted.is_empty() => {}
            Ok(()) => self.settle_dotted(),
            Err(Broken) => self.forget_from(of_attributes),
        }
        text
    }

    /// As a walk over the text does: each key leads to a path, and below `data.` to another, if those are wanted.
    fn read_fields(&mut self, paths: &Paths, fields: &Fields, shadowed: u8) {
        self.trails.clear();
        self.trails.extend_from_slice(fields.trails());
        let mut resolved = std::mem::take(&mut self.resolved);
        resolved.clear();
        resolved.push((ROOT, if fields.has_own_data() { NONE } else { paths.data }));
        let mut is_dotted = false;
        for node in &fields.nodes()[1..] {
            let name = fields.name(node);
            let (path, alias) = resolved[node.parent as usize];
            let below = |path: PathId| if path == NONE { None } else { paths.below(path, name) };
            let path = below(path).filter(|&path| node.parent != 0 || !is_shadowed(paths, path, shadowed));
            let alias = below(alias);
            is_dotted |= (path.is_some() || alias.is_some()) && name.contains('.');
            resolved.push((path.unwrap_or(NONE), alias.unwrap_or(NONE)));
        }
        for leaf in fields.leaves() {
            let (path, alias) = resolved[leaf.node as usize];
            for path in [path, alias] {
                if path != NONE && paths.node(path).uses > 0 {
                    self.push(path, leaf.stored, leaf.trail, false);
                }
            }
        }
        self.resolved = resolved;
        if is_dotted {
            self.settle_dotted();
        }
    }

    /// The number of the event that was read last.
    pub(crate) fn event(&self) -> u32 {
        self.event
    }

    /// The paths that have values.
    pub(crate) fn touched(&self) -> &[PathId] {
        &self.touched
    }

    /// The values at a path, in the order of the text.
    #[inline]
    pub(crate) fn values(&self, path: PathId) -> impl Iterator<Item = &Found> {
        std::iter::successors(self.found(self.first(path)), |found| self.found(found.next))
    }

    /// Whether there is a value that is wanted at the path: one outside of arrays, one in an array, or none.
    #[inline]
    pub(crate) fn presence(&self, path: PathId, is_wanted: impl Fn(&Found) -> bool) -> Outcome {
        let mut outcome = Outcome::Fails;
        for found in self.values(path) {
            if is_wanted(found) {
                if found.trail == 0 {
                    return Outcome::Holds;
                }
                outcome = Outcome::InArrays;
            }
        }
        outcome
    }

    /// Where the first value at a path is, or [`NONE`].
    #[inline]
    pub(crate) fn first(&self, path: PathId) -> u32 {
        match self.slots.get(path as usize) {
            Some(slot) if slot.event == self.event => slot.first,
            _ => NONE,
        }
    }

    #[inline]
    pub(crate) fn found(&self, at: u32) -> Option<&Found> {
        self.values.get(at as usize)
    }

    pub(crate) fn set_equal(&mut self, at: u32, atom: u32) {
        self.values[at as usize].equal = atom;
    }

    /// The value itself; `data` is what [`View::read`] gave.
    #[inline]
    pub(crate) fn value<'v>(&'v self, found: &Found, data: &'v str) -> Value<'v> {
        match found.stored {
            Stored::Data(start, end) => Value::Text(&data[start as usize..end as usize]),
            Stored::Text(start, end) => Value::Text(&self.texts[start as usize..end as usize]),
            Stored::Number(number) => Value::Number(number),
            Stored::True => Value::True,
            Stored::False => Value::False,
            Stored::Null => Value::Null,
        }
    }

    #[inline]
    pub(crate) fn trail(&self, id: TrailId) -> &Trail {
        &self.trails[id as usize]
    }

    /// The element at this depth of the trail, which is at least that deep.
    pub(crate) fn element(&self, mut id: TrailId, depth: u32) -> (u32, u32) {
        while self.trail(id).depth > depth {
            id = self.trail(id).parent;
        }
        (self.trail(id).array, self.trail(id).index)
    }

    fn begin(&mut self, paths: usize) {
        self.event = self.event.wrapping_add(1);
        if self.event == 0 {
            self.slots.clear();
            self.event = 1;
        }
        if self.slots.len() < paths {
            self.slots.resize(paths, Slot::default());
        }
        self.touched.clear();
        if self.values.capacity() > VALUES_KEPT && self.values.len() < VALUES_KEPT / 8 {
            // One huge event does not hold on to its memory for long.
            (self.values, self.trails) = (Vec::new(), Vec::new());
        }
        self.values.clear();
        self.texts.clear();
        self.dotted.clear();
        self.trails.clear();
        self.trails.push(Trail::NONE);
    }

    #[inline]
    fn slot(&mut self, path: PathId) -> &mut Slot {
        let slot = &mut self.slots[path as usize];
        if slot.event != self.event {
            *slot = Slot { event: self.event, first: NONE, last: NONE, object: NONE };
        }
        slot
    }

    #[inline]
    fn push(&mut self, path: PathId, stored: Stored, trail: TrailId, alias: bool) {
        let id = self.values.len() as u32;
        self.values.push(Found { stored, next: NONE, trail, equal: NONE, alias });
        let slot = self.slot(path);
        let last = std::mem::replace(&mut slot.last, id);
        if slot.first == NONE {
            slot.first = id;
            self.touched.push(path);
        } else {
            self.values[last as usize].next = id;
        }
    }

    fn keep(&mut self, text: &str) -> Stored {
        let start = self.texts.len() as u32;
        self.texts.push_str(text);
        Stored::Text(start, self.texts.len() as u32)
    }

    /// Keeps at every path only the values that `keep` wants.
    fn retain(&mut self, mut keep: impl FnMut(&Self, PathId, u32) -> bool) {
        for path in std::mem::take(&mut self.touched) {
            let mut at = self.slots[path as usize].first;
            let slot = self.slot(path);
            (slot.first, slot.last) = (NONE, NONE);
            while at != NONE {
                let next = self.values[at as usize].next;
                if keep(self, path, at) {
                    self.values[at as usize].next = NONE;
                    let last = std::mem::replace(&mut self.slot(path).last, at);
                    if self.slots[path as usize].first == NONE {
                        self.slot(path).first = at;
                        self.touched.push(path);
                    } else {
                        self.values[last as usize].next = at;
                    }
                }
                at = next;
            }
        }
    }

    /// Forgets what was found in data that turned out not to be JSON.
    fn forget_from(&mut self, count: usize) {
        self.retain(|_, _, at| (at as usize) < count);
    }

    /// Where a dotted key and nested keys lead to two arrays at one path, only the first array counts: so that a path has
    /// at most one array within an element, which keeps matching polynomial.
    fn settle_dotted(&mut self) {
        let mut first: FxHashMap<(PathId, TrailId), u32> = FxHashMap::default();
        let mut chain = Vec::new();
        self.retain(|view, path, at| {
            chain.clear();
            let mut trail = view.values[at as usize].trail;
            while trail != 0 {
                chain.push(trail);
                trail = view.trail(trail).parent;
            }
            let agrees = chain.iter().all(|&trail| {
                let Trail { parent, array, .. } = *view.trail(trail);
                first.get(&(path, parent)).is_none_or(|&first| first == array)
            });
            if agrees {
                for &trail in &chain {
                    let Trail { parent, array, .. } = *view.trail(trail);
                    first.insert((path, parent), array);
                }
            }
            agrees
        });
    }
}

/// Whether an attribute of the event hides this path.
fn is_shadowed(paths: &Paths, path: PathId, shadowed: u8) -> bool {
    shadowed != 0 && (0..ATTRIBUTES.len()).any(|bit| shadowed & (1 << bit) != 0 && paths.attributes[bit] == path)
}

/// One pass over the data.
struct Walk<'w, 'a> {
    scanner: Scanner<'a>,
    paths: &'w Paths,
    view: &'w mut View,
    alias: bool,
    /// Everything that is wanted has been seen.
    stopped: bool,
}

impl Walk<'_, '_> {
    fn data(&mut self, shadowed: u8) -> Result<(), Broken> {
        if self.scanner.is_at_end() {
            return Ok(());
        }
        if self.scanner.peek()? == b'{' {
            self.top(shadowed)?;
        } else if self.paths.data != NONE {
            self.value(self.paths.data, 0, 0)?;
        } else {
            self.scanner.skip(0)?;
        }
        if self.stopped || self.scanner.is_at_end() { Ok(()) } else { Err(Broken) }
    }

    /// The data's own top-level keys, as fields and, under `data.`, as fields of the data.
    fn top(&mut self, shadowed: u8) -> Result<(), Broken> {
        let has_alias = self.paths.data != NONE && self.paths.node(self.paths.data).children > 0;
        let mut own_data = false;
        let object = self.scanner.at() as u32;
        self.scanner.expect(b'{')?;
        if self.scanner.take(b'}')? {
            return Ok(());
        }
        let mut missing = if self.view.trusts { self.wanted_keys(shadowed) } else { None };
        loop {
            let key = self.scanner.key()?;
            own_data |= has_alias && self.is_key(key, "data");
            let start = self.scanner.at();
            let found = self.child(ROOT, key, object).filter(|&path| !is_shadowed(self.paths, path, shadowed));
            let alias = if has_alias && !own_data { self.child(self.paths.data, key, object) } else { None };
            match found {
                Some(path) => self.value(path, 0, 1)?,
                None if alias.is_none() => self.scanner.skip(1)?,
                None => {}
            }
            if let Some(path) = alias {
                self.scanner.seek(start);
                self.alias = true;
                self.value(path, 0, 1)?;
                self.alias = false;
            }
            if let Some(missing) = &mut missing {
                *missing -= u32::from(found.is_some());
                self.stopped = *missing == 0;
            }
            if self.stopped || !self.scanner.more(b'}')? {
                break;
            }
        }
        if own_data {
            self.view.retain(|view, _, at| !view.values[at as usize].alias);
        }
        Ok(())
    }

    /// How many top-level keys are wanted, if nothing is wanted below them: then no other key can lead there.
    fn wanted_keys(&self, shadowed: u8) -> Option<u32> {
        (self.paths.deep() == 0).then(|| self.paths.node(ROOT).children - shadowed.count_ones())
    }

    fn is_key(&mut self, key: Quoted, name: &str) -> bool {
        self.scanner.text(key, &mut self.view.buffer) == name
    }

    /// The path of a key below `parent`, if it is wanted, and the key has not stood in this object before.
    #[inline]
    fn child(&mut self, parent: PathId, key: Quoted, object: u32) -> Option<PathId> {
        let name = self.scanner.text(key, &mut self.view.buffer);
        let path = match self.paths.child(parent, name) {
            Some(path) => path,
            None if !name.as_bytes().contains(&b'.') => return None,
            None => {
                let path = self.paths.below(parent, name)?;
                return self.view.dotted.insert((object, parent, path)).then_some(path);
            }
        };
        let slot = self.view.slot(path);
        if slot.object == object {
            return None;
        }
        slot.object = object;
        Some(path)
    }

    /// A value at a wanted path; `depth` is how many objects and arrays are open around it.
    fn value(&mut self, path: PathId, trail: TrailId, depth: u32) -> Result<(), Broken> {
        match self.scanner.peek()? {
            b'{' | b'[' if depth >= DEPTH_MAX => Err(Broken),
            b'{' if self.paths.node(path).children > 0 => self.object(path, trail, depth + 1),
            b'{' => self.scanner.skip(depth),
            b'[' => self.array(path, trail, depth + 1),
            _ => {
                let scalar = self.scanner.scalar()?;
                if self.paths.node(path).uses > 0 {
                    let stored = self.stored(scalar);
                    self.view.push(path, stored, trail, self.alias);
                }
                Ok(())
            }
        }
    }

    fn stored(&mut self, scalar: Scalar) -> Stored {
        match scalar {
            Scalar::Text(quoted) if !quoted.escaped => Stored::Data(quoted.start as u32, quoted.end as u32),
            Scalar::Text(quoted) => {
                let mut buffer = std::mem::take(&mut self.view.buffer);
                let stored = self.view.keep(self.scanner.text(quoted, &mut buffer));
                self.view.buffer = buffer;
                stored
            }
            Scalar::Number(number) => Stored::Number(number),
            Scalar::True => Stored::True,
            Scalar::False => Stored::False,
            Scalar::Null => Stored::Null,
        }
    }

    fn object(&mut self, path: PathId, trail: TrailId, depth: u32) -> Result<(), Broken> {
        let object = self.scanner.at() as u32;
        self.scanner.expect(b'{')?;
        if self.scanner.take(b'}')? {
            return Ok(());
        }
        loop {
            let key = self.scanner.key()?;
            match self.child(path, key, object) {
                Some(path) => self.value(path, trail, depth)?,
                None => self.scanner.skip(depth)?,
            }
            if !self.scanner.more(b'}')? {
                return Ok(());
            }
        }
    }

    /// Scalars of an array belong to what is around it; objects and arrays in it are told apart by their element.
    fn array(&mut self, path: PathId, trail: TrailId, depth: u32) -> Result<(), Broken> {
        let array = self.scanner.at() as u32;
        self.scanner.expect(b'[')?;
        if self.scanner.take(b']')? {
            return Ok(());
        }
        for index in 0.. {
            match self.scanner.peek()? {
                b'{' | b'[' => {
                    let element = self.view.trails.len() as u32;
                    let outer = self.view.trail(trail).depth;
                    self.view.trails.push(Trail { parent: trail, array, index, depth: outer + 1 });
                    self.value(path, element, depth)?;
                }
                _ => self.value(path, trail, depth)?,
            }
            if !self.scanner.more(b']')? {
                break;
            }
        }
        Ok(())
    }
}
