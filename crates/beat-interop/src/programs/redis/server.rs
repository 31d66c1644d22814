//! As much of a Redis server as the program needs: SET, GET and INCR, one map, pipelined.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

pub(super) type Store = Arc<Mutex<HashMap<String, String>>>;

/// Serves one client until it leaves.
pub(super) async fn serve(stream: TcpStream, store: Store) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(command) = read_command(&mut stream).await? {
        stream.write_all(answer(&command, &store).as_bytes()).await?;
    }
    Ok(())
}

/// An array of bulk strings.
async fn read_command(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Vec<String>>> {
    let Some(parts) = read_length(stream, '*').await? else { return Ok(None) };
    let mut command = Vec::new();
    for _ in 0..parts {
        let Some(length) = read_length(stream, '$').await? else { return Ok(None) };
        let mut part = vec![0; length + 2];
        stream.read_exact(&mut part).await?;
        part.truncate(length);
        command.push(String::from_utf8_lossy(&part).into_owned());
    }
    Ok(Some(command))
}

async fn read_length(stream: &mut BufReader<TcpStream>, kind: char) -> std::io::Result<Option<usize>> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    Ok(line.trim_end().strip_prefix(kind).and_then(|digits| digits.parse().ok()))
}

fn answer(command: &[String], store: &Store) -> String {
    let mut store = store.lock().unwrap();
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    match *words {
        ["SET", key, value] => {
            store.insert(key.into(), value.into());
            "+OK\r\n".into()
        }
        ["GET", key] => match store.get(key) {
            Some(value) => format!("${}\r\n{value}\r\n", value.len()),
            None => "$-1\r\n".into(),
        },
        ["INCRBY", key, by] => {
            let sum = |text: &String| text.parse::<i64>().unwrap_or_default();
            let value = store.get(key).map_or(0, sum) + by.parse::<i64>().unwrap_or_default();
            store.insert(key.into(), value.to_string());
            format!(":{value}\r\n")
        }
        // What a client says of itself.
        _ => "+OK\r\n".into(),
    }
}
