// What the parts of the benchmark reckon and print with.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";

export const percentile = (numbers, share) => numbers.toSorted((a, b) => a - b)[Math.min(numbers.length - 1, Math.floor(numbers.length * share))];
export const median = (numbers) => percentile(numbers, 0.5);
export const show = (number, digits = 1) => (number === undefined || Number.isNaN(number) ? "" : number.toFixed(digits));
export const table = (head, rows) => [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
export const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// Says on standard error how far a part is, and how long it will still take.
export function progress(part, steps) {
  const began = performance.now();
  let done = 0;
  return (what) => {
    done += 1;
    const left = ((performance.now() - began) / done) * (steps - done);
    console.error(`${part}: ${what}; ${done} of ${steps}, ${left < 90_000 ? `${Math.round(left / 1000)} s` : `${Math.round(left / 60_000)} min`} left`);
  };
}

// The day, the machine and the versions.
export function circumstances() {
  const version = (name) => JSON.parse(readFileSync(`bench/node_modules/${name}/package.json`, "utf8")).version;
  const peers = ["react-router", "@react-router/cloudflare", "hono-sessions", "hono", "iron-session"].map((name) => `${name} ${version(name)}`);
  const said = (command) => execFileSync(command, ["--version"], { encoding: "utf8" }).trim();
  const machine = `${cpus().length} cores (${cpus()[0].model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GB`;
  return `${new Date().toISOString().slice(0, 10)}; ${machine}; ${said("node_modules/.bin/workerd")}; ${said("rustc")}; Node.js ${process.versions.node}; ${peers.join(", ")}`;
}

// Writes a part's results, and prints them.
export function write(part, text) {
  mkdirSync("bench/results", { recursive: true });
  writeFileSync(`bench/results/${part}.md`, text);
  console.log(text);
}
