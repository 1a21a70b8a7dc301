// A contestant in a workerd of its own: the npm package's binary, by a capnp configuration, on one core.
import { execFileSync, spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { relative, resolve } from "node:path";

export const root = resolve(import.meta.dirname, "..");
export const workerd = process.env.WORKERD ?? resolve(root, "node_modules/.bin/workerd");
const esbuild = resolve(root, "node_modules/.bin/esbuild");
export const out = resolve(root, "target/bench");
export const KEY = "first-key-0123456789abcdef012345";
export const COMPATIBILITY_DATE = "2026-10-01";

// One file of JavaScript from a contestant's source.
export function bundled(name) {
  const file = `${out}/${name}.js`;
  const options = ["--bundle", "--format=esm", "--minify", "--conditions=workerd,worker,browser", "--external:cloudflare:*", "--external:node:*", "--log-level=error"];
  execFileSync(esbuild, [`${root}/bench/contestants/${name}.js`, ...options, `--outfile=${file}`]);
  return [{ name: "worker.js", file, kind: "esModule" }];
}

// A Rust Worker as worker-build leaves it.
export function built(folder) {
  return [
    { name: "index.js", file: resolve(root, folder, "index.js"), kind: "esModule" },
    { name: "index_bg.wasm", file: resolve(root, folder, "index_bg.wasm"), kind: "wasm" },
  ];
}

export const weight = (modules, kind) =>
  modules.filter((module) => module.kind === kind).reduce((sum, { file }) => sum + execFileSync("gzip", ["-9c", file]).length, 0);

export async function freePorts(count) {
  const servers = await Promise.all(Array.from({ length: count }, () => new Promise((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => done(server));
  })));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}

// A module as a configuration in target/bench has it.
export const module = ({ name, file, kind }) => `(name = "${name}", ${kind} = embed "${relative(out, file)}")`;

// A folder for SQLite's objects, in memory where there is such a disk.
export const newDisk = () => mkdtempSync(`${existsSync("/dev/shm") ? "/dev/shm" : out}/edge-session-bench-`);

function configuration({ modules, parameters, ports, disk }) {
  const service = (name) => module({ name: "main", file: `${root}/bench/services/${name}.js`, kind: "esModule" });
  // Objects only where the Worker has the class.
  const objects = parameters
    ? `durableObjectNamespaces = [(className = "SessionObject", uniqueKey = "session", enableSql = true)], durableObjectStorage = (localDisk = "disk"),`
    : "";
  const bindings = [
    `(name = "SESSIONS", kvNamespace = "kv")`,
    `(name = "SECRET_KEY", text = "${KEY}")`,
    ...(parameters
      ? [
          `(name = "DB", wrapped = (moduleName = "cloudflare-internal:d1-api", innerBindings = [(name = "fetcher", service = "d1")]))`,
          `(name = "SESSION_OBJECTS", durableObjectNamespace = "SessionObject")`,
          `(name = "session_parameters", json = ${JSON.stringify(JSON.stringify(parameters))})`,
        ]
      : []),
  ];
  const [http, kv, d1] = ports;
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "worker", worker = (compatibilityDate = "${COMPATIBILITY_DATE}", modules = [${modules.map(module)}], ${objects}
      bindings = [${bindings}])),
    (name = "disk", disk = (path = "${disk}", writable = true)),
    (name = "kv", worker = (compatibilityDate = "${COMPATIBILITY_DATE}", modules = [${service("kv")}])),
    (name = "d1", worker = (compatibilityDate = "${COMPATIBILITY_DATE}", modules = [${service("d1")}],
      durableObjectNamespaces = [(className = "Database", uniqueKey = "d1", enableSql = true)], durableObjectStorage = (localDisk = "disk"),
      bindings = [(name = "DATABASE", durableObjectNamespace = "Database")])),
  ],
  sockets = [
    (name = "http", address = "127.0.0.1:${http}", http = (), service = "worker"),
    (name = "kv", address = "127.0.0.1:${kv}", http = (), service = (name = "kv", entrypoint = "control")),
    (name = "d1", address = "127.0.0.1:${d1}", http = (), service = "d1"),
  ],
);
`;
}

// What a workerd logs lies beside its configuration: errors are counted, and would only be in the way.
export const openLog = (file) => openSync(file.replace(/capnp$/, "log"), "w");

// Waits for the first answer of a process that has just been started.
export async function answering(url, server) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await (await fetch(url)).text();
    } catch (error) {
      if (tries > 2000 || server.exitCode !== null) throw new Error(`workerd did not start, see target/bench/*.log: ${error}`);
      await new Promise((done) => setTimeout(done, 2));
    }
  }
}

// Makes edge-session's tables in the D1 that answers there.
export async function migrate(d1) {
  for (const file of readdirSync(`${root}/migrations`).toSorted()) {
    for (const sql of readFileSync(`${root}/migrations/${file}`, "utf8").replaceAll(/^--.*$/gm, "").split(";")) {
      if (sql.trim()) await fetch(`${d1}/query`, { method: "POST", body: JSON.stringify({ sql: sql.trim() }) });
    }
  }
}

// Starts one; `parameters` only for edge-session. `core` is where it runs.
export async function start({ name, modules, parameters, core = 0, flags = [] }) {
  const ports = await freePorts(3);
  mkdirSync(out, { recursive: true });
  const file = `${out}/${name.replaceAll(/\W+/g, "-")}.capnp`;
  const disk = newDisk();
  writeFileSync(file, configuration({ modules, parameters, ports, disk }));
  const began = performance.now();
  const log = openLog(file);
  const server = spawn("taskset", ["-c", String(core), workerd, "serve", file, "--experimental", ...flags], { stdio: ["ignore", log, log] });
  closeSync(log);
  const [origin, kv, d1] = ports.map((port) => `http://127.0.0.1:${port}`);
  await answering(`${origin}/read`, server);
  const startUp = performance.now() - began;
  // Killed, for with its inspector open it does not end when asked to, and it has nothing to keep.
  const stop = async () => {
    await new Promise((done) => server.once("exit", done).kill("SIGKILL"));
    rmSync(disk, { recursive: true });
  };
  process.setMaxListeners(0);
  process.once("exit", () => server.kill("SIGKILL"));
  if (parameters) await migrate(d1);
  return { name, origin, kv, d1, disk, pid: server.pid, startUp, stop };
}

const ticks = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

// Seconds of processor time that a process has used, by itself and for the kernel's work on its behalf.
export function processorTime(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticks;
}
