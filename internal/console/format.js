// Text for people: sizes, times, payloads and commands.

// size returns a number of bytes, such as "128 B" or "1.5 MiB".
export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024;
    unit++;
  }
  return (unit === 0 || Number.isInteger(bytes) ? bytes : bytes.toFixed(1)) + " " + units[unit];
}

// time returns a time in milliseconds, such as "340 µs" or "1.25 ms".
export function time(ms) {
  if (ms < 1) return Math.round(ms * 1000) + " µs";
  if (ms < 1000) return ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0) + " ms";
  return (ms / 1000).toFixed(2) + " s";
}

// preview returns the beginning of a message: text with its control characters visible, or the
// first bytes of binary data in hexadecimal.
export function preview(data) {
  const longest = 120;
  if (typeof data !== "string") {
    const shown = Array.from(data.subarray(0, longest / 3), (b) => b.toString(16).padStart(2, "0")).join(" ");
    return shown + (data.length > longest / 3 ? " …" : "");
  }
  const shown = data.slice(0, longest).replace(/[\u0000-\u001f\u007f]/g, (c) => (c === "\u007f" ? "\u2421" : String.fromCharCode(0x2400 + c.charCodeAt(0))));
  return shown + (data.length > longest ? " …" : "");
}

// shellWord returns text as one word of a shell command.
export function shellWord(text) {
  return /^[\w:/.,%@+=-]+$/.test(text) ? text : "'" + text.replaceAll("'", "'\\''") + "'";
}
