import { time } from "./format.js";

// The number of round trips that the chart shows.
export const shown = 300;

// top returns a round number that is at least ms, for the end of the vertical axis.
export function top(ms) {
  const power = 10 ** Math.floor(Math.log10(ms));
  return [1, 2, 5, 10].find((step) => step * power >= ms * 0.999) * power;
}

// drawChart draws the last round trips as dots, oldest on the left, and lines at p50 and p99.
export function drawChart(canvas, trips) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const scale = devicePixelRatio;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const style = getComputedStyle(canvas);
  const color = (name) => style.getPropertyValue("--" + name);
  const c = canvas.getContext("2d");
  c.scale(scale, scale);
  c.font = "12px " + style.fontFamily;

  const values = trips.last(shown);
  const [p50, p99] = trips.percentiles(50, 99) ?? [];
  const limit = top(Math.max(0.1, p99 ?? 0, ...values));
  const left = 62, right = width - 12, low = height - 24, high = 12;
  const y = (ms) => low - (ms / limit) * (low - high);
  const x = (i) => right - ((values.length - 1 - i) / (shown - 1)) * (right - left);

  c.lineWidth = 1;
  c.textBaseline = "middle";
  c.textAlign = "right";
  for (const ms of [0, limit / 2, limit]) {
    c.strokeStyle = color("line");
    c.fillStyle = color("soft");
    line(c, left, right, y(ms));
    c.fillText(ms === 0 ? "0" : time(ms), left - 8, y(ms));
  }
  c.textAlign = "left";
  c.fillText(values.length === 0 ? "no echo yet" : "last " + values.length + " echoes, oldest first", left, height - 8);

  c.fillStyle = color("dot");
  values.forEach((ms, i) => {
    c.beginPath();
    c.arc(x(i), y(ms), 2, 0, 2 * Math.PI);
    c.fill();
  });

  if (p50 === undefined) return;
  const apart = y(p50) - y(p99) > 16;
  for (const [name, ms, ink, above] of [["p50", p50, "median", !apart ? 12 : -8], ["p99", p99, "tail", -8]]) {
    c.strokeStyle = c.fillStyle = color(ink);
    c.setLineDash([6, 4]);
    line(c, left, right, y(ms));
    c.setLineDash([]);
    c.lineWidth = 4;
    c.strokeStyle = color("card");
    const text = [name + " " + time(ms), left + 6, Math.min(Math.max(y(ms) + above, 8), low - 8)];
    c.strokeText(...text);
    c.fillText(...text);
    c.lineWidth = 1;
  }
}

function line(c, from, to, y) {
  c.beginPath();
  c.moveTo(from, Math.round(y) + 0.5);
  c.lineTo(to, Math.round(y) + 0.5);
  c.stroke();
}
