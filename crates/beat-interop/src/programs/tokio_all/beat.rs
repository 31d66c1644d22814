// tokio itself: net (TCP, UDP, Unix sockets), time, sync, fs, io, process, signal.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader, SeekFrom};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Barrier, Mutex, Notify, RwLock, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, interval, sleep, timeout};

async fn tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = beat::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap()
    });
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(&[7; 100_000]).await.unwrap();
    let mut back = vec![0; 100_000];
    stream.read_exact(&mut back).await.unwrap();
    drop(stream);
    println!("tcp: {} bytes there and back, {}", back.len(), server.await.unwrap());
}

async fn udp() {
    let (a, b) =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    a.send_to(b"ping", b.local_addr().unwrap()).await.unwrap();
    let mut buffer = [0; 16];
    let (length, from) = b.recv_from(&mut buffer).await.unwrap();
    println!("udp: {length} bytes, from the sender: {}", from == a.local_addr().unwrap());
}

async fn unix() {
    let path = std::env::temp_dir().join(format!("beat-interop-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let mut client = UnixStream::connect(&path).await.unwrap();
    let (mut served, _) = listener.accept().await.unwrap();
    client.write_u32(42).await.unwrap();
    println!("unix: {}", served.read_u32().await.unwrap());
    tokio::fs::remove_file(path).await.unwrap();
}

async fn time() {
    let start = Instant::now();
    let mut ticks = interval(Duration::from_millis(2));
    for _ in 0..5 {
        ticks.tick().await;
    }
    println!("time: five ticks in 8 ms or more: {}", start.elapsed() >= Duration::from_millis(8));
    let late = timeout(Duration::from_millis(2), sleep(Duration::from_secs(1_000))).await;
    let (mut early, mut pending) = (false, Box::pin(std::future::pending::<()>()));
    tokio::select! {
        () = sleep(Duration::from_millis(1)) => early = true,
        () = &mut pending => {}
    }
    println!("time: timed out {}, selected {early}", late.is_err());
}

async fn sync() {
    let (send, mut receive) = mpsc::channel(2);
    let sum = Arc::new(Mutex::new(0));
    let permits = Arc::new(Semaphore::new(3));
    for n in 0..100_u64 {
        let (send, sum, permits) = (send.clone(), Arc::clone(&sum), Arc::clone(&permits));
        drop(beat::spawn(async move {
            let _permit = permits.acquire().await.unwrap();
            *sum.lock().await += n;
            send.send(n).await.unwrap();
        }));
    }
    drop(send);
    let mut received = 0;
    while let Some(n) = receive.recv().await {
        received += n;
    }
    println!("sync: mpsc {received}, mutex {}", *sum.lock().await);

    let (tell, mut told) = watch::channel(0);
    let (cast, mut heard) = broadcast::channel(4);
    let (answer, answered) = oneshot::channel();
    let (met, noticed, shared) =
        (Arc::new(Barrier::new(2)), Arc::new(Notify::new()), Arc::new(RwLock::new(1)));
    let other = beat::spawn({
        let (met, noticed, shared) = (Arc::clone(&met), Arc::clone(&noticed), Arc::clone(&shared));
        async move {
            told.wait_for(|n| *n == 3).await.unwrap();
            let word: &str = heard.recv().await.unwrap();
            met.wait().await;
            noticed.notified().await;
            *shared.write().await += 1;
            answer.send(word).unwrap();
        }
    });
    tell.send(3).unwrap();
    cast.send("cast").unwrap();
    met.wait().await;
    noticed.notify_one();
    let word = answered.await.unwrap();
    other.await.unwrap();
    println!("sync: {word}, {}", *shared.read().await);
}

async fn fs() {
    let path = std::env::temp_dir().join(format!("beat-interop-{}.txt", std::process::id()));
    let mut file = tokio::fs::File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&path)
        .await
        .unwrap();
    file.write_all(b"one\ntwo\nthree\n").await.unwrap();
    file.seek(SeekFrom::Start(4)).await.unwrap();
    let mut lines = BufReader::new(file).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        println!("fs: {line}");
    }
    println!("fs: {} bytes", tokio::fs::metadata(&path).await.unwrap().len());
    tokio::fs::remove_file(path).await.unwrap();
}

async fn io() {
    let (mut a, mut b) = tokio::io::duplex(8);
    let writer = beat::spawn(async move {
        a.write_all(b"longer than the pipe is").await.unwrap();
    });
    let mut text = String::new();
    b.read_to_string(&mut text).await.unwrap();
    writer.await.unwrap();
    println!("io: {text}");
}

async fn process() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"through a child").await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    println!("process: {}, {}", String::from_utf8_lossy(&output.stdout), output.status.success());
    let status = Command::new("sh").args(["-c", "exit 3"]).status().await.unwrap();
    println!("process: {:?}", status.code());
}

async fn signals() {
    let mut hangups = signal(SignalKind::user_defined1()).unwrap();
    let own = std::process::id().to_string();
    let sent = Command::new("sh").args(["-c", "kill -USR1 $0", &own]).status().await.unwrap();
    println!("signal: sent {}, came {}", sent.success(), hangups.recv().await.is_some());
}

#[beat::main]
pub(crate) async fn main() {
    tcp().await;
    udp().await;
    unix().await;
    time().await;
    sync().await;
    fs().await;
    io().await;
    process().await;
    signals().await;
    println!("spawn_blocking: {}", tokio::task::spawn_blocking(|| 6 * 7).await.unwrap());
}
