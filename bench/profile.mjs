// Where the processor's time goes: V8's profile of one contestant under load, by function, self time first.
// npx node bench/profile.mjs FOLDER STORE [PATH]: a build of this Worker (with its functions' names, if it kept them).
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { built, bundled, start } from "./workerd.mjs";

const [folder = "bench/edge-session/build", store = "kv", path = "/count"] = process.argv.slice(2);
const port = 9000 + Math.floor(Math.random() * 900);
const contestant = store === "js"
  ? { name: folder, modules: bundled(folder) }
  : { name: "profiled", modules: built(folder), parameters: { store } };
const server = await start({ ...contestant, flags: [`--inspector-addr=127.0.0.1:${port}`] });
// Visitors who have just counted, with all that their browsers keep.
const counted = async () => (await fetch(`${server.origin}/count`)).headers.getSetCookie().map((line) => line.split(";")[0]);
const cookies = await Promise.all(Array.from({ length: 64 }, counted));
const sent = ([session, ...others]) => [process.env.FORGED ? `${session.slice(0, -4)}0000` : session, ...others].join("; ");
writeFileSync("target/bench/profiled.cookies", `${cookies.map(sent).join("\n")}\n`);

const targets = await (await fetch(`http://127.0.0.1:${port}/json`)).json();
const { webSocketDebuggerUrl } = targets.find(({ id, title }) => `${id}${title}`.includes("worker")) ?? targets[0];
const socket = new WebSocket(webSocketDebuggerUrl);
await new Promise((done) => socket.addEventListener("open", done));
let last = 0;
const ask = (method, params = {}) => new Promise((done) => {
  const id = (last += 1);
  const listen = (event) => {
    const message = JSON.parse(event.data);
    if (message.id !== id) return;
    socket.removeEventListener("message", listen);
    done(message.result);
  };
  socket.addEventListener("message", listen);
  socket.send(JSON.stringify({ id, method, params }));
});
await ask("Profiler.enable");
await ask("Profiler.setSamplingInterval", { interval: 400 });
await ask("Profiler.start");
const load = ["-c", "1", "wrk", "-t1", "-c4", "-d4s", "-s", "bench/load.lua", `${server.origin}${path}`, "--", "target/bench/profiled.cookies"];
const printed = await new Promise((done) => execFile("taskset", load, (error, output) => done(output)));
const { requests } = JSON.parse(printed.trim().split("\n").at(-1));
const { profile } = await ask("Profiler.stop");
const self = new Map();
const spans = profile.timeDeltas;
const byId = new Map(profile.nodes.map((node) => [node.id, node]));
let all = 0;
profile.samples.forEach((id, index) => {
  const { functionName, url, lineNumber } = byId.get(id).callFrame;
  const name = `${functionName || "(anonymous)"} ${url.split("/").at(-1)}:${lineNumber}`;
  if (functionName === "(idle)") return;
  all += spans[index];
  self.set(name, (self.get(name) ?? 0) + spans[index]);
});
console.log(`${(all / requests).toFixed(1)} µs in this isolate for each of ${requests} requests`);
for (const [name, time] of [...self].sort((a, b) => b[1] - a[1]).slice(0, Number(process.env.LINES ?? 45))) console.log(`${(time / requests).toFixed(2)} µs ${name}`);
await server.stop();
process.exit(0);
