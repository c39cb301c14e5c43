// Echoes with npm's ws: node server.js -addr 127.0.0.1:9001
//
// Source: "Opt-in for performance" in the README of ws, which advises the native addon bufferutil (it unmasks) and, on node
// since 18.14, no other: text is validated by node itself, which is the default. permessage-deflate is off, which
// is the default too. Messages may have 100 MiB. The set of clients is not kept, as nothing asks for it.
"use strict";

const { WebSocketServer } = require("ws");

if (process.argv.length !== 4 || process.argv[2] !== "-addr") {
  console.error("usage: node server.js -addr host:port");
  process.exit(2);
}
const [host, port] = process.argv[3].split(":");

const server = new WebSocketServer({ host, port: Number(port), backlog: 4096, clientTracking: false });
server.on("connection", (socket) => {
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on("error", () => {}); // the connection has ended, and that is all
});
server.on("error", (error) => {
  console.error(String(error));
  process.exit(1);
});
