// Connect storm: sockets are opened at a rising rate, echo one message of each type, and are
// closed. How many connections per second can the server accept?

import { abort, common, duration, positive, settings, thresholds, visit } from './echo.js';
import { report } from './report.js';

const set = settings({ vus: 50, sockets: 5, time: '30s' });
const rate = positive('RATE', 200);
const ramp = duration('RAMP', '10s');
const connectP99 = positive('CONNECT_P99', 1000);

export const options = {
  ...common,
  scenarios: {
    storm: {
      executor: 'ramping-arrival-rate', // an open model: sockets open whether or not earlier ones have been served
      exec: 'storm',
      startRate: 0,
      timeUnit: `${set.sockets}s`, // RATE counts sockets, and an iteration opens several
      stages: [
        { target: Math.round(rate), duration: `${ramp}ms` },
        { target: Math.round(rate), duration: `${set.time}ms` },
      ],
      preAllocatedVUs: set.vus,
    },
  },
  thresholds: thresholds(set, {
    ws_connecting: abort(`p(99)<${connectP99}`),
    dropped_iterations: ['count==0'], // otherwise no VU was free, and the rate was below RATE
  }),
};

export function storm() {
  return visit(set);
}

export const handleSummary = report('storm', set, `at most at a time; ${rate} new ones per second after ${ramp / 1000} s`);
