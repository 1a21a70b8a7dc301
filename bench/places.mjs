// A contestant at several places over the same stores, which take as long as in production: one workerd, in which each place is
// an isolate with a cache of KV of its own.
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { DELAYS } from "./delays.mjs";
import { COMPATIBILITY_DATE, KEY, answering, freePorts, migrate, module, newDisk, openLog, out, root, workerd } from "./workerd.mjs";

// Where a visitor is at home, where they go at times, and where nobody has ever been.
export const PLACES = ["home", "away", "new"];

const own = (...names) => names.map((name) => module({ name: `${name}.js`, file: `${root}/bench/services/${name}.js`, kind: "esModule" }));
const json = (name, value) => `(name = "${name}", json = ${JSON.stringify(JSON.stringify(value))})`;
const service = (name, modules, bindings, more = "") =>
  `(name = "${name}", worker = (compatibilityDate = "${COMPATIBILITY_DATE}", modules = [${modules}], bindings = [${bindings}], ${more}))`;

function servicesOfPlace(place, number, { modules, parameters, write, seed }) {
  const bindings = [
    `(name = "SESSIONS", kvNamespace = "kv-${place}")`,
    `(name = "SECRET_KEY", text = "${KEY}")`,
    ...(parameters
      ? [
          `(name = "DB", wrapped = (moduleName = "cloudflare-internal:d1-api", innerBindings = [(name = "fetcher", service = "d1-distant")]))`,
          `(name = "SESSION_OBJECTS", service = (name = "objects-distant", entrypoint = "Objects"))`,
          json("session_parameters", parameters),
        ]
      : []),
  ];
  const kv = [`(name = "CENTRAL", service = "kv-central")`, json("delays", DELAYS), json("write", write), json("seed", seed + number)];
  return [service(`worker-${place}`, modules.map(module), bindings), service(`kv-${place}`, own("kv-place", "delay"), kv)];
}

// D1 and objects, for edge-session alone.
function servicesOfStores({ modules, d1, object, seed }) {
  const storage = `durableObjectStorage = (localDisk = "disk")`;
  const distant = (way) => [json("delays", DELAYS), json("way", way), json("seed", seed)];
  return [
    service("d1", own("d1"), [`(name = "DATABASE", durableObjectNamespace = "Database")`],
      `durableObjectNamespaces = [(className = "Database", uniqueKey = "d1", enableSql = true)], ${storage}`),
    service("d1-distant", own("d1-distant", "delay"), [`(name = "D1", service = "d1")`, ...distant(d1)]),
    service("object-host", [...own("object-host", "delay"), ...modules.map(module)], distant(object),
      `durableObjectNamespaces = [(className = "Counted", uniqueKey = "session", enableSql = true)], ${storage}`),
    service("objects-distant", own("objects-distant", "delay"),
      [`(name = "OBJECTS", durableObjectNamespace = (className = "Counted", serviceName = "object-host"))`, `(name = "HOST", service = "object-host")`, ...distant(object)]),
  ];
}

function configuration(contestant, ports, disk) {
  const services = [
    ...PLACES.flatMap((place, number) => servicesOfPlace(place, number, contestant)),
    service("kv-central", own("kv-central"), []),
    ...(contestant.parameters ? servicesOfStores(contestant) : []),
    `(name = "disk", disk = (path = "${disk}", writable = true))`,
  ];
  const socket = (name, port, to) => `(name = "${name}", address = "127.0.0.1:${port}", http = (), service = ${to})`;
  const stores = contestant.parameters ? [socket("d1", ports[4], `"d1"`), socket("objects", ports[5], `"objects-distant"`)] : [];
  const sockets = [
    ...PLACES.map((place, number) => socket(place, ports[number], `"worker-${place}"`)),
    socket("kv", ports[3], `(name = "kv-home", entrypoint = "control")`),
    ...stores,
  ];
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    ${services.join(",\n    ")}
  ],
  sockets = [
    ${sockets.join(",\n    ")}
  ],
);
`;
}

// Starts one. `write` says which of the delays a write to KV takes, `d1` and `object` the way to these.
export async function startPlaces({ write = "KV write, 150", d1 = "D1, near", object = "object, near", seed = 1, ...contestant }) {
  const ports = await freePorts(6);
  mkdirSync(out, { recursive: true });
  const file = `${out}/${`${contestant.name} ${write} ${d1} ${object}`.replaceAll(/\W+/g, "-")}.capnp`;
  const disk = newDisk();
  writeFileSync(file, configuration({ write, d1, object, seed, ...contestant }, ports, disk));
  const log = openLog(file);
  const server = spawn(workerd, ["serve", file, "--experimental"], { stdio: ["ignore", log, log] });
  closeSync(log);
  const origins = ports.map((port) => `http://127.0.0.1:${port}`);
  process.setMaxListeners(0);
  process.once("exit", () => server.kill("SIGKILL"));
  for (const number of PLACES.keys()) await answering(`${origins[number]}/read`, server);
  if (contestant.parameters) await migrate(origins[4]);
  const stop = async () => {
    await new Promise((done) => server.once("exit", done).kill("SIGKILL"));
    rmSync(disk, { recursive: true });
  };
  const [home, away, fresh, kv, d1Control, objects] = origins;
  return { ...contestant, home, away, new: fresh, kv, d1: d1Control, objects, stop };
}
