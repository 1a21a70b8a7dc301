// What the parts of the benchmark reckon and print with.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";

export const percentile = (numbers, share) => numbers.toSorted((a, b) => a - b)[Math.min(numbers.length - 1, Math.floor(numbers.length * share))];
// Of an even number the mean of the two in the middle.
export const median = (numbers) => {
  const sorted = numbers.toSorted((a, b) => a - b);
  return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.floor(sorted.length / 2)]) / 2;
};
export const show = (number, digits = 1) => (number === undefined || Number.isNaN(number) ? "" : number.toFixed(digits));
export const table = (head, rows) => [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
export const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// Says on standard error how far a part is, and how long it will still take: of so many seconds, as they were planned. PART says
// which of how many parts it is.
export function progress(name, planned) {
  const part = process.env.PART ? `part ${process.env.PART}, ${name}` : name;
  const began = performance.now();
  let done = 0;
  return (what, seconds) => {
    done += seconds;
    const left = ((performance.now() - began) / 1000 / done) * (planned - done);
    console.error(`${part}: ${what}; ${Math.round((100 * done) / planned)} %, ${left < 90 ? `${Math.round(left)} s` : `${Math.round(left / 60)} min`} left`);
  };
}

// The day, the machine and the versions: the commit, if it is one, and whether there is more.
function circumstances() {
  let commit = "";
  try {
    commit = `edge-session at ${execFileSync("git", ["describe", "--always", "--dirty"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim()}; `;
  } catch {}
  const version = (name) => JSON.parse(readFileSync(`bench/node_modules/${name}/package.json`, "utf8")).version;
  const peers = ["react-router", "@react-router/cloudflare", "hono-sessions", "hono", "iron-session"].map((name) => `${name} ${version(name)}`);
  const said = (command) => execFileSync(command, ["--version"], { encoding: "utf8" }).trim();
  const machine = `${cpus().length} cores (${cpus()[0].model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GB`;
  return `${new Date().toISOString().slice(0, 10)}; ${commit}${machine}; ${said("node_modules/.bin/workerd")}; ${said("rustc")}; Node.js ${process.versions.node}; ${peers.join(", ")}`;
}

const file = (part) => `bench/results/${part}.md`;

// Writes a part's results, and prints them. The first line says where and when they were measured.
export function write(part, text) {
  const whole = `By \`make bench-${part}\` on ${circumstances()}.\n\n${text}`;
  mkdirSync("bench/results", { recursive: true });
  writeFileSync(file(part), whole);
  console.log(whole);
}

// A part's results, and where and when they were measured.
export function written(part) {
  const [where, ...text] = readFileSync(file(part), "utf8").split("\n\n");
  return { where: where.replace(/^By `[^`]*` on /, ""), text: text.join("\n\n") };
}
