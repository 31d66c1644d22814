//! As much HTTP/1.1 as the load needs, by hand, so that nothing of it runs on a scheduler.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take before the run is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// One request on a connection of its own; the whole body.
pub(super) fn get(addr: SocketAddr, target: &str) -> io::Result<String> {
    let mut answer = String::new();
    send(addr, target)?.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.into()),
        _ => Err(io::Error::other(format!("{target} was answered with {answer:?}"))),
    }
}

/// Sends a request; the connection ends with the answer.
pub(super) fn send(addr: SocketAddr, target: &str) -> io::Result<TcpStream> {
    let mut connection = TcpStream::connect(addr)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {target} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    Ok(connection)
}

/// The target of a search, with its expression percent-encoded.
pub(super) fn search_target(regex: &str) -> String {
    let mut target = String::from("/search?limit=10000&q=");
    for byte in regex.bytes() {
        if byte.is_ascii_alphanumeric() {
            target.push(char::from(byte));
        } else {
            target += &format!("%{byte:02X}");
        }
    }
    target
}

/// The length of the first complete answer in `bytes`, if there is one.
///
/// # Errors
///
/// If the answer is not a 200 with a stated length.
pub(in crate::suite) fn complete_answer(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(head_len) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..head_len]);
    let refused = || io::Error::other(format!("a light request was answered with {head:?}"));
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(refused());
    }
    let body_len: usize = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or_else(refused)?;
    let len = head_len + 4 + body_len;
    Ok((bytes.len() >= len).then_some(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        for len in 0..answer.len() {
            assert_eq!(complete_answer(&answer[..len]).unwrap(), None);
        }
        let two = [&answer[..], answer].concat();
        assert_eq!(complete_answer(&two).unwrap(), Some(answer.len()));
        assert!(complete_answer(b"HTTP/1.1 500 X\r\n\r\n").is_err());
        assert!(complete_answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn an_expression_is_percent_encoded() {
        assert_eq!(search_target(r"a+\w"), "/search?limit=10000&q=a%2B%5Cw");
    }
}
