// Steady load: many sockets, each sending at a fixed rate. What is the usual round-trip time?

import { common, hold, holding, positive, settings, thresholds } from './echo.js';
import { report } from './report.js';

const set = settings({ vus: 4, sockets: 250, time: '1m' });
const rate = positive('RATE', 1);

export const options = {
  ...common,
  scenarios: { steady: holding(set, 'steady') },
  thresholds: thresholds(set, { ws_completed: [`count==${set.vus * set.sockets}`] }),
};

export function steady() {
  return hold(set, { rate });
}

export const handleSummary = report('steady', set, `${rate} messages per second on each`);
