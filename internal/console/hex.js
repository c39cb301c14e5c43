// parseHex returns the bytes that text has in hexadecimal. Spaces, line ends, commas and colons may
// separate bytes. parseHex throws an Error that names the first invalid place.
export function parseHex(text) {
  const bytes = [];
  let high = -1;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (/[\s,:]/.test(c)) {
      if (high >= 0) throw new Error("Incomplete byte at character " + i + ": a byte has two hexadecimal digits.");
      continue;
    }
    if (!/[0-9a-f]/i.test(c)) throw new Error("“" + c + "” at character " + (i + 1) + " is not a hexadecimal digit.");
    const digit = parseInt(c, 16);
    if (high < 0) {
      high = digit;
      continue;
    }
    bytes.push(16 * high + digit);
    high = -1;
  }
  if (high >= 0) throw new Error("Incomplete byte at the end: a byte has two hexadecimal digits.");
  return Uint8Array.from(bytes);
}
