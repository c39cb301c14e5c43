// bytesIn returns the size of a message in bytes.
export function bytesIn(data) {
  return typeof data === "string" ? new TextEncoder().encode(data).length : data.length;
}

// isSame reports whether two messages have the same type and the same bytes.
export function isSame(a, b) {
  if (typeof a === "string" || typeof b === "string") return a === b;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

// Session is one WebSocket connection to an echo server. It compares what arrives with what was
// sent: an echo server answers in order, so each message is compared with the oldest one that has
// no answer yet.
//
// Its messages are strings and Uint8Arrays. It calls on.open(), on.echo({data, trip, equal}), where
// trip and equal are undefined for a message that nothing was sent for, and on.close(event, opened).
export class Session {
  constructor(url, protocols, on) {
    this.on = on;
    this.waiting = new Map(); // messages without an echo, by number
    this.sent = 0;
    this.received = 0;
    this.opened = false;
    this.socket = new WebSocket(url, protocols);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => {
      this.opened = true;
      on.open();
    };
    this.socket.onmessage = (event) => this.receive(event.data, performance.now());
    this.socket.onclose = (event) => on.close(event, this.opened);
  }

  isOpen() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  // unsent returns the number of bytes that the browser has not sent yet.
  unsent() {
    return this.socket.bufferedAmount;
  }

  send(data) {
    this.waiting.set(this.sent++, { data, at: performance.now() });
    this.socket.send(data);
  }

  receive(data, now) {
    if (typeof data !== "string") data = new Uint8Array(data);
    const oldest = this.waiting.get(this.received);
    if (oldest === undefined) {
      this.on.echo({ data });
      return;
    }
    this.waiting.delete(this.received++);
    this.on.echo({ data, trip: now - oldest.at, equal: isSame(oldest.data, data) });
  }

  close(code, reason) {
    this.socket.close(code, reason);
  }
}
