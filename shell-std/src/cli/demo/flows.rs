//! The scene of a flow: a TCP connection through the mesh, paid for in steps.

use super::scenes::{A, B, C, Shown};
use super::stage::Stage;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Bytes that are sent, and after how many of them B is killed.
const BYTES: usize = 10_000_000;
const KILLED_AFTER: usize = 3_000_000;
/// The most that the flow may cost, in millisatoshi.
const MAX_MSAT: u64 = 5_000_000;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service that answers with the hash of what it was sent.
fn service() -> io::Result<(SocketAddr, JoinHandle<io::Result<()>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    let thread = thread::spawn(move || {
        let (mut tcp, _) = listener.accept()?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let mut engine = sha256::Hash::engine();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match tcp.read(&mut buffer)? {
                0 => break,
                len => engine.input(buffer.get(..len).unwrap_or_default()),
            }
        }
        tcp.write_all(sha256::Hash::from_engine(engine).as_byte_array())
    });
    Ok((at, thread))
}

/// Sends the data through B, which is killed and started again meanwhile.
pub(super) fn forwarded(stage: &mut Stage) -> Shown {
    let data: Vec<u8> = (0..BYTES as u32)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
        .take(BYTES)
        .collect();
    let (target, thread) = service().map_err(|e| e.to_string())?;
    stage.actor(C)?.expose("hash", target)?;
    let c = stage.actor(C)?.id()?;
    let local = stage.actor(A)?.forward(c, "hash", MAX_MSAT)?;
    let start = Instant::now();
    let mut tcp = TcpStream::connect(local.as_str()).map_err(|e| e.to_string())?;
    let wrong = |e: io::Error| format!("the connection: {e}");
    tcp.set_read_timeout(Some(PATIENCE)).map_err(wrong)?;
    tcp.set_write_timeout(Some(PATIENCE)).map_err(wrong)?;
    let (before, after) = data.split_at(KILLED_AFTER);
    tcp.write_all(before).map_err(wrong)?;
    stage.actor(B)?.kill()?;
    stage.actor(B)?.restart()?;
    tcp.write_all(after).map_err(wrong)?;
    tcp.shutdown(Shutdown::Write).map_err(wrong)?;
    let mut hash = [0; 32];
    tcp.read_exact(&mut hash).map_err(wrong)?;
    let took = start.elapsed().as_secs_f64();
    thread.join().map_err(|_| "the service panicked")?.map_err(|e| format!("the service: {e}"))?;
    if hash != sha256::Hash::hash(&data).to_byte_array() {
        return Err("the service got other bytes".into());
    }
    stage.actor(A)?.end_forward(&local)?;
    let (paid, steps, earned) = settled(stage)?;
    Ok(format!(
        "10 MB in {took:.1} s, whole and in order; A bought {steps} steps for {paid} msat, and B \
         has sold for {earned} msat"
    ))
}

/// What A has paid for bytes of flows, in how many payments, and what B and C have sold: both
/// ledgers must agree.
fn settled(stage: &mut Stage) -> Result<(u64, u64, u64), String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let bought = stage.actor(A)?.ledger()?.bought;
        let sold = [B, C].map(|place| Ok(stage.actor(place)?.ledger()?.sold.amount_msat));
        let sold: Vec<u64> = sold.into_iter().collect::<Result<_, String>>()?;
        let all: u64 = sold.iter().sum();
        if bought.amount_msat == all && all > 0 {
            return Ok((bought.amount_msat, bought.purchases, all));
        }
        if Instant::now() > until {
            let paid = bought.amount_msat;
            return Err(format!("A has paid {paid} msat, and {all} msat were sold"));
        }
        thread::sleep(Duration::from_millis(50));
    }
}
