//! Reads replies, as they arrive, into an index over their bytes.

use bytes::{Bytes, BytesMut};

/// How deep replies may nest. Redis nests its own at most four deep.
const DEPTH_MAX: usize = 16;

/// The replies to a request: the bytes that came, and where in them the values are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replies {
    bytes: Bytes,
    nodes: Vec<Node>,
}

/// A value, its parts named by their place in the bytes. Parts of an array follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Nil,
    Int(i64),
    Simple(u32, u32),
    Error(u32, u32),
    Bulk(u32, u32),
    /// The number of its parts, and the place in the index after the last of them.
    Array(u32, u32),
}

/// A value of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View<'a> {
    Nil,
    Int(i64),
    Simple(&'a [u8]),
    Error(&'a [u8]),
    Bulk(&'a [u8]),
    /// So many values follow that are its parts.
    Array(usize),
}

impl<'a> View<'a> {
    /// The text of a value that is one.
    pub(crate) fn bytes(self) -> Option<&'a [u8]> {
        match self {
            View::Bulk(bytes) | View::Simple(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The number that it is or says.
    pub(crate) fn number(self) -> Option<u64> {
        match self {
            View::Int(number) => u64::try_from(number).ok(),
            View::Bulk(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }
}

impl Replies {
    /// A walk over all values, those in arrays after their array.
    pub(crate) fn cursor(&self) -> Cursor<'_> {
        Cursor { replies: self, at: 0 }
    }

    /// A walk that starts where another one was.
    pub(crate) fn cursor_at(&self, at: usize) -> Cursor<'_> {
        Cursor { replies: self, at }
    }

    /// How many bytes they have.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// A walk over the values of replies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    replies: &'a Replies,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Where the walk is, for [`Replies::cursor_at`].
    pub(crate) fn place(&self) -> usize {
        self.at
    }

    /// The next value, without going past it.
    pub(crate) fn peek(&self) -> Option<View<'a>> {
        self.clone().next()
    }

    /// The number of parts of the array that comes next; `None` when it is something else.
    pub(crate) fn array(&mut self) -> Option<usize> {
        match self.peek()? {
            View::Array(count) => {
                self.at += 1;
                Some(count)
            }
            _ => None,
        }
    }

    /// The text that comes next; `None` when it is something else.
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        self.next()?.bytes()
    }

    /// Passes a value and its parts.
    pub(crate) fn pass(&mut self) {
        match self.replies.nodes.get(self.at) {
            Some(Node::Array(_, end)) => self.at = *end as usize,
            _ => self.at += 1,
        }
    }
}

impl<'a> Iterator for Cursor<'a> {
    type Item = View<'a>;

    fn next(&mut self) -> Option<View<'a>> {
        let node = *self.replies.nodes.get(self.at)?;
        self.at += 1;
        let text = |start: u32, end: u32| &self.replies.bytes[start as usize..end as usize];
        Some(match node {
            Node::Nil => View::Nil,
            Node::Int(number) => View::Int(number),
            Node::Simple(start, end) => View::Simple(text(start, end)),
            Node::Error(start, end) => View::Error(text(start, end)),
            Node::Bulk(start, end) => View::Bulk(text(start, end)),
            Node::Array(count, _) => View::Array(count as usize),
        })
    }
}

/// Reads the replies to one request at a time from bytes that arrive in pieces. What was read is not read again.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    nodes: Vec<Node>,
    at: usize,
    /// How many values the request still gets.
    values: u32,
    /// The open arrays, the innermost last: how many parts each still gets, and its place in the index.
    open: Vec<(u32, usize)>,
}

/// The bytes are not the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotResp;

impl Parser {
    /// Begins the replies to a request that gets so many.
    pub(crate) fn start(&mut self, values: u32) {
        self.values = values;
        self.nodes.reserve(values as usize);
    }

    /// Reads on. Takes the replies out of `buffer` once they are whole.
    pub(crate) fn read(&mut self, buffer: &mut BytesMut) -> Result<Option<Replies>, NotResp> {
        while self.values > 0 {
            let Some((node, end)) = read_node(buffer, self.at)? else { return Ok(None) };
            self.nodes.push(node);
            self.at = end;
            match node {
                Node::Array(count, _) if count > 0 => {
                    if self.open.len() == DEPTH_MAX {
                        return Err(NotResp);
                    }
                    self.open.push((count, self.nodes.len() - 1));
                }
                _ => self.close(),
            }
        }
        let bytes = buffer.split_to(self.at).freeze();
        self.at = 0;
        Ok(Some(Replies { bytes, nodes: std::mem::take(&mut self.nodes) }))
    }

    /// Notes that a value is whole, and with it perhaps the arrays it is the last part of.
    fn close(&mut self) {
        let end = self.nodes.len() as u32;
        if let Some(Node::Array(0, own_end)) = self.nodes.last_mut() {
            *own_end = end;
        }
        while let Some((left, node)) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return;
            }
            if let Node::Array(_, own_end) = &mut self.nodes[*node] {
                *own_end = end;
            }
            self.open.pop();
        }
        self.values -= 1;
    }
}

/// The value at this place and where it ends; `None` when it is not whole yet.
fn read_node(buffer: &[u8], at: usize) -> Result<Option<(Node, usize)>, NotResp> {
    let Some(&kind) = buffer.get(at) else { return Ok(None) };
    let Some(line) = line_end(buffer, at + 1) else { return Ok(None) };
    let (start, next) = (at + 1, line + 2);
    // Places are 32 bits wide; no reply that is allowed comes near.
    let place = |place: usize| u32::try_from(place).map_err(|_| NotResp);
    let node = match kind {
        b'+' => Node::Simple(place(start)?, place(line)?),
        b'-' => Node::Error(place(start)?, place(line)?),
        b':' => Node::Int(number(&buffer[start..line])?),
        b'$' => match number(&buffer[start..line])? {
            -1 => Node::Nil,
            length => {
                let end = usize::try_from(length).ok().and_then(|length| next.checked_add(length)).ok_or(NotResp)?;
                place(end)?;
                match buffer.get(end..end + 2) {
                    Some(b"\r\n") => return Ok(Some((Node::Bulk(place(next)?, place(end)?), end + 2))),
                    Some(_) => return Err(NotResp),
                    None => return Ok(None),
                }
            }
        },
        b'*' => match number(&buffer[start..line])? {
            -1 => Node::Nil,
            count => Node::Array(u32::try_from(count).map_err(|_| NotResp)?, 0),
        },
        _ => return Err(NotResp),
    };
    Ok(Some((node, next)))
}

/// Where the line ends that goes on at `from`: the place of its `\r\n`.
fn line_end(buffer: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += buffer.get(at..)?.iter().position(|&byte| byte == b'\r')?;
        match buffer.get(at + 1)? {
            b'\n' => return Some(at),
            _ => at += 1,
        }
    }
}

fn number(text: &[u8]) -> Result<i64, NotResp> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 19 {
        return Err(NotResp);
    }
    let mut value = 0i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(NotResp);
        }
        value = value.checked_mul(10).and_then(|value| value.checked_add(i64::from(digit))).ok_or(NotResp)?;
    }
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: &[u8] =
        b"+OK\r\n-ERR no\r\n:-12\r\n$5\r\na\r\nbc\r\n$-1\r\n*-1\r\n*0\r\n*2\r\n*1\r\n$0\r\n\r\n:7\r\n+rest";

    fn views(replies: &Replies) -> Vec<View<'_>> {
        replies.cursor().collect()
    }

    #[test]
    fn replies_are_the_same_in_whatever_pieces_they_arrive() {
        let expected = [
            View::Simple(b"OK"),
            View::Error(b"ERR no"),
            View::Int(-12),
            View::Bulk(b"a\r\nbc"),
            View::Nil,
            View::Nil,
            View::Array(0),
            View::Array(2),
            View::Array(1),
            View::Bulk(b""),
            View::Int(7),
        ];
        for piece in 1..=BYTES.len() {
            let (mut parser, mut buffer) = (Parser::default(), BytesMut::new());
            parser.start(8);
            let mut found = None;
            for part in BYTES.chunks(piece) {
                buffer.extend_from_slice(part);
                if found.is_none() {
                    found = parser.read(&mut buffer).unwrap();
                }
            }
            assert_eq!(views(&found.unwrap()), expected, "in pieces of {piece}");
            assert_eq!(&buffer[..], b"+rest");
        }
    }

    #[test]
    fn a_walk_can_pass_what_it_does_not_want() {
        let mut buffer = BytesMut::from(&b"*2\r\n*2\r\n:1\r\n:2\r\n:3\r\n:4\r\n"[..]);
        let mut parser = Parser::default();
        parser.start(2);
        let replies = parser.read(&mut buffer).unwrap().unwrap();
        let mut cursor = replies.cursor();
        cursor.pass();
        assert_eq!(cursor.next(), Some(View::Int(4)));
        let mut cursor = replies.cursor();
        assert_eq!(cursor.array(), Some(2));
        cursor.pass();
        assert_eq!(replies.cursor_at(cursor.place()).next(), Some(View::Int(3)));
        cursor.pass();
        cursor.pass();
        cursor.pass();
        assert_eq!(cursor.next(), None);
    }

    #[test]
    fn what_is_not_the_protocol_is_refused() {
        let deep = b"*1\r\n".repeat(DEPTH_MAX + 1);
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b":\r\n",
            b":1a\r\n",
            b"$3\r\nabcd\r\n",
            b"$-2\r\n",
            b"*-7\r\n",
            &deep,
        ] {
            let (mut parser, mut buffer) = (Parser::default(), BytesMut::from(bytes));
            parser.start(1);
            assert!(parser.read(&mut buffer).is_err(), "{}", bytes.escape_ascii());
        }
    }
}
