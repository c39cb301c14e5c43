// Code that the scripts share: environment variables, sockets with their checks and metrics,
// pacing, and thresholds. ../../docs/k6.md is the documentation for users.
//
// A VU is one JavaScript thread that handles all events of all its sockets. Nothing here may block:
// sleep() would stop all sockets of the VU. A socket cannot outlive the iteration that opened it,
// since an iteration ends only when its sockets have ended.

import { check } from 'k6';
import crypto from 'k6/crypto';
import encoding from 'k6/encoding';
import exec from 'k6/execution';
import { Counter, Trend } from 'k6/metrics';
import { WebSocket } from 'k6/websockets';

// ---- environment

// variable returns the value of an environment variable, or the default if it is not set. parse
// returns undefined for an invalid value.
function variable(name, byDefault, parse, wanted) {
  const given = __ENV[name] || String(byDefault);
  const value = parse(given);
  if (value === undefined) {
    throw new Error(`${name}=${given}: want ${wanted}`);
  }
  return value;
}

const decimal = (s) => (/^\d+(\.\d+)?$/.test(s) ? Number(s) : undefined);

export function whole(name, byDefault, least = 1) {
  const parse = (s) => (/^\d+$/.test(s) && Number(s) >= least ? Number(s) : undefined);
  return variable(name, byDefault, parse, `a whole number, at least ${least}`);
}

export function positive(name, byDefault) {
  return variable(name, byDefault, (s) => (decimal(s) > 0 ? Number(s) : undefined), 'a number above 0');
}

const unitMs = { ms: 1, s: 1000, m: 60e3, h: 3600e3 };

// duration returns a time in milliseconds.
export function duration(name, byDefault) {
  const parse = (s) => {
    const parts = s.match(/\d+(\.\d+)?(ms|s|m|h)/g);
    if (!parts || parts.join('') !== s) return undefined;
    const ms = parts.reduce((sum, part) => sum + parseFloat(part) * unitMs[part.replace(/[\d.]/g, '')], 0);
    return ms > 0 ? ms : undefined;
  };
  return variable(name, byDefault, parse, 'a time above 0, such as 500ms, 10s or 1h30m');
}

const largestPayload = 16 << 20;

function sizes(name, byDefault) {
  const parse = (s) => {
    const list = s.split(',').map((size) => (/^\d+$/.test(size) ? Number(size) : -1));
    return list.every((size) => size >= 0 && size <= largestPayload) ? list : undefined;
  };
  return variable(name, byDefault, parse, `bytes per message, or a list such as 0,125,65536; each at most ${largestPayload}`);
}

const kindsOfMessage = { both: ['text', 'binary'], text: ['text'], binary: ['binary'] };

// greetings returns the number of messages that the server sends before the first echo; true means
// 1.
function greetings(name) {
  const words = { true: 1, false: 0 };
  const parse = (s) => (s in words ? words[s] : /^\d{1,3}$/.test(s) ? Number(s) : undefined);
  return variable(name, 0, parse, 'the number of messages that the server sends first: a whole number below 1000, true or false');
}

// settings returns the values of the variables that all scripts have. The arguments are the
// script's defaults.
export function settings({ vus, sockets, time, payload = 128, opening = 500, p99 = 250 }) {
  return {
    url: variable('WS_URL', 'ws://127.0.0.1:8080/', (s) => (/^wss?:\/\/[^#]+$/.test(s) ? s : undefined), 'ws://… or wss://…, without a fragment'),
    vus: whole('VUS', vus),
    sockets: whole('SOCKETS_PER_VU', sockets),
    time: duration('DURATION', time),
    sizes: sizes('PAYLOAD', payload),
    types: variable('TYPE', 'both', (s) => kindsOfMessage[s], 'both, text or binary'),
    opening: positive('OPEN_RATE', opening), // sockets per second, of all VUs together
    timeout: duration('TIMEOUT', '10s'),
    greetings: greetings('GREETING'),
    p99: positive('RTT_P99', p99), // milliseconds
  };
}

// ---- metrics

const rtt = new Trend('ws_echo_rtt', true);
const late = new Trend('ws_send_late', true);
const opened = new Counter('ws_opened');
const echoes = new Counter('ws_echoes'); // correct echoes
const completed = new Counter('ws_completed'); // sockets opened, with correct echoes only, and closed with 1000
const errors = new Counter('ws_errors');

// The kinds have wsload's names. wsload's kind protocol is counted as cut: k6 ends a connection
// that violates RFC 6455 without giving the reason.
const errorKinds = ['connect', 'handshake', 'mismatch', 'unasked', 'closed', 'cut', 'timeout', 'teardown'];

const abort = (threshold) => [{ threshold, abortOnFail: true }];

// thresholds returns the thresholds of a script. Those on ws_errors by kind do not abort the run;
// they make k6 report the count of each kind.
export function thresholds(set, more = {}) {
  const all = {
    checks: abort('rate==1'),
    ws_errors: abort('count==0'),
    ws_echo_rtt: abort(`p(99)<${set.p99}`),
    ws_echoes: ['count>0'], // otherwise a run that echoed nothing would pass
    ws_completed: ['count>0'],
  };
  for (const kind of errorKinds) {
    all[`ws_errors{kind:${kind}}`] = ['count==0'];
  }
  return Object.assign(all, more);
}

// common holds the options of all scripts.
export const common = {
  summaryTrendStats: ['count', 'min', 'avg', 'p(50)', 'p(90)', 'p(99)', 'p(99.9)', 'max'],
};

// clock returns the time since the start of the run in milliseconds, with a fraction. An echo on
// the same machine takes less than 1 ms, Date.now() has no fraction, and k6 has no
// performance.now(). instance is kept because getting exec.instance is much slower than reading the
// time from it.
let instance;
function clock() {
  instance = instance || exec.instance;
  return instance.currentTestRunDuration;
}

// ---- messages

let messages = 0; // number of messages made by this VU
const fillings = {}; // payloads without their number, by type and size

// message returns the next message. It begins with a number that is unique in the run, if it is
// long enough. An echo that is duplicated, late, or sent to another socket is therefore a mismatch.
function message(set) {
  const n = messages++;
  const type = set.types[n % set.types.length];
  const size = set.sizes[Math.floor(n / set.types.length) % set.sizes.length]; // every size in every type
  const data = (type === 'text' ? text : binary)(size, exec.vu.idInTest * 1e9 + n);
  return { type, data, at: 0 };
}

const stampLength = 16;
const characters = 'aé€😀'; // one to four bytes each in UTF-8, 10 bytes together

function text(size, number) {
  const stamp = String(number).padStart(stampLength, '0').slice(-size || stampLength + 1); // the last digits, which change most often
  const rest = size - stamp.length;
  const filling = (fillings[`t${size}`] = fillings[`t${size}`] || '.'.repeat(rest % 10) + characters.repeat(rest / 10));
  return stamp + filling;
}

// binary returns a new buffer for each message, because k6 sends it later without copying it.
function binary(size, number) {
  fillings[size] = fillings[size] || (size > 0 ? crypto.randomBytes(size) : new ArrayBuffer(0));
  const data = fillings[size].slice(0);
  const bytes = new Uint8Array(data);
  for (let i = 0; i < Math.min(size, 8); i++) {
    bytes[i] = number % 256;
    number = Math.floor(number / 256);
  }
  return data;
}

// same reports whether two messages have the same type and bytes. It compares base64, because k6
// encodes that in Go: a JavaScript loop over 64 KiB takes 35 times as long.
function same(sent, received) {
  if (typeof sent === 'string') {
    return sent === received;
  }
  return received instanceof ArrayBuffer && sent.byteLength === received.byteLength && encoding.b64encode(sent) === encoding.b64encode(received);
}

function describe(data) {
  return typeof data === 'string' ? `text of ${data.length} UTF-16 units` : `binary of ${data.byteLength} bytes`;
}

// ---- sockets

const checkOpen = 'handshake: 101';
const checkClose = 'close: answered with 1000';
const checkEcho = { text: 'echo: text equal', binary: 'echo: binary equal' };

const logged = {}; // kinds of errors of which this VU has logged one

// EchoSocket is a socket with its outstanding messages. Its first error closes it.
class EchoSocket {
  constructor(set) {
    this.timeout = set.timeout;
    this.outstanding = []; // messages sent and not yet echoed, in order
    this.pings = 0; // pings without a pong
    this.greetings = set.greetings; // greetings not yet received
    this.greetingTimer = null;
    this.isOpen = false;
    this.closing = false; // close() was called
    this.failed = false;
    this.cause = '';
    this.opened = new Promise((resolve) => (this.hasOpened = resolve)); // resolved when the socket is open or has failed
    this.ended = new Promise((resolve) => (this.hasEnded = resolve)); // resolved when it has closed

    const ws = new WebSocket(set.url);
    ws.binaryType = 'arraybuffer'; // the default, Blob, returns its bytes as a promise
    ws.onopen = () => this.onOpen();
    ws.onmessage = (event) => this.onMessage(event.data);
    ws.onpong = () => this.pings--;
    ws.onerror = (event) => (this.cause = event.error);
    ws.onclose = (event) => this.onClose(event.code);
    this.ws = ws;
  }

  onOpen() {
    this.isOpen = true;
    opened.add(1);
    check(true, { [checkOpen]: (ok) => ok });
    if (this.greetings === 0) {
      this.hasOpened();
      return;
    }
    this.greetingTimer = setTimeout(() => {
      this.fail('timeout', `no greeting for ${this.timeout} ms, but GREETING expects one`);
    }, this.timeout);
  }

  send(m, tags) {
    m.tags = tags;
    m.at = clock();
    this.outstanding.push(m);
    this.ws.send(m.data);
  }

  ping() {
    this.pings++;
    this.ws.ping();
  }

  onMessage(data) {
    const now = clock();
    if (this.failed) {
      return;
    }
    if (this.greetings > 0) {
      if (--this.greetings === 0) {
        clearTimeout(this.greetingTimer); // otherwise it would prolong the iteration
        this.hasOpened();
      }
      return;
    }
    const m = this.outstanding.shift();
    if (!m) {
      this.fail('unasked', `${describe(data)} when no echo was expected; if the server sends a greeting first, set GREETING=1`);
      return;
    }
    if (check(same(m.data, data), { [checkEcho[m.type]]: (ok) => ok })) {
      rtt.add(now - m.at, m.tags);
      echoes.add(1);
    } else {
      this.fail('mismatch', `sent ${describe(m.data)}, got a different ${describe(data)}`);
    }
  }

  // isIdle reports whether nothing is outstanding. It fails a socket that has exceeded its timeout.
  isIdle() {
    if (this.failed) {
      return true;
    }
    if (this.outstanding.length > 0 && clock() - this.outstanding[0].at > this.timeout) {
      this.fail('timeout', `no echo for ${this.timeout} ms, ${this.outstanding.length} outstanding`);
    }
    return this.failed || (this.outstanding.length === 0 && this.pings <= 0);
  }

  close() {
    if (this.isOpen && !this.failed) {
      this.closing = true;
      this.ws.close(1000);
    }
  }

  onClose(code) {
    if (!this.isOpen) {
      check(false, { [checkOpen]: (ok) => ok });
      this.fail(/bad handshake/.test(this.cause) ? 'handshake' : 'connect', this.cause);
    } else if (this.closing) {
      if (check(code === 1000, { [checkClose]: (ok) => ok })) {
        completed.add(1);
      } else {
        this.fail('teardown', this.cause || `closed with ${code}`);
      }
    } else {
      const kind = code && code !== 1006 ? 'closed' : 'cut'; // 1006: k6 received no close frame
      this.fail(kind, this.cause || (code ? `closed with ${code}` : 'k6 gives no reason: a reset, or a frame that violates RFC 6455'));
    }
    this.isOpen = false;
    this.hasOpened();
    this.hasEnded();
  }

  fail(kind, detail) {
    if (this.failed) {
      return;
    }
    this.failed = true;
    this.outstanding = [];
    clearTimeout(this.greetingTimer);
    errors.add(1, { kind });
    if (!logged[kind]) {
      logged[kind] = true;
      console.error(`${kind}: ${detail} (VU ${exec.vu.idInTest}; further errors of this kind are only counted)`);
    }
    if (this.isOpen) {
      this.ws.close(3000, kind);
    }
    this.hasOpened(); // ends the wait for it to open
  }
}

// ---- work of a VU

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// paced calls act(n, delay) n / perSecond seconds from now, for n = 0, 1, 2, … until the time is
// over. delay is how late the call is, in milliseconds. When a call is due depends only on n, so
// calls that become due while the VU is busy are made afterwards.
function paced(perSecond, time, act) {
  const start = clock();
  const due = (n) => start + (n * 1000) / perSecond;
  return new Promise((resolve, reject) => {
    let n = 0;
    const turn = () => {
      try {
        const now = clock();
        for (; due(n) <= now && due(n) < start + time; n++) {
          act(n, clock() - due(n));
        }
        if (due(n) < start + time) {
          setTimeout(turn, Math.max(1, due(n) - clock()));
        } else {
          setTimeout(resolve, Math.max(1, start + time - clock()));
        }
      } catch (e) {
        reject(e);
      }
    };
    turn();
  });
}

// open opens count sockets of this VU and waits until each is open or has failed. All VUs take
// turns and together open perSecond sockets per second.
async function open(set, count, vus, perSecond) {
  const sockets = [];
  const index = exec.scenario.iterationInTest % vus;
  await pause((index / perSecond) * 1000);
  await paced(perSecond / vus, (count * 1000 * vus) / perSecond - 0.001, () => {
    if (sockets.length < count) sockets.push(new EchoSocket(set));
  });
  await Promise.all(sockets.map((s) => s.opened));
  return sockets;
}

// finish waits for outstanding echoes and pongs, closes the sockets, and waits until they have
// closed.
async function finish(sockets) {
  while (!sockets.map((s) => s.isIdle()).every((idle) => idle)) {
    await pause(10);
  }
  sockets.forEach((s) => s.close());
  await Promise.all(sockets.map((s) => s.ended));
}

// openingTime returns the time in milliseconds for opening all sockets.
export const openingTime = (set) => ((set.vus * set.sockets) / set.opening) * 1000;

// holding returns a scenario whose VUs hold their sockets in one iteration each. exec is the name
// of the script's exported function, which has to call hold.
export function holding(set, exec, startTime = 0) {
  return {
    executor: 'per-vu-iterations',
    exec,
    vus: set.vus,
    iterations: 1,
    startTime: `${Math.round(startTime)}ms`,
    maxDuration: `${Math.ceil(openingTime(set) + set.time + 60e3 + 2 * set.timeout)}ms`, // k6's handshake timeout is 60 s
  };
}

// hold opens the VU's sockets, sends rate messages per second on each of them in turn, and closes
// them. ping is the interval of pings in milliseconds; 0 means none. tagsNow returns the tags of a
// round trip.
export async function hold(set, { rate, ping = 0, tagsNow = () => undefined }) {
  const sockets = await open(set, set.sockets, set.vus, set.opening);
  const eachInTurn = (act) => (n, delay) => {
    const s = sockets[n % sockets.length];
    if (s.isOpen && !s.failed) {
      act(s, delay);
    }
  };
  const work = [
    paced(rate * sockets.length, set.time, eachInTurn((s, delay) => {
      late.add(delay);
      s.send(message(set), tagsNow());
    })),
    paced(1, set.time, () => sockets.forEach((s) => s.isIdle())), // detects timeouts
  ];
  if (ping > 0) {
    work.push(paced((sockets.length * 1000) / ping, set.time, eachInTurn((s) => s.ping())));
  }
  await Promise.all(work);
  await finish(sockets);
}

// visit opens the VU's sockets at once, echoes one message of each type on each, and closes them.
export async function visit(set) {
  const sockets = [];
  for (let i = 0; i < set.sockets; i++) {
    sockets.push(new EchoSocket(set));
  }
  await Promise.all(sockets.map((s) => s.opened));
  for (const s of sockets.filter((s) => s.isOpen && !s.failed)) {
    set.types.forEach(() => s.send(message(set)));
  }
  await finish(sockets);
}

// thirds divides the time for which sockets are held into three phases with the given names. It
// returns a function that returns the tag of the current phase.
export function thirds(set, names) {
  const from = openingTime(set);
  const tags = names.map((phase) => ({ phase }));
  return () => tags[Math.max(0, Math.min(2, Math.floor(((clock() - from) / set.time) * 3)))];
}

export { abort };
