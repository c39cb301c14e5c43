// Spike: in the second third of the time, many more sockets open at once, send messages, and close.
// Do the existing sockets become slower, and do they recover afterwards?

import { abort, common, hold, holding, openingTime, positive, settings, thirds, thresholds, whole } from './echo.js';
import { report } from './report.js';

const set = settings({ vus: 2, sockets: 100, time: '90s' });
const rate = positive('RATE', 1);
const spikeVUs = whole('SPIKE_VUS', 8);
const spikeSockets = spikeVUs * set.sockets;
const spikeP99 = positive('SPIKE_RTT_P99', 4 * set.p99);

// The additional sockets open at OPEN_RATE or within 1 s, whichever is faster, and stay until the
// end of their third.
const extra = { ...set, vus: spikeVUs, opening: Math.max(set.opening, spikeSockets) };
extra.time = Math.max(set.time / 3 - openingTime(extra), set.time / 6);

export const options = {
  ...common,
  scenarios: {
    base: holding(set, 'base'),
    spike: holding(extra, 'spike', openingTime(set) + set.time / 3),
  },
  thresholds: thresholds(set, {
    ws_echo_rtt: abort(`p(99)<${spikeP99}`),
    'ws_echo_rtt{phase:before}': abort(`p(99)<${set.p99}`),
    'ws_echo_rtt{phase:during}': abort(`p(99)<${spikeP99}`),
    'ws_echo_rtt{phase:after}': abort(`p(99)<${set.p99}`),
    ws_completed: [`count==${set.vus * set.sockets + spikeSockets}`],
  }),
};

const tagsNow = thirds(set, ['before', 'during', 'after']);

export function base() {
  return hold(set, { rate, tagsNow });
}

export function spike() {
  return hold(extra, { rate });
}

export const handleSummary = report('spike', set, `${rate} messages per second on each; ${spikeVUs} × ${set.sockets} more in the second third`);
