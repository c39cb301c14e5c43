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
  const { size, time, preview } = await load("format.js");
  assert.deepEqual([0, 1023, 1024, 1536, 1 << 20, 3 * 2 ** 30].map(size), ["0 B", "1023 B", "1 KiB", "1.5 KiB", "1 MiB", "3 GiB"]);
  assert.deepEqual([0.005, 0.34, 1.254, 12.34, 340.4, 1500].map(time), ["5 µs", "340 µs", "1.25 ms", "12.3 ms", "340 ms", "1.50 s"]);
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

test("end of the vertical axis", async () => {
  const source = await readFile(new URL("../../internal/console/chart.js", import.meta.url), "utf8");
  const { top } = await import("data:text/javascript," + encodeURIComponent(source.replace(/^import .*$/m, "")));
  assert.deepEqual([0.1, 0.11, 0.3, 0.7, 1, 1.5, 2.5, 49, 51].map(top).map((n) => +n.toPrecision(3)), [0.1, 0.2, 0.5, 1, 1, 2, 5, 50, 100]);
});
