// `make new DIR=../my-worker STORE=kv|d1|object AXUM=1`: a Worker of one's own, from template/. DIR, STORE and AXUM come by
// the environment. All files are put together before the first is written, so that a refusal leaves nothing.
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, realpathSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { basename, dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = realpathSync(fileURLToPath(new URL("..", import.meta.url)));
const read = (path) => readFileSync(join(root, path), "utf8");

function refuse(reason) {
  console.error(reason);
  process.exit(1);
}

/** The text with this part of it, which must be there once, replaced. */
function swap(text, part, by) {
  if (text.split(part).length !== 2) throw new Error(`template/ has not, or more than once: ${part}`);
  return text.replace(part, () => by);
}

// What is asked for.

const store = process.env.STORE || "kv";
if (!["kv", "d1", "object"].includes(store)) refuse(`STORE=${store} is no store: it is kv, d1 or object`);

const { AXUM = "" } = process.env;
if (!["", "0", "1"].includes(AXUM)) refuse(`AXUM=${AXUM} says nothing: it is 1, for an axum application, or not given`);
const isAxum = AXUM === "1";

if (!process.env.DIR) refuse("Say where the new Worker goes: make new DIR=../my-worker");
// Not every shell knows that the ~ of DIR=~/my-worker is the home folder.
const dir = resolve(process.env.DIR.replace(/^~(?=\/|$)/, homedir()));
const name = basename(dir);
if (!/^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name)) {
  refuse(`The folder's name is the Worker's, and "${name}" is no valid one: lower-case letters, digits and hyphens, at ` +
    "most 63, a letter first and no hyphen last, as in my-worker.");
}
if (existsSync(dir) && (!statSync(dir).isDirectory() || readdirSync(dir).length > 0)) {
  refuse(`${dir} is there already, and not empty: nothing was written.`);
}

// Its files: those that all Workers have, and then what is the store's.

const files = {};
for (const path of [
  "Cargo.toml", "wrangler.toml", "src/lib.rs", "tests/session.test.mjs", "Makefile", "package.json", ".gitignore",
]) files[path] = read(`template/${path}`);
// The versions that are tested here, which are also those of the tools.
files["Cargo.lock"] = read("Cargo.lock");
files[".dev.vars"] = `SECRET_KEY="${randomBytes(32).toString("hex")}"\n`;

const features = store === "object" ? ["object"] : [];
if (isAxum) {
  features.push("axum");
  files["src/lib.rs"] = read("template/axum/lib.rs");
  files["Cargo.toml"] = swap(files["Cargo.toml"], 'worker = "0.8.7"', `worker = { version = "0.8.7", features = ["http"] }
axum = { version = "0.8", default-features = false, features = ["form"] }
tower = { version = "0.5", default-features = false, features = ["util"] }`);
}

const [dependencies] = files["Cargo.toml"].split("[dependencies]")[1].split("\n[");
if (dependencies.split("\n").some((line) => line.startsWith(`${name} = `))) {
  refuse(`A Worker cannot be named ${name}: it depends on a crate of that name.`);
}

if (store !== "kv") {
  // template/d1/ and template/object/ have wrangler.toml from there on, and what src/lib.rs has before its `use`s.
  const [common] = files["wrangler.toml"].split("[vars.session_parameters]");
  files["wrangler.toml"] = common + read(`template/${store}/wrangler.toml`);
  files["src/lib.rs"] = files["src/lib.rs"].replace(/^use /m, (use) => read(`template/${store}/lib.rs`) + use);
}
if (store === "d1") {
  files["src/sweep.rs"] = read("examples/cookbook/src/sweep.rs");
  for (const file of readdirSync(join(root, "migrations"))) files[`migrations/${file}`] = read(`migrations/${file}`);
}

// Relative, for the two may move together. Of the real folder, for `..` of a link leads elsewhere.
let parent = dirname(dir);
while (!existsSync(parent)) parent = dirname(parent);
const library = relative(join(realpathSync(parent), relative(parent, dir)), root);
const dependency = `path = ${JSON.stringify(library)}${features.length ? `, features = ${JSON.stringify(features)}` : ""}`;
files["Cargo.toml"] = swap(files["Cargo.toml"], 'edge-session = { path = ".." }', `edge-session = { ${dependency} }`);
for (const path of ["Cargo.toml", "package.json", "wrangler.toml"]) {
  files[path] = files[path].replaceAll('"my-worker"', JSON.stringify(name));
}

for (const [path, text] of Object.entries(files)) {
  mkdirSync(dirname(join(dir, path)), { recursive: true });
  writeFileSync(join(dir, path), text);
}

const quoted = (path) => (/^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`);
const tools = existsSync(join(root, ".tools/bin/worker-build")) ? ` TOOLS=${quoted(join(library, ".tools"))}` : "";
console.log(`A Worker that counts, with its sessions in ${{ kv: "KV", d1: "D1", object: "Durable Objects" }[store]}, is made. Next:

  cd ${quoted(dir)}
  make dev${tools}     # then: curl -c jar -b jar localhost:8787/count
  make test${tools}
`);
