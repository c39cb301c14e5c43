// Tests the console's modules that need no browser: node --test console.mjs
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

// load imports a module of the console, which imports no other one.
async function load(name) {
  const source = await readFile(new URL("../../internal/console/" + name, import.meta.url), "utf8");
  return import("data:text/javascript," + encodeURIComponent(source));
}

test("hexadecimal", async () => {
  const { parseHex } = await load("hex.js");
  assert.deepEqual(parseHex(" 00fF 7f:80,\n0a\t"), Uint8Array.of(0, 255, 127, 128, 10));
  assert.deepEqual(parseHex(""), Uint8Array.of());
  assert.throws(() => parseHex("0"), /Incomplete byte at the end/);
  assert.throws(() => parseHex("000"), /Incomplete byte at the end/);
  assert.throws(() => parseHex("0 0"), /Incomplete byte at character 1/);
  assert.throws(() => parseHex("0x00"), /“x” at character 2 /);
});

test("round trips", async () => {
  const { Trips } = await load("trips.js");
  const trips = new Trips(100);
  assert.equal(trips.percentiles(50), undefined);
  assert.deepEqual(trips.last(3), []);
  trips.add(7);
  assert.deepEqual(trips.percentiles(0, 50, 99, 100), [7, 7, 7, 7]);
  for (let i = 100; i >= 1; i--) trips.add(i);
  assert.deepEqual(trips.percentiles(1, 50, 99, 100), [1, 50, 99, 100], "of the last 100");
  assert.deepEqual(trips.last(3), [3, 2, 1]);
  assert.equal(trips.last(1000).length, 100);
  assert.equal(trips.count, 101);
  assert.equal(trips.max, 100);
});

test("sizes, times and payloads", async () => {
  const { size, time, preview, shellWord } = await load("format.js");
  assert.deepEqual([0, 1023, 1024, 1536, 1 << 20, 3 * 2 ** 30].map(size), ["0 B", "1023 B", "1 KiB", "1.5 KiB", "1 MiB", "3 GiB"]);
  assert.deepEqual([0.005, 0.34, 1.254, 12.34, 340.4, 1500].map(time), ["5 µs", "340 µs", "1.25 ms", "12.3 ms", "340 ms", "1.50 s"]);
  assert.deepEqual(["ws://[::1]:8080/", "ws://a.example:8080/b%20c", "ws://a/b?c&d", "ws://a/it's"].map(shellWord),
    ["'ws://[::1]:8080/'", "ws://a.example:8080/b%20c", "'ws://a/b?c&d'", "'ws://a/it'\\''s'"]);
  assert.equal(preview("a\n\0\x7fü"), "a␊␀␡ü");
  assert.equal(preview("x".repeat(121)), "x".repeat(120) + " …");
  assert.equal(preview(Uint8Array.of(0, 255)), "00 ff");
  assert.equal(preview(new Uint8Array(41)).length, 40 * 3 - 1 + 2);
});

test("comparison of messages", async () => {
  const { bytesIn, isSame } = await load("session.js");
  assert.equal(bytesIn("ü€"), 5);
  assert.equal(bytesIn(new Uint8Array(5)), 5);
  assert.ok(isSame("a", "a") && isSame(Uint8Array.of(1, 2), Uint8Array.of(1, 2)));
  assert.ok(!isSame("a", "b") && !isSame("", new Uint8Array(0)) && !isSame(Uint8Array.of(1), Uint8Array.of(1, 2)) && !isSame(Uint8Array.of(1, 2), Uint8Array.of(1, 3)));
});

// A socket is the part of WebSocket that a session uses, without a server.
class Socket {
  static OPEN = 1;
  readyState = Socket.OPEN;
  send() {}
}

test("echoes are matched in order", async (t) => {
  const { Session } = await load("session.js");
  globalThis.WebSocket = Socket;
  let now = 0;
  t.mock.method(performance, "now", () => now);
  const echoes = [];
  const session = new Session("ws://localhost", [], { open() {}, close() {}, echo: (echo) => echoes.push(echo) });
  const receive = (data, at) => session.receive(data, at) ?? echoes.pop();
  const bytes = (...values) => Uint8Array.from(values).buffer;

  assert.deepEqual(receive("welcome", 1), { data: "welcome" }, "nothing was sent");
  session.send("a");
  now = 10;
  session.send(Uint8Array.of(1, 2));
  session.send("c");
  session.send("d");
  assert.deepEqual(receive("a", 12), { data: "a", trip: 12, equal: true });
  assert.deepEqual(receive(bytes(1, 2), 13), { data: Uint8Array.of(1, 2), trip: 3, equal: true });
  assert.deepEqual(receive("C", 14), { data: "C", trip: 4, equal: false });
  assert.deepEqual(receive(bytes(100), 15), { data: Uint8Array.of(100), trip: 5, equal: false }, "binary, but sent as text");
  assert.deepEqual(receive("d", 16), { data: "d" }, "all have been answered");
  assert.equal(session.waiting.size, 0);
});

// repetition returns a Repeat that sends to a list, and functions that let time pass.
async function repetition(t, times, interval) {
  const { Repeat } = await load("repeat.js");
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const state = { sent: [], done: 0, now: 0, blocked: false };
  t.mock.method(performance, "now", () => state.now);
  state.repeat = new Repeat(() => !state.blocked && state.sent.push(state.now) > 0, times, interval, () => state.done++);
  state.passes = (ms) => {
    state.now += ms;
    t.mock.timers.tick(ms);
  };
  return state;
}

test("a message is repeated after each echo", async (t) => {
  const s = await repetition(t, 3, 0);
  s.repeat.start();
  s.passes(1000);
  assert.deepEqual(s.sent, [0], "no echo has arrived");
  s.repeat.echoed();
  assert.equal(s.done, 0);
  s.repeat.echoed();
  assert.deepEqual([s.sent, s.done], [[0, 1000, 1000], 1]);
  s.repeat.echoed(); // of the last message
  assert.deepEqual([s.sent.length, s.done], [3, 1]);
});

test("a message is repeated at an interval", async (t) => {
  const s = await repetition(t, 4, 10);
  s.repeat.start();
  s.repeat.echoed(); // does not matter
  for (let i = 0; i < 20; i++) s.passes(5);
  assert.deepEqual([s.sent, s.done], [[0, 10, 20, 30], 1]);
});

test("late messages are sent at once, but only a few", async (t) => {
  const s = await repetition(t, 0, 1);
  s.repeat.start();
  s.now = 5;
  s.repeat.advance();
  assert.deepEqual(s.sent, [0, 5, 5, 5, 5, 5], "those of 1 to 5 ms");
  s.sent = [];
  s.now = 1000;
  s.repeat.advance();
  assert.equal(s.sent.length, 20);
  assert.ok(s.repeat.due >= 1000, "the others are not sent later");
});

test("a message waits while it cannot be sent, until stopped", async (t) => {
  const s = await repetition(t, 2, 10);
  s.repeat.start();
  s.blocked = true;
  s.passes(10);
  s.passes(10);
  assert.deepEqual([s.sent, s.done], [[0], 0]);
  s.repeat.stop();
  s.blocked = false;
  s.passes(100);
  s.repeat.echoed();
  assert.deepEqual([s.sent, s.done], [[0], 1]);
});

test("end of the vertical axis", async () => {
  const source = await readFile(new URL("../../internal/console/chart.js", import.meta.url), "utf8");
  const { top } = await import("data:text/javascript," + encodeURIComponent(source.replace(/^import .*$/m, "")));
  assert.deepEqual([0.1, 0.11, 0.3, 0.7, 1, 1.5, 2.5, 49, 51].map(top).map((n) => +n.toPrecision(3)), [0.1, 0.2, 0.5, 1, 1, 2, 5, 50, 100]);
});
