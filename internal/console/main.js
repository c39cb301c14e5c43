import { drawChart } from "./chart.js";
import { preview, shellWord, size, time } from "./format.js";
import { parseHex } from "./hex.js";
import { List } from "./list.js";
import { Repeat } from "./repeat.js";
import { Session, bytesIn } from "./session.js";
import { Trips } from "./trips.js";

// More bytes than this in the browser's buffer delay the next message.
const mostUnsent = 8 << 20;

const $ = (id) => document.getElementById(id);
const list = new List($("messages"));
let session, repeat;
let trips, counts;

function reset() {
  trips = new Trips();
  counts = { sent: 0, received: 0, unequal: 0 };
  list.clear();
  redraw();
}

// redraw draws the figures, the list and the chart soon: ten times per second, since the echoes that
// arrive while the browser draws would seem slower than they are.
let pending = false;
function redraw() {
  if (pending) return;
  pending = true;
  setTimeout(() => requestAnimationFrame(() => {
    pending = false;
    draw();
  }), 100);
}

let described = 0;
function draw() {
  const [p50, p99] = trips.percentiles(50, 99)?.map(time) ?? ["–", "–"];
  const max = trips.count > 0 ? time(trips.max) : "–";
  const texts = { echoes: trips.count, unequal: counts.unequal, p50, p99, max, counts: counts.sent + " sent, " + counts.received + " received" };
  for (const id in texts) $(id).textContent = texts[id];
  $("unequal").className = counts.unequal > 0 ? "alarm" : "";
  list.draw();
  drawChart($("chart"), trips);
  // A screen reader need not hear of every message.
  if (trips.count > 0 && (performance.now() - described > 1000 || !repeat)) {
    described = performance.now();
    $("chart").ariaLabel = "Chart of round trips: " + trips.count + " echoes, p50 " + p50 + ", p99 " + p99 + ", maximum " + max;
  }
}

function show(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = text;
}

function enable() {
  const open = session?.isOpen() ?? false;
  $("open").textContent = session ? "Reconnect" : "Connect";
  $("close-button").disabled = $("send-button").disabled = !open;
  $("stop").disabled = !repeat;
}

// fail shows an error of a form in place of its last one, and moves the focus to the field that
// causes it.
function fail(id, text, field) {
  $(id).textContent = text;
  for (const input of $(id).closest("form").elements) input.ariaInvalid = null;
  if (text && field) {
    $(field).ariaInvalid = "true";
    $(field).focus();
  }
  return false;
}

function wholeNumber(id, most) {
  const text = $(id).value.trim();
  return /^\d+$/.test(text) && Number(text) <= most ? Number(text) : NaN;
}

// Connection

function connect() {
  fail("connect-error", "");
  const url = $("url").value.trim();
  const protocols = $("protocols").value.split(",").map((p) => p.trim()).filter((p) => p);
  repeat?.stop();
  let next;
  try {
    next = new Session(url, protocols, {
      open: () => next === session && opened(),
      echo: (echo) => next === session && echoed(echo),
      close: (event, wasOpen) => next === session && closed(event, wasOpen),
    });
  } catch (e) {
    // Browsers explain errors of URLs and subprotocols well, but not errors of the connection.
    return fail("connect-error", e.message.replace(/^Failed to construct 'WebSocket': /, ""), /protocol/i.test(e.message) && !/scheme/i.test(e.message) ? "protocols" : "url");
  }
  session?.close(1000);
  session = next;
  reset();
  $("subprotocol").textContent = $("extensions").textContent = "–";
  show("connecting", "Connecting to " + url);
  enable();
}

function opened() {
  show("open", "Connected to " + session.socket.url);
  $("subprotocol").textContent = session.socket.protocol || "none";
  $("extensions").textContent = session.socket.extensions || "none";
  enable();
}

function closed(event, wasOpen) {
  session = undefined;
  repeat?.stop();
  enable();
  if (!wasOpen) {
    show("failed", "Connection failed");
    let why = "The connection failed before it was open. The server may be unreachable, or it may have refused the handshake: for example, this page's origin may not be in its -origins.";
    if (location.protocol === "https:" && event.target.url.startsWith("ws:")) why += " A page from https:// may connect to wss:// only.";
    return fail("connect-error", why + " Browsers do not tell which.");
  }
  redraw();
  if (event.code === 1006) return show("failed", "Connection lost (1006): no close frame arrived");
  const code = event.code === 1005 ? "without a code" : "with " + event.code;
  const reason = event.reason ? " “" + event.reason + "”" : "";
  const clean = event.wasClean ? "after a complete closing handshake" : "without a closing handshake";
  show(event.wasClean ? "closed" : "failed", "Closed " + code + reason + ", " + clean);
  list.add("↓ received", "close", size(event.reason || event.code !== 1005 ? 2 + bytesIn(event.reason) : 0), "", "", event.code + reason);
}

$("connect").onsubmit = (event) => {
  event.preventDefault();
  connect();
};

$("close").onsubmit = (event) => {
  event.preventDefault();
  fail("close-error", "");
  const code = wholeNumber("code", 4999);
  if (code !== 1000 && !(code >= 3000)) return fail("close-error", "A browser can close with 1000 and with 3000 to 4999.", "code");
  if (bytesIn($("reason").value) > 123) return fail("close-error", "The reason is longer than 123 bytes.", "reason");
  repeat?.stop();
  session.close(code, $("reason").value);
  list.add("↑ sent", "close", size(2 + bytesIn($("reason").value)), "", "", code + ($("reason").value && " “" + $("reason").value + "”"));
  show("closing", "Closing");
  $("close-button").disabled = $("send-button").disabled = true;
  redraw();
};

$("reason").oninput = () => ($("reason-size").textContent = bytesIn($("reason").value));

// Messages

function send(data, bytes) {
  if (!session?.isOpen() || session.unsent() > mostUnsent) return false;
  session.send(data);
  counts.sent++;
  list.add("↑ sent", typeof data === "string" ? "text" : "binary", size(bytes), "", "", preview(data));
  redraw();
  return true;
}

function echoed({ data, trip, equal }) {
  counts.received++;
  let verdict = ["not sent", "unequal"];
  if (trip !== undefined) {
    trips.add(trip);
    if (!equal) counts.unequal++;
    verdict = equal ? ["equal", "equal"] : ["differs", "unequal"];
  }
  list.add("↓ received", typeof data === "string" ? "text" : "binary", size(bytesIn(data)), trip === undefined ? "" : time(trip), verdict, preview(data));
  repeat?.echoed();
  redraw();
}

// message returns the message of the form, or undefined after it has shown an error.
async function message() {
  const kind = document.forms.send.elements.kind.value;
  if (kind === "text") return $("text").value;
  try {
    if (kind === "hex") return parseHex($("hex").value);
    const file = $("file").files[0];
    if (!file) throw new Error("Choose a file first.");
    const data = new Uint8Array(await file.arrayBuffer());
    if (!session?.isOpen()) throw new Error("The connection closed while the file was read.");
    return data;
  } catch (e) {
    fail("send-error", e.message, kind);
  }
}

async function start() {
  fail("send-error", "");
  const times = wholeNumber("times", 1e9);
  const interval = Number($("interval").value.trim() || NaN);
  if (Number.isNaN(times)) return fail("send-error", "Times is a whole number; 0: until stopped.", "times");
  if (!(interval >= 0 && interval <= 3600000)) return fail("send-error", "Every is a number of milliseconds, at most an hour.", "interval");
  const data = await message();
  if (data === undefined) return;
  repeatMessage(data, times, interval);
}

function repeatMessage(data, times, interval) {
  repeat?.stop();
  const bytes = bytesIn(data);
  repeat = new Repeat(() => send(data, bytes), times, interval, () => {
    repeat = undefined;
    enable();
    redraw();
  });
  enable();
  repeat.start();
}

$("send").onsubmit = (event) => {
  event.preventDefault();
  if (session?.isOpen()) start();
};
$("send").onchange = () => {
  for (const field of document.querySelectorAll("[data-kind]")) field.hidden = field.dataset.kind !== document.forms.send.elements.kind.value;
};
$("send").onkeydown = (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("send").requestSubmit();
};
$("stop").onclick = () => repeat?.stop();
$("clear").onclick = () => {
  reset();
  $("chart").ariaLabel = "Chart of round trips: no echo yet";
};

// A file that is dropped anywhere on the page becomes the next message.
// Text that is dragged into a field is left to the browser.
document.ondragover = (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  document.body.classList.add("dropping");
};
document.ondragleave = (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping"); // it left the window
};
document.ondrop = (event) => {
  document.body.classList.remove("dropping");
  if (event.dataTransfer.files.length === 0) return;
  event.preventDefault();
  $("file").files = event.dataTransfer.files;
  document.querySelector("[value=file]").click();
};

// The page as it opens: connected to its own server, which answers a few messages within a second.

const home = (location.protocol === "https:" ? "wss://" : "ws://") + location.host + location.pathname + location.search;
$("url").value = home;
for (const command of ["wsload -duration 5s ", "npx wscat -c ", "python3 -m websockets "]) {
  const item = document.createElement("li");
  item.append(document.createElement("code"));
  item.firstChild.textContent = command + shellWord(home);
  $("commands").append(item);
}
new ResizeObserver(redraw).observe($("chart"));
matchMedia("(prefers-color-scheme: dark)").onchange = redraw;
connect();
session.socket.addEventListener("open", () => repeatMessage("Hello, wsecho!", 50, 20));
