// The reports of a run: text on stdout and, if REPORTS names a directory, files there with text,
// JSON and JUnit XML. Scripts cannot use k6's own text summary, and k6 has no JUnit report.

// report returns a script's handleSummary. what describes the work of the sockets, for the first
// line.
export function report(script, set, what) {
  return (data) => {
    const r = results(script, set, what, data);
    const text = asText(r);
    const files = { stdout: `\n${text}\n` };
    const directory = __ENV.REPORTS;
    if (directory) {
      files[`${directory}/${script}.txt`] = text;
      files[`${directory}/${script}.json`] = `${JSON.stringify(r, null, 2)}\n`;
      files[`${directory}/${script}.xml`] = asJUnit(r);
    }
    return files;
  };
}

// results returns the content of all three reports, in the form of the JSON report.
function results(script, set, what, data) {
  const thresholds = [];
  const metrics = {};
  for (const name of Object.keys(data.metrics).sort()) {
    const m = data.metrics[name];
    metrics[name] = { type: m.type, contains: m.contains, values: m.values };
    for (const source of Object.keys(m.thresholds || {})) {
      thresholds.push({ metric: name, threshold: source, ok: m.thresholds[source].ok, values: m.values });
    }
  }
  const checks = data.root_group.checks.map(({ name, passes, fails }) => ({ name, passes, fails }));
  return {
    script,
    url: set.url,
    sockets: `${set.vus} × ${set.sockets} sockets`,
    what,
    passed: thresholds.every((t) => t.ok) && checks.every((c) => c.fails === 0),
    seconds: data.state.testRunDurationMs / 1000,
    settings: set,
    thresholds,
    checks,
    metrics,
  };
}

// ---- text

function asText(r) {
  const value = (metric, name) => (r.metrics[metric] ? r.metrics[metric].values[name] : 0) || 0;
  const lines = [
    `${r.script}: ${r.url}: ${r.sockets}, ${r.what}; ${r.seconds.toFixed(1)} s`,
    '',
    row('sockets', `${value('ws_opened', 'count')} opened, ${value('ws_completed', 'count')} closed with all echoes correct`),
    row('echoes', `${value('ws_echo_rtt', 'count')}, ${(value('ws_echo_rtt', 'count') / r.seconds).toFixed(1)} /s`),
    row('errors', errorsByKind(r)),
  ];
  const trends = { ws_echo_rtt: 'round trip', ws_ping: 'ping', ws_send_late: 'sent late', ws_connecting: 'handshake' };
  for (const name of Object.keys(trends)) {
    for (const m of Object.keys(r.metrics).filter((m) => m === name || m.startsWith(`${name}{`))) {
      lines.push(row(m === name ? trends[name] : `  ${m.slice(name.length + 1, -1)}`, percentiles(r.metrics[m].values)));
    }
  }
  lines.push('');
  r.checks.forEach((c) => lines.push(`${mark(c.fails === 0)} ${c.name}: ${c.passes} of ${c.passes + c.fails}`));
  r.thresholds.filter((t) => !t.metric.startsWith('ws_errors{') || !t.ok).forEach((t) => lines.push(`${mark(t.ok)} ${t.metric}: ${t.threshold}`));
  lines.push('', r.passed ? 'passed' : 'FAILED', '');
  return lines.join('\n');
}

const row = (name, value) => `${name.padEnd(16)}${value}`;
const mark = (ok) => (ok ? 'ok    ' : 'FAILED');

function errorsByKind(r) {
  const kinds = Object.keys(r.metrics)
    .filter((m) => m.startsWith('ws_errors{') && r.metrics[m].values.count > 0)
    .map((m) => `${m.slice('ws_errors{kind:'.length, -1)} ${r.metrics[m].values.count}`);
  return kinds.join(', ') || 'none';
}

function percentiles(values) {
  if (!values.count) {
    return 'none';
  }
  return ['p(50)', 'p(90)', 'p(99)', 'p(99.9)', 'max'].map((p) => `${p.replace(/[()]/g, '')} ${milliseconds(values[p])}`).join('  ');
}

function milliseconds(ms) {
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  return ms < 999.5 ? `${ms.toPrecision(3)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

// ---- JUnit: one suite with a case per threshold and check

function asJUnit(r) {
  const cases = [
    ...r.thresholds.map((t) => ({
      kind: 'thresholds',
      name: `${t.metric}: ${t.threshold}`,
      failure: t.ok ? '' : `${t.metric} is ${JSON.stringify(t.values)}`,
    })),
    ...r.checks.map((c) => ({
      kind: 'checks',
      name: c.name,
      failure: c.fails === 0 ? '' : `${c.fails} of ${c.passes + c.fails} failed`,
    })),
  ];
  const counts = `tests="${cases.length}" failures="${cases.filter((c) => c.failure).length}" errors="0" skipped="0" time="${r.seconds.toFixed(3)}"`;
  const name = `k6.${r.script}`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="${xml(name)}" ${counts}>`,
    `  <testsuite name="${xml(name)}" ${counts}>`,
    ...cases.map((c) => {
      const open = `    <testcase classname="${xml(`${name}.${c.kind}`)}" name="${xml(c.name)}" time="0"`;
      return c.failure ? `${open}>\n      <failure message="${xml(c.failure)}"/>\n    </testcase>` : `${open}/>`;
    }),
    '  </testsuite>',
    '</testsuites>',
    '',
  ].join('\n');
}

const entities = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

function xml(s) {
  return s.replace(/[^\t\n\r\x20-\ud7ff\ue000-\ufffd]/g, '\ufffd').replace(/[&<>"]/g, (c) => entities[c]);
}
