// Repeat sends a message several times: at an interval, or each time after the echo of the last one.
export class Repeat {
  // The constructor takes the function that sends, which returns false if it cannot send now, the
  // number of messages (0: until stop), the interval in milliseconds (0: after each echo), and the
  // function to call at the end.
  constructor(send, times, interval, done) {
    this.send = send;
    this.left = times === 0 ? Infinity : times;
    this.interval = interval;
    this.done = done;
    this.due = 0;
    this.timer = 0;
  }

  // start sends the first message.
  start() {
    this.due = performance.now();
    this.advance();
  }

  // echoed continues after an echo if there is no interval.
  echoed() {
    if (this.interval === 0 && this.left > 0) this.advance();
  }

  // advance sends what is due. If the timer is late, it sends several messages, but not more than
  // a few, and gives up those that are later.
  advance() {
    const now = performance.now();
    let several = 20;
    do {
      if (this.send()) this.left--;
      this.due += this.interval;
    } while (this.left > 0 && this.interval > 0 && this.due <= now && --several > 0);
    if (this.left === 0) {
      this.stop();
    } else if (this.interval > 0) {
      this.due = Math.max(this.due, now);
      this.timer = setTimeout(() => this.advance(), this.due - now);
    }
  }

  stop() {
    clearTimeout(this.timer);
    this.left = 0;
    this.done();
  }
}
