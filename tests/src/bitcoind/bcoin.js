// A bcoin node on regtest that keeps to one peer: `node bcoin.js HOST:PORT`. Each new tip is a line
// of JSON on standard output; `mine N` on standard input puts blocks on top of it.
'use strict';

const readline = require('readline');
const {FullNode} = require('bcoin');

// P2WPKH of the hash 0...0.
const ADDRESS = 'rb1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqvuq8ck';

async function main() {
  const node = new FullNode({
    network: 'regtest',
    memory: true,
    listen: false,
    only: process.argv[2],
    workers: false,
    logConsole: false
  });
  const tip = () => {
    const {height} = node.chain.tip;
    console.log(JSON.stringify({height, hash: node.chain.tip.rhash()}));
  };
  await node.open();
  node.on('connect', tip);
  node.on('reset', tip);
  node.pool.on('error', () => {});
  await node.connect();
  node.startSync();
  tip();
  for await (const line of readline.createInterface({input: process.stdin})) {
    const [, count] = /^mine (\d+)$/.exec(line);
    for (let n = 0; n < Number(count); n++) {
      const block = await node.miner.mineBlock(node.chain.tip, null);
      await node.chain.add(block);
      // By its header (BIP 130): Core asks a peer for headers only once in two minutes, and bcoin
      // does not answer before it is in sync.
      for (let peer = node.pool.peers.head(); peer; peer = peer.next)
        peer.sendHeaders([block.toHeaders()]);
    }
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
