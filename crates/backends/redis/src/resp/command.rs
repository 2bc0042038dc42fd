//! Writes commands.

use std::fmt;

/// Appends the head of a command with so many arguments, its name counted.
pub(crate) fn array(out: &mut Vec<u8>, count: usize) {
    head(out, b'*', count);
}

/// Appends an argument.
pub(crate) fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    head(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends an argument in its text form.
pub(crate) fn bulk_display(out: &mut Vec<u8>, value: impl fmt::Display) {
    bulk(out, value.to_string().as_bytes());
}

/// Appends a whole command.
pub(crate) fn command(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    array(out, arguments.len());
    for argument in arguments {
        bulk(out, argument);
    }
}

fn head(out: &mut Vec<u8>, kind: u8, number: usize) {
    if number < 10 {
        out.extend_from_slice(&[kind, b'0' + number as u8, b'\r', b'\n']);
    } else if number < 100 {
        out.extend_from_slice(&[kind, b'0' + (number / 10) as u8, b'0' + (number % 10) as u8, b'\r', b'\n']);
    } else {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = number;
        while rest > 0 {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        out.push(kind);
        out.extend_from_slice(&digits[at..]);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_written_as_redis_reads_them() {
        let mut out = Vec::new();
        command(&mut out, &[b"SET", b"k", &[0xff, b'\r', b'\n']]);
        bulk_display(&mut out, 1234u64);
        bulk(&mut out, &[b'x'; 10]);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\n\xff\r\n\r\n$4\r\n1234\r\n$10\r\nxxxxxxxxxx\r\n");
        for number in [0, 9, 10, 99, 100, 101, 12_345, usize::MAX] {
            let mut out = Vec::new();
            array(&mut out, number);
            assert_eq!(out, format!("*{number}\r\n").as_bytes());
        }
    }
}
