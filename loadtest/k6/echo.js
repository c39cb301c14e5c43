// What the scripts share: their environment, the sockets with their checks and
// metrics, the pace, the thresholds. ../../docs/k6.md explains them to users.
//
// A VU is one JavaScript thread, which all events of all its sockets go
// through: nothing here may block, and sleep() would stop them all. A socket cannot
// outlive the iteration that opened it: an iteration ends when its sockets have.

import { check } from 'k6';
import crypto from 'k6/crypto';
import encoding from 'k6/encoding';
import exec from 'k6/execution';
import { Counter, Trend } from 'k6/metrics';
import { WebSocket } from 'k6/websockets';

// ---- environment

// variable is an environment variable, read by parse, which returns undefined
// for what it does not understand.
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

// duration is in milliseconds.
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
  return variable(name, byDefault, parse, `bytes a message, or a list such as 0,125,65536; each at most ${largestPayload}`);
}

const kindsOfMessage = { both: ['text', 'binary'], text: ['text'], binary: ['binary'] };

// greetings is how many messages the server sends before the first echo; true is one.
function greetings(name) {
  const words = { true: 1, false: 0 };
  const parse = (s) => (s in words ? words[s] : /^\d{1,3}$/.test(s) ? Number(s) : undefined);
  return variable(name, 0, parse, 'how many messages the server sends first: a whole number below 1000, true or false');
}

// settings reads what every script understands; the arguments are its own defaults.
export function settings({ vus, sockets, time, payload = 128, opening = 500, p99 = 250 }) {
  return {
    url: variable('WS_URL', 'ws://127.0.0.1:8080/', (s) => (/^wss?:\/\/[^#]+$/.test(s) ? s : undefined), 'ws://… or wss://…, without a fragment'),
    vus: whole('VUS', vus),
    sockets: whole('SOCKETS_PER_VU', sockets),
    time: duration('DURATION', time),
    sizes: sizes('PAYLOAD', payload),
    types: variable('TYPE', 'both', (s) => kindsOfMessage[s], 'both, text or binary'),
    opening: positive('OPEN_RATE', opening), // sockets a second, of all VUs together
    timeout: duration('TIMEOUT', '10s'),
    greetings: greetings('GREETING'),
    p99: positive('RTT_P99', p99), // milliseconds
  };
}

// ---- metrics

const rtt = new Trend('ws_echo_rtt', true);
const late = new Trend('ws_send_late', true);
const opened = new Counter('ws_opened');
const echoes = new Counter('ws_echoes'); // that were right
const completed = new Counter('ws_completed'); // opened, every echo right, closed with 1000
const errors = new Counter('ws_errors');

// As wsload calls them. Its kind protocol is missing: k6 ends such a connection and does not say why, so it is among cut.
const errorKinds = ['connect', 'handshake', 'mismatch', 'unasked', 'closed', 'cut', 'timeout', 'teardown'];

const abort = (threshold) => [{ threshold, abortOnFail: true }];

// thresholds of every script. A threshold on ws_errors by kind aborts nothing that
// the one on all of them does not: it is there for the reports to name the kind.
export function thresholds(set, more = {}) {
  const all = {
    checks: abort('rate==1'),
    ws_errors: abort('count==0'),
    ws_echo_rtt: abort(`p(99)<${set.p99}`),
    ws_echoes: ['count>0'], // else a run that did nothing would pass
    ws_completed: ['count>0'],
  };
  for (const kind of errorKinds) {
    all[`ws_errors{kind:${kind}}`] = ['count==0'];
  }
  return Object.assign(all, more);
}

// common are the options that all scripts have.
export const common = {
  summaryTrendStats: ['count', 'min', 'avg', 'p(50)', 'p(90)', 'p(99)', 'p(99.9)', 'max'],
};

// clock is in milliseconds with a fraction: Date.now() has none, an echo on this machine takes
// less than one, and there is no performance.now(). To get at exec.instance costs much more than to ask it.
let instance;
function clock() {
  instance = instance || exec.instance;
  return instance.currentTestRunDuration;
}

// ---- messages

let messages = 0; // made by this VU
const fillings = {}; // by type and size

// Each message begins with a number that no other message of the run has (if
// it is long enough for it), so that one echoed twice, late, or to another socket is a mismatch.
function message(set) {
  const n = messages++;
  const type = set.types[n % set.types.length];
  const size = set.sizes[Math.floor(n / set.types.length) % set.sizes.length]; // every size in every type
  const data = (type === 'text' ? text : binary)(size, exec.vu.idInTest * 1e9 + n);
  return { type, data, at: 0 };
}

const stampLength = 16;
const characters = 'aé€😀'; // of one to four bytes in UTF-8, ten together

function text(size, number) {
  const stamp = String(number).padStart(stampLength, '0').slice(-size || stampLength + 1); // the digits that change most
  const rest = size - stamp.length;
  const filling = (fillings[`t${size}`] = fillings[`t${size}`] || '.'.repeat(rest % 10) + characters.repeat(rest / 10));
  return stamp + filling;
}

// A buffer of its own for each message: k6 sends it later, from where it is.
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

// same compares every byte. Base64 because k6 does that in Go: a loop over 64 KiB
// in JavaScript takes 35 times as long.
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

const told = {}; // kinds of errors that this VU has logged one of

// EchoSocket is a socket with what it awaits. Its first error costs it.
class EchoSocket {
  constructor(set) {
    this.timeout = set.timeout;
    this.awaited = []; // messages sent and not yet back, in order
    this.pings = 0; // not yet answered
    this.greetings = set.greetings; // not yet received
    this.greetingTimer = null;
    this.isOpen = false;
    this.closing = false; // by us, because all is done
    this.failed = false;
    this.cause = '';
    this.opened = new Promise((resolve) => (this.hasOpened = resolve)); // or has failed to
    this.ended = new Promise((resolve) => (this.hasEnded = resolve));

    const ws = new WebSocket(set.url);
    ws.binaryType = 'arraybuffer'; // else a Blob, whose bytes come by promise
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
      this.fail('timeout', `no greeting for ${this.timeout} ms, and GREETING expects one`);
    }, this.timeout);
  }

  send(m, tags) {
    m.tags = tags;
    m.at = clock();
    this.awaited.push(m);
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
        clearTimeout(this.greetingTimer); // or the iteration would last as long as it
        this.hasOpened();
      }
      return;
    }
    const m = this.awaited.shift();
    if (!m) {
      this.fail('unasked', `${describe(data)} when nothing was awaited; if the server sends a greeting first, set GREETING=1`);
      return;
    }
    if (check(same(m.data, data), { [checkEcho[m.type]]: (ok) => ok })) {
      rtt.add(now - m.at, m.tags);
      echoes.add(1);
    } else {
      this.fail('mismatch', `sent ${describe(m.data)}, got ${describe(data)} that differs`);
    }
  }

  // isIdle says whether nothing is awaited, and fails a socket that has waited for too long.
  isIdle() {
    if (this.failed) {
      return true;
    }
    if (this.awaited.length > 0 && clock() - this.awaited[0].at > this.timeout) {
      this.fail('timeout', `no echo for ${this.timeout} ms, ${this.awaited.length} awaited`);
    }
    return this.failed || (this.awaited.length === 0 && this.pings <= 0);
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
      const kind = code && code !== 1006 ? 'closed' : 'cut'; // 1006 is no frame's, but k6's own word
      this.fail(kind, this.cause || (code ? `with ${code}` : 'k6 does not say why: a reset, or a frame against RFC 6455'));
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
    this.awaited = [];
    clearTimeout(this.greetingTimer);
    errors.add(1, { kind });
    if (!told[kind]) {
      told[kind] = true;
      console.error(`${kind}: ${detail} (VU ${exec.vu.idInTest}; further ones of this kind are counted only)`);
    }
    if (this.isOpen) {
      this.ws.close(3000, kind);
    }
    this.hasOpened(); // to be waited for no longer
  }
}

// ---- what a VU does

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// paced calls act(n, howLate) at n / perSecond seconds from now, until the time is
// over. What is due while the VU is busy is made up for: when a call is due depends on
// nothing but n.
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

// open opens the VU's sockets, of those of all VUs in turn so many a second, and waits until each
// is open or has failed.
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

// finish waits for what is awaited, closes the sockets, and waits for that.
async function finish(sockets) {
  while (!sockets.map((s) => s.isIdle()).every((idle) => idle)) {
    await pause(10);
  }
  sockets.forEach((s) => s.close());
  await Promise.all(sockets.map((s) => s.ended));
}

// openingTime is how long it takes to open all sockets, in milliseconds.
export const openingTime = (set) => ((set.vus * set.sockets) / set.opening) * 1000;

// holding is a scenario whose VUs hold their sockets for some time, in one iteration
// each: it calls the exported function exec, which should call hold.
export function holding(set, exec, startTime = 0) {
  return {
    executor: 'per-vu-iterations',
    exec,
    vus: set.vus,
    iterations: 1,
    startTime: `${Math.round(startTime)}ms`,
    maxDuration: `${Math.ceil(openingTime(set) + set.time + 60e3 + 2 * set.timeout)}ms`, // 60 s are k6's for a handshake
  };
}

// hold opens the VU's sockets, sends messages on them in turn, rate a second on each, and closes them.
// tagsNow, if any, is asked for the tags of each round trip.
export async function hold(set, { rate, ping = 0, tagsNow = () => undefined }) {
  const sockets = await open(set, set.sockets, set.vus, set.opening);
  const eachInTurn = (act) => (n, howLate) => {
    const s = sockets[n % sockets.length];
    if (s.isOpen && !s.failed) {
      act(s, howLate);
    }
  };
  const work = [
    paced(rate * sockets.length, set.time, eachInTurn((s, howLate) => {
      late.add(howLate);
      s.send(message(set), tagsNow());
    })),
    paced(1, set.time, () => sockets.forEach((s) => s.isIdle())), // for its timeouts
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

// thirds cuts the time that sockets are held into three of the given names, and tags round trips with them.
export function thirds(set, names) {
  const from = openingTime(set);
  const tags = names.map((phase) => ({ phase }));
  return () => tags[Math.max(0, Math.min(2, Math.floor(((clock() - from) / set.time) * 3)))];
}

export { abort };
