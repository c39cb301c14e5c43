// Echoes with the npm package ws: node server.js -addr 127.0.0.1:9001
//
// Source: "Opt-in for performance" in the README of ws, which advises the native addon bufferutil
// (for unmasking). Since node 18.14 no other addon is needed, because node itself validates text.
// Validation is on and permessage-deflate is off, both by default. A message may have at most 100
// MiB. The server does not track its clients, since nothing uses the list.
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
  socket.on("error", () => {}); // ws closes the connection after an error
});
server.on("error", (error) => {
  console.error(String(error));
  process.exit(1);
});
