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
  const wide = width > 480; // if not, the lines are labelled without their times
  const left = 62, right = width - (wide ? 92 : 34), low = height - 24, high = 12;
  const y = (ms) => low - (ms / limit) * (low - high);
  const x = (i) => right - ((values.length - 1 - i) / (shown - 1)) * (right - left);

  c.lineWidth = 1;
  c.textBaseline = "middle";
  c.textAlign = "right";
  for (const ms of [0, limit / 2, limit]) {
    c.strokeStyle = color("line");
    c.fillStyle = color("soft");
    line(c, left, right, y(ms));
    c.fillText(ms === 0 ? "0" : time(ms).replace(/\.0+ /, " "), left - 8, y(ms));
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
  // The labels are on the right, beside their lines, and a line of text apart.
  const upper = Math.max(6, Math.min(y(p99), low - 21));
  const lower = Math.max(upper + 15, Math.min(y(p50), low - 6));
  for (const [name, ms, ink, at] of [["p50", p50, "median", lower], ["p99", p99, "tail", upper]]) {
    c.strokeStyle = c.fillStyle = color(ink);
    c.setLineDash([6, 4]);
    line(c, left, right, y(ms));
    c.fillText(wide ? name + " " + time(ms) : name, right + 8, at);
  }
}

function line(c, from, to, y) {
  c.beginPath();
  c.moveTo(from, Math.round(y) + 0.5);
  c.lineTo(to, Math.round(y) + 0.5);
  c.stroke();
}
