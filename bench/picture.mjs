// The picture in www/waiting.svg: how long a visitor waits for a count on KV, and for ten in a row.
const WIDTH = 720;
const LEFT = 150;
const RIGHT = 705;
const ROW = 34;
const BAR = 16;

const escaped = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");

// What is wrong with a contestant's answers, in words.
function faults({ older, lost, errors }) {
  const said = [[errors, "errors"], [lost, "lost"], [older, "older"]].filter(([many]) => many).map(([many, name]) => `${many} ${name}`);
  return said.join(", ") || "no wrong answer";
}

// One chart: a bar to each p50, and a mark at each p99.
function chart({ top, title, rows, kind, note, end }) {
  const longest = Math.max(...rows.map((row) => row[kind].p99));
  const x = (value) => LEFT + (value / longest) * (end - LEFT);
  const lines = [`<text x="0" y="${top}" class="title">${escaped(title)}</text>`];
  for (const [number, row] of rows.entries()) {
    const y = top + 18 + number * ROW;
    const { p50, p99 } = row[kind];
    const ours = row.name.startsWith("edge-session");
    const label = `${Math.round(p50)} ms${note ? `, ${note(row)}` : ""}`;
    const wrong = note && note(row) !== "no wrong answer";
    lines.push(
      `<text x="${LEFT - 10}" y="${y + 13}" text-anchor="end"${ours ? ' class="ours"' : ""}>${escaped(ours ? "edge-session" : row.name)}</text>`,
      `<rect x="${LEFT}" y="${y}" width="${Math.max(1.5, x(p50) - LEFT).toFixed(1)}" height="${BAR}" rx="2" class="${ours ? "ours-bar" : "bar"}"/>`,
      `<line x1="${x(p50).toFixed(1)}" x2="${x(p99).toFixed(1)}" y1="${y + BAR / 2}" y2="${y + BAR / 2}" class="mark"/>`,
      `<line x1="${x(p99).toFixed(1)}" x2="${x(p99).toFixed(1)}" y1="${y + 2}" y2="${y + BAR - 2}" class="mark"/>`,
      `<text x="${(x(p99) + 8).toFixed(1)}" y="${y + 13}"${wrong ? ' class="wrong"' : ""}>${escaped(label)}</text>`,
    );
  }
  return lines.join("\n");
}

// A picture of these summaries, where a write to KV takes so long.
export function picture(rows, put) {
  const first = 22;
  const second = first + 18 + rows.length * ROW + 30;
  const height = second + 18 + rows.length * ROW + 48;
  const told = rows.map((row) => `${row.name}: a count ${Math.round(row.count.p50)} ms, ten in a row ${Math.round(row.ten.p50)} ms, ${faults(row)}.`).join(" ");
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-labelledby="title description">
<title id="title">How long a visitor waits for a count, on Workers KV</title>
<desc id="description">A write to KV takes ${put} ms here. ${escaped(told)}</desc>
<style>
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #24292f; }
.title { font-size: 14px; font-weight: 600; }
.ours { font-weight: 600; }
.small { font-size: 12px; fill: #57606a; }
.wrong { fill: #b3261e; }
.bar { fill: #9aa4af; }
.ours-bar { fill: #0969da; }
.mark { stroke: #57606a; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small { fill: #9da7b3; }
  .wrong { fill: #ff8a80; }
  .bar { fill: #6e7681; }
  .ours-bar { fill: #58a6ff; }
  .mark { stroke: #b0b8c1; }
}
</style>
${chart({ top: first, title: "One count", rows, kind: "count", end: RIGHT - 90 })}
${chart({ top: second, title: "Ten counts in a row, and the wrong answers of the whole run", rows, kind: "ten", note: faults, end: RIGHT - 270 })}
<text x="0" y="${height - 24}" class="small">Workers KV, simulated with the delays of production; a write takes ${put} ms (assumed). Bars are p50, thin marks p99.</text>
<text x="0" y="${height - 6}" class="small">Wrong are errors, counts that are lost, and numbers older than what the visitor had been told.</text>
</svg>
`;
}
