// Soak test: many sockets with few messages and pings for a long time. Does the server lose
// messages or become slower over time?

import { abort, common, duration, hold, holding, positive, settings, thirds, thresholds } from './echo.js';
import { report } from './report.js';

const set = settings({ vus: 2, sockets: 500, time: '1h' });
const rate = positive('RATE', 0.1);
const ping = duration('PING', '30s');

const phases = ['first', 'middle', 'last'];
const byPhase = {};
for (const phase of phases) {
  byPhase[`ws_echo_rtt{phase:${phase}}`] = abort(`p(99)<${set.p99}`);
}

export const options = {
  ...common,
  scenarios: { soak: holding(set, 'soak') },
  thresholds: thresholds(set, { ...byPhase, ws_completed: [`count==${set.vus * set.sockets}`] }),
};

const tagsNow = thirds(set, phases);

export function soak() {
  return hold(set, { rate, ping, tagsNow });
}

export const handleSummary = report('soak', set, `${rate} messages per second and a ping every ${ping / 1000} s on each`);
