//! An event's data that has been parsed: for matching it more than once, or without any JSON.

use rustc_hash::FxHashSet;

use crate::{
    json::{Broken, DEPTH_MAX, Scalar, Scanner},
    number::Number,
    view::{Stored, Trail, TrailId},
};

/// The fields of an event's data, parsed once and matched against any number of sets and patterns.
///
/// ```
/// use synapse_hub_matcher::{Fields, Matcher, Pattern, Scratch};
///
/// let mut matcher = Matcher::new();
/// matcher.insert(1, &Pattern::parse(r#"{"metrics": {"loss": [{"numeric": ["<", 0.1]}]}, "tags": ["nightly"]}"#)?);
///
/// let mut fields = Fields::new();
/// fields.push("metrics.loss", 0.07);
/// fields.push("tags", "gpu");
/// fields.push("tags", "nightly");
/// let (mut scratch, mut out) = (Scratch::new(), Vec::new());
/// matcher.matches_fields(&(), &fields, &mut scratch, &mut out);
/// assert_eq!(out, [1]);
///
/// let same = Fields::from_json(br#"{"metrics": {"loss": 0.07}, "tags": ["gpu", "nightly"]}"#);
/// matcher.matches_fields(&(), &same, &mut scratch, &mut out);
/// assert_eq!(out, [1, 1]);
/// # Ok::<(), synapse_hub_matcher::PatternError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Fields {
    /// All names and texts.
    texts: String,
    /// The keys, each after the one it stands below; the first is the event.
    nodes: Vec<Node>,
    /// In the order of the text.
    leaves: Vec<Leaf>,
    trails: Vec<Trail>,
    /// Whether the data has a key `data` of its own.
    own_data: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    pub(crate) parent: u32,
    start: u32,
    end: u32,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Leaf {
    pub(crate) node: u32,
    pub(crate) stored: Stored,
    pub(crate) trail: TrailId,
}

/// A value of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum FieldValue<'a> {
    /// A text.
    Text(&'a str),
    /// A whole number.
    Integer(i128),
    /// A number, by its shortest decimal form. One that is not finite is no value.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// An explicit null.
    Null,
}

impl Default for Fields {
    fn default() -> Self {
        let trails = vec![Trail::NONE];
        let nodes = vec![Node { parent: 0, start: 0, end: 0 }];
        Self { texts: String::new(), nodes, leaves: Vec::new(), trails, own_data: false }
    }
}

impl Fields {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads JSON text, with everything that matching can tell apart: array elements, repeated keys, exact numbers. Data
    /// that is not JSON has no fields.
    pub fn from_json(data: &[u8]) -> Self {
        let Some(text) = std::str::from_utf8(data).ok().filter(|text| u32::try_from(text.len()).is_ok()) else {
            return Self::default();
        };
        let mut reader = Reader { scanner: Scanner::new(text), fields: Self::default(), buffer: String::new() };
        match reader.data() {
            Ok(()) if reader.scanner.is_at_end() => reader.fields,
            _ => Self::default(),
        }
    }

    /// Adds a value at a path, whose parts have dots between them. Several values at one path are those of an array.
    ///
    /// # Panics
    /// If all names and texts together are more than 4 GiB.
    pub fn push<'a>(&mut self, path: &str, value: impl Into<FieldValue<'a>>) {
        let stored = match value.into() {
            FieldValue::Text(text) => self.keep(text),
            FieldValue::Integer(number) => Stored::Number(Number::parse(number.to_string().as_bytes())),
            FieldValue::Float(number) if !number.is_finite() => return,
            FieldValue::Float(number) => Stored::Number(Number::parse(number.to_string().as_bytes())),
            FieldValue::Bool(true) => Stored::True,
            FieldValue::Bool(false) => Stored::False,
            FieldValue::Null => Stored::Null,
        };
        self.own_data |= path == "data" || path.starts_with("data.");
        let node = self.node(0, path);
        self.leaves.push(Leaf { node, stored, trail: 0 });
    }

    pub(crate) fn texts(&self) -> &str {
        &self.texts
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(crate) fn name(&self, node: &Node) -> &str {
        &self.texts[node.start as usize..node.end as usize]
    }

    pub(crate) fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    pub(crate) fn trails(&self) -> &[Trail] {
        &self.trails
    }

    pub(crate) fn has_own_data(&self) -> bool {
        self.own_data
    }

    fn node(&mut self, parent: u32, name: &str) -> u32 {
        let Stored::Data(start, end) = self.keep(name) else { return 0 };
        self.nodes.push(Node { parent, start, end });
        self.nodes.len() as u32 - 1
    }

    fn keep(&mut self, text: &str) -> Stored {
        let start = self.texts.len() as u32;
        self.texts.push_str(text);
        assert!(u32::try_from(self.texts.len()).is_ok(), "the names and texts of an event are more than 4 GiB");
        Stored::Data(start, self.texts.len() as u32)
    }
}

struct Reader<'a> {
    scanner: Scanner<'a>,
    fields: Fields,
    buffer: String,
}

impl Reader<'_> {
    fn data(&mut self) -> Result<(), Broken> {
        if self.scanner.peek()? == b'{' {
            return self.object(0, 0, 1);
        }
        self.fields.own_data = true;
        let node = self.fields.node(0, "data");
        self.value(node, 0, 0)
    }

    fn object(&mut self, node: u32, trail: TrailId, depth: u32) -> Result<(), Broken> {
        self.scanner.expect(b'{')?;
        if self.scanner.take(b'}')? {
            return Ok(());
        }
        let mut seen = FxHashSet::default();
        loop {
            let key = self.scanner.key()?;
            let name = self.scanner.text(key, &mut self.buffer);
            // Of two equal keys the first counts.
            if seen.contains(name) {
                self.scanner.skip(depth)?;
            } else {
                seen.insert(name.to_owned());
                self.fields.own_data |= node == 0 && name == "data";
                let child = self.fields.node(node, name);
                self.value(child, trail, depth)?;
            }
            if !self.scanner.more(b'}')? {
                return Ok(());
            }
        }
    }

    /// `depth` is how many objects and arrays are open around the value.
    fn value(&mut self, node: u32, trail: TrailId, depth: u32) -> Result<(), Broken> {
        match self.scanner.peek()? {
            b'{' | b'[' if depth >= DEPTH_MAX => Err(Broken),
            b'{' => self.object(node, trail, depth + 1),
            b'[' => self.array(node, trail, depth + 1),
            _ => {
                let stored = match self.scanner.scalar()? {
                    Scalar::Text(quoted) => {
                        let text = self.scanner.text(quoted, &mut self.buffer);
                        self.fields.keep(text)
                    }
                    Scalar::Number(number) => Stored::Number(number),
                    Scalar::True => Stored::True,
                    Scalar::False => Stored::False,
                    Scalar::Null => Stored::Null,
                };
                self.fields.leaves.push(Leaf { node, stored, trail });
                Ok(())
            }
        }
    }

    fn array(&mut self, node: u32, trail: TrailId, depth: u32) -> Result<(), Broken> {
        let array = self.scanner.at() as u32;
        self.scanner.expect(b'[')?;
        if self.scanner.take(b']')? {
            return Ok(());
        }
        for index in 0.. {
            let element = match self.scanner.peek()? {
                b'{' | b'[' => {
                    let depth = self.fields.trails[trail as usize].depth + 1;
                    self.fields.trails.push(Trail { parent: trail, array, index, depth });
                    self.fields.trails.len() as u32 - 1
                }
                _ => trail,
            };
            self.value(node, element, depth)?;
            if !self.scanner.more(b']')? {
                break;
            }
        }
        Ok(())
    }
}

impl<'a> From<&'a str> for FieldValue<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for FieldValue<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for FieldValue<'_> {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<i32> for FieldValue<'_> {
    fn from(number: i32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<i64> for FieldValue<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number.into())
    }
}

impl From<u64> for FieldValue<'_> {
    fn from(number: u64) -> Self {
        Self::Integer(number.into())
    }
}
