//! Flows between the nodes of two hosts.

use super::purchase_tests::pair;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use std::time::{Duration, Instant};

#[test]
fn hosts_have_streams_to_one_another() {
    let executor = smol::Executor::new();
    smol::block_on(executor.run(async {
        let ([a, b], _) = pair(&executor, None, false).await;
        let listener = b.flows().listen().unwrap();
        let flow = a.flows().open(b.id(), 0).await.unwrap();
        let taken = listener.accept().await.unwrap();
        assert_eq!((flow.peer(), taken.peer()), (b.id(), a.id()));
        let data: Vec<u8> = (0..500_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        let mut stream = flow.open_stream().await.unwrap();
        let send = async {
            stream.write_all(&data).await.unwrap();
            stream.close().await.unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).await.unwrap();
            assert_eq!(back, b"thanks");
        };
        let answer = async {
            let mut stream = taken.accept_stream().await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            assert!(all == data);
            stream.write_all(b"thanks").await.unwrap();
            stream.close().await.unwrap();
            stream.arrived().await.unwrap();
        };
        smol::future::zip(send, answer).await;
        // When its last handle is dropped the flow ends at both ends.
        drop((flow, stream));
        assert!(taken.accept_stream().await.is_none());
        let start = Instant::now();
        // The other end is told more than once.
        while !a.flows().list().await.unwrap().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(20), "it does not end");
            smol::Timer::after(Duration::from_millis(20)).await;
        }
        // Whoever does not listen any more takes none.
        drop((listener, taken));
        let refused = a.flows().open(b.id(), 0).await.unwrap_err();
        assert!(refused.to_string().contains("takes no flows"), "{refused}");
    }));
}
