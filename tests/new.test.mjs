// `make new`, and the Workers that it makes: each is built and runs its own test. `make test-new` runs this.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createTestHarness } from "wrangler";

const root = fileURLToPath(new URL("..", import.meta.url));
const read = (...path) => readFileSync(join(root, ...path), "utf8");
// Some path has a blank.
const all = "target/new/my workers";

// What the make and the test runner around this were told is not for those below.
const { MAKEFLAGS, MFLAGS, MAKEOVERRIDES, MAKELEVEL, NODE_TEST_CONTEXT, DIR, STORE, AXUM, ...env } = process.env;

function make(folder, ...args) {
  const { status, stdout, stderr } = spawnSync("make", args, { cwd: join(root, folder), env, encoding: "utf8" });
  return { status, stdout, stderr, output: stdout + stderr };
}

/** A new Worker, with this repository's npm packages in place of its own. */
function made(store, ...choice) {
  const folder = `${all}/new-${store}`;
  const { status, stdout, output } = make(".", "new", `DIR=${folder}`, ...choice);
  assert.equal(status, 0, output);
  assert.ok(stdout.includes(`\n  cd '${join(root, folder)}'\n  make dev TOOLS=../../../../.tools `), stdout);
  const format = spawnSync("cargo", ["fmt", "--check"], { cwd: join(root, folder), env, encoding: "utf8" });
  assert.equal(format.status, 0, format.stdout + format.stderr);
  symlinkSync("../../../../node_modules", join(root, folder, "node_modules"));
  return folder;
}

// As it is built for its user: one of them. The others are quicker to build.
const QUICK = `WASM_OPT_BIN=${join(root, "scripts/no-wasm-opt")}`;

/** `make test` there gives what it should; returns what it printed. */
function counts(folder, ...choice) {
  // `-o`: the packages are not as new as package.json, and shall stay.
  const { status, output } = make(
    folder, "test", `TOOLS=${join(root, ".tools")}`, "-o", "node_modules/.package-lock.json", ...choice,
  );
  assert.equal(status, 0, output);
  assert.match(output, /✔ a visitor's counts are one after the other, and begin anew after a reset/);
  assert.match(output, /✔ another visitor has a count of their own/);
  assert.match(output, /^ℹ pass 2$/m);
  assert.match(output, /^ℹ fail 0$/m);
  return output;
}

/** What `make deploy` would run, in order. */
function deployment(folder) {
  const { stdout } = make(folder, "-n", "deploy", "SECRETS_FILE=my secrets.env");
  return [...stdout.matchAll(/wrangler\.js (d1 migrations apply DB --remote|deploy .*)/g)].map(([, command]) => command);
}

/** What `make deploy` runs where the first migration fails by this message. */
function deploymentAfter(folder, message) {
  const [stub, calls] = ["stub.mjs", "calls.log"].map((name) => join(root, all, name));
  writeFileSync(calls, "");
  writeFileSync(stub, `import { appendFileSync, readFileSync } from "node:fs";
    const call = process.argv.slice(2).join(" ");
    const isFirst = readFileSync(${JSON.stringify(calls)}, "utf8") === "";
    appendFileSync(${JSON.stringify(calls)}, call + "\\n");
    if (isFirst) console.error(${JSON.stringify(message)});
    process.exit(isFirst ? 1 : 0);`);
  const { status } = make(folder, "deploy", `WRANGLER=node '${stub}'`, `TOOLS=${join(root, ".tools")}`, "-o", "node_modules/.package-lock.json");
  return { status, calls: readFileSync(calls, "utf8").trim().split("\n") };
}

before(() => {
  env.CARGO_TARGET_DIR = join(root, "target");
  rmSync(join(root, all), { recursive: true, force: true });
});

test("a new Worker is the template, but for its name, its key and the way here", () => {
  const folder = made("kv");
  for (const path of ["src/lib.rs", "tests/session.test.mjs", "Makefile", ".gitignore"]) {
    assert.equal(read(folder, path), read("template", path), path);
  }
  for (const path of ["Cargo.toml", "wrangler.toml", "package.json"]) {
    const expected = read("template", path).replace('"my-worker"', '"new-kv"').replace('".."', '"../../../.."');
    assert.equal(read(folder, path), expected, path);
  }
  assert.match(read(folder, ".dev.vars"), /^SECRET_KEY="[0-9a-f]{64}"\n$/);
  assert.match(counts(folder), /env\.SESSIONS +KV Namespace/);
  assert.deepEqual(deployment(folder), ["deploy --secrets-file 'my secrets.env'"]);
});

test("each has a key of its own", () => {
  for (const name of ["key-a", "key-b"]) assert.equal(make(".", "new", `DIR=${all}/${name}`).status, 0);
  assert.notEqual(read(all, "key-a/.dev.vars"), read(all, "key-b/.dev.vars"));
});

test("on D1 it has the table, and sweeps it", async (t) => {
  const folder = made("d1", "STORE=d1");
  for (const file of readdirSync(join(root, "migrations"))) {
    assert.equal(read(folder, "migrations", file), read("migrations", file));
  }
  const printed = counts(folder, QUICK);
  assert.match(printed, /env\.DB \(new-d1\) +D1 Database/);
  assert.doesNotMatch(printed, /KV Namespace/);
  const migrate = "d1 migrations apply DB --remote";
  assert.deepEqual(deployment(folder), [migrate, "deploy --secrets-file 'my secrets.env'", migrate]);
  // The two ways in which wrangler says that the database is still to be made; and a failure that is another.
  for (const message of ["Couldn't find a D1 DB named 'a' (bound as 'DB') in the API.", "Couldn't find an auto-provisioned D1 DB named 'a' for binding 'DB'."]) {
    assert.deepEqual(deploymentAfter(folder, message), { status: 0, calls: [migrate, "deploy", migrate] });
  }
  const misnamed = "Couldn't find a D1 DB with the name or binding 'DB' in your wrangler.toml file.";
  assert.deepEqual(deploymentAfter(folder, misnamed), { status: 2, calls: [migrate] }, "nothing is deployed over the old tables");

  const configPath = join(root, folder, "wrangler.toml");
  const prebuiltWorkerDir = join(root, folder, "dist");
  const secrets = { SECRET_KEY: "a-key-for-tests-of-32-bytes-or-more" };
  const harness = createTestHarness({ workers: [{ configPath, prebuiltWorkerDir, secrets }] });
  t.after(() => harness.close());
  await harness.listen();
  await harness.getWorker().applyD1Migrations("DB");
  assert.equal((await harness.fetch("/count")).status, 200);
  const { DB } = await harness.getWorker().getEnv();
  await DB.prepare("UPDATE sessions SET expires_at = 1").run();
  await harness.getWorker().scheduled({ cron: "17 * * * *" });
  assert.deepEqual(harness.getLogs().map((log) => log.message), ["edge-session: swept: 1 deleted, 0 left"]);
});

test("in axum it counts as well, on each store", () => {
  const folder = made("axum", "STORE=object", "AXUM=1");
  assert.equal(read(folder, "src/lib.rs").replace(read("template/object/lib.rs"), ""), read("template/axum/lib.rs"));
  assert.match(read(folder, "Cargo.toml"), /^edge-session = \{ path = ".*", features = \["object","axum"\] \}$/m);
  assert.match(counts(folder, QUICK), /env\.SESSION_OBJECTS \(SessionObject\) +Durable Object/);
});

test("on Durable Objects it exports the class", () => {
  const folder = made("object", "STORE=object");
  assert.match(read(folder, "Cargo.toml"), /^edge-session = \{ path = ".*", features = \["object"\] \}$/m);
  const printed = counts(folder, QUICK);
  assert.match(printed, /env\.SESSION_OBJECTS \(SessionObject\) +Durable Object/);
  assert.doesNotMatch(printed, /KV Namespace/);
  assert.deepEqual(deployment(folder), ["deploy --secrets-file 'my secrets.env'"]);
});

test("what cannot be is refused, and nothing is written", () => {
  const folder = `${all}/refused`;
  mkdirSync(join(root, folder, "full"), { recursive: true });
  writeFileSync(join(root, folder, "full/a"), "");
  writeFileSync(join(root, folder, "file"), "");
  const names = /lower-case letters, digits and hyphens/;
  for (const [why, args] of [
    [/make new DIR=\.\.\/my-worker/, []],
    [/STORE=redis is no store: it is kv, d1 or object/, [`DIR=${folder}/new`, "STORE=redis"]],
    [/AXUM=yes says nothing/, [`DIR=${folder}/new`, "AXUM=yes"]],
    [/STORE=KV is no store/, [`DIR=${folder}/new`, "STORE=KV"]],
    [/is there already, and not empty/, [`DIR=${folder}/full`]],
    [/is there already, and not empty/, [`DIR=${folder}/file`]],
    [names, [`DIR=${folder}/My-Worker`]],
    [names, [`DIR=${folder}/my_worker`]],
    [names, [`DIR=${folder}/my worker`]],
    [names, [`DIR=${folder}/1-worker`]],
    [names, [`DIR=${folder}/worker-`]],
    [names, [`DIR=${folder}/${"a".repeat(64)}`]],
    [/cannot be named edge-session/, [`DIR=${folder}/edge-session`]],
    [/cannot be named worker/, [`DIR=${folder}/worker`]],
    [/cannot be named tower/, [`DIR=${folder}/tower`, "AXUM=1"]],
  ]) {
    const { status, stdout, stderr } = make(".", "new", ...args);
    assert.notEqual(status, 0, args.join(" "));
    assert.equal(stdout, "", args.join(" "));
    assert.match(stderr, why);
    assert.deepEqual(readdirSync(join(root, folder), { recursive: true }).sort(), ["file", "full", "full/a"]);
  }
});

test("an empty folder will do, whatever it is called", () => {
  for (const name of ["tower", "edition"]) assert.equal(make(".", "new", `DIR=${all}/${name}`).status, 0, name);
  mkdirSync(join(root, all, "empty"));
  assert.equal(make(".", "new", `DIR=${all}/empty`).status, 0);
  assert.ok(existsSync(join(root, all, "empty/wrangler.toml")));
});

test("tools of other versions are not taken, and not replaced", () => {
  const [folder, tool] = [`${all}/other-tools`, join(root, all, "old tools/bin/wasm-bindgen")];
  assert.equal(make(".", "new", `DIR=${folder}`).status, 0);
  mkdirSync(join(tool, ".."), { recursive: true });
  writeFileSync(tool, "#!/bin/sh\necho wasm-bindgen 0.2.1\n", { mode: 0o755 });
  const { status, stderr } = make(folder, "tools", "TOOLS=../old tools");
  assert.notEqual(status, 0);
  assert.match(stderr, /There is no wasm-bindgen 0\.2\.\d{3} in \.\.\/old tools: without TOOLS= it is installed here/);
  assert.match(readFileSync(tool, "utf8"), /0\.2\.1$/m);
});

test("its tools are of this repository's versions", () => {
  const [ours, its] = ["package.json", "template/package.json"].map((path) => JSON.parse(read(path)));
  for (const kind of ["devDependencies", "optionalDependencies"]) {
    for (const [name, version] of Object.entries(its[kind])) assert.equal(version, ours[kind][name], name);
  }
});

test("cargo generate finds nothing to fill in", () => {
  const { stdout } = spawnSync("git", ["ls-files", "-co", "--exclude-standard", "template"], { cwd: root, encoding: "utf8" });
  const files = stdout.trim().split("\n");
  assert.ok(files.includes("template/Makefile"), stdout);
  for (const file of files) assert.doesNotMatch(read(file), /\{\{|\{%/, file);
});
