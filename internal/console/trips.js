// Trips holds the round trips of echoes, in milliseconds.
export class Trips {
  // The constructor takes the number of round trips that percentiles are computed from, the last ones.
  constructor(capacity = 10000) {
    this.capacity = capacity;
    this.values = [];
    this.next = 0;
    this.count = 0;
    this.max = 0;
  }

  add(ms) {
    this.values[this.next] = ms;
    this.next = (this.next + 1) % this.capacity;
    this.count++;
    this.max = Math.max(this.max, ms);
  }

  // percentiles returns the percentiles with the given ranks, which are between 0 and 100, or
  // undefined if there is no round trip. A percentile is the smallest value that is not below that
  // part of all values.
  percentiles(...ranks) {
    if (this.count === 0) return undefined;
    const sorted = Float64Array.from(this.values).sort();
    return ranks.map((rank) => sorted[Math.max(0, Math.ceil((rank / 100) * sorted.length) - 1)]);
  }

  // last returns the last n round trips, oldest first.
  last(n) {
    const length = this.values.length;
    n = Math.min(n, length);
    return Array.from({ length: n }, (_, i) => this.values[(this.next - n + i + length) % length]);
  }
}
