// Smoke test: a few sockets for a few seconds, with payloads at the limits of each encoding of the
// frame length. Does the server work at all?

import { common, hold, holding, positive, settings, thresholds } from './echo.js';
import { report } from './report.js';

const set = settings({ vus: 1, sockets: 10, time: '5s', payload: '0,1,125,126,127,65535,65536', p99: 1000 });
const rate = positive('RATE', 10);

export const options = {
  ...common,
  scenarios: { smoke: holding(set, 'smoke') },
  thresholds: thresholds(set, { ws_completed: [`count==${set.vus * set.sockets}`] }),
};

export function smoke() {
  return hold(set, { rate, ping: 1000 });
}

export const handleSummary = report('smoke', set, `${rate} messages per second on each`);
