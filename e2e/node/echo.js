// Sends messages with the ws package and checks the echoes. The only argument is the server's URL. Exit status 0 means
// that every echo was correct.
'use strict';

const assert = require('node:assert');
const { once } = require('node:events');
const WebSocket = require('ws');

const url = process.argv[2];
const sizes = [0, 1, 125, 126, 127, 65535, 65536, 65537, 1 << 20, 8 << 20];

const bytes = (size) => Buffer.from(Uint8Array.from({ length: size }, (_, i) => (i * 31 + (i >> 8)) & 0xff));
// Characters of three bytes, so that some lie across every boundary in between, and ASCII to fill up the size.
const characters = (size) => Buffer.from('€'.repeat(size / 3) + 'x'.repeat(size % 3));

async function open() {
  const socket = new WebSocket(url, { perMessageDeflate: false, maxPayload: 16 << 20 });
  socket.binaryType = 'nodebuffer';
  await once(socket, 'open');
  return socket;
}

async function wantMessage(socket, payload, isBinary) {
  const [got, gotBinary] = await once(socket, 'message');
  assert.strictEqual(gotBinary, isBinary);
  assert.ok(got.equals(payload), `the echo of ${payload.length} bytes differs`);
}

async function echo(socket) {
  for (const size of sizes) {
    for (const binary of [false, true]) {
      const payload = binary ? bytes(size) : characters(size);
      socket.send(payload, { binary });
      await wantMessage(socket, payload, binary);
    }
  }
}

async function fragmentsAndPings(socket) {
  const payload = characters(200000);
  const piece = 7001;
  const pongs = [];
  const collect = (data) => pongs.push(data.toString());
  const pings = [];
  socket.on('pong', collect);
  for (let at = 0; at < payload.length; at += piece) {
    const fin = at + piece >= payload.length;
    socket.send(payload.subarray(at, at + piece), { binary: false, fin });
    if (!fin) {
      pings.push(`at ${at}`);
      socket.ping(`at ${at}`);
    }
  }
  await wantMessage(socket, payload, false);
  assert.deepStrictEqual(pongs, pings);
  socket.off('pong', collect);
}

async function close(code, reason) {
  const socket = await open();
  const began = Date.now();
  socket.close(code, reason);
  const [gotCode, gotReason] = await once(socket, 'close');
  assert.deepStrictEqual([gotCode, gotReason.toString()], [code ?? 1005, reason ?? '']);
  // If the server does not end TCP, the package waits 30 seconds.
  assert.ok(Date.now() - began < 5000, `closing with ${code} took 5 s or longer`);
}

async function main() {
  const socket = await open();
  await echo(socket);
  await fragmentsAndPings(socket);
  socket.close(1000);
  const [code] = await once(socket, 'close');
  assert.strictEqual(code, 1000);
  for (const code of [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]) {
    await close(code, 'κόσμε');
  }
  await close(undefined, undefined);
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
