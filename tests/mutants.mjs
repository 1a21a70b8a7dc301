// Takes each rule of the session layer out, one at a time, and sees that a test fails: `make test-mutants`. A rule that can
// be taken out unnoticed is no rule. `node tests/mutants.mjs "a logout"` does so with some.
//
// Built and run natively, below target/mutants. All that can be are in one build (mutants/weave.mjs). In it the tests must pass as long
// as nothing is taken out, which is seen first. Rules that only workerd can show, those of `src/worker`, are in a build of the Workers,
// and so is each by itself: `make test-worker-mutants`, or with `--in-workerd` before the others. That each rule's text still stands in its
// file is seen in no time, with `--texts`, as `make lint` does.
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, relative } from "node:path";
import { kvRules } from "./mutants/kv-rules.mjs";
import { rules } from "./mutants/rules.mjs";
import { workerRules } from "./mutants/worker-rules.mjs";
import { MARK, WHICH, weave } from "./mutants/weave.mjs";

const inWorkerd = process.argv[2] === "--in-workerd";
const isText = process.argv[2] === "--texts";
const only = process.argv[inWorkerd || isText ? 3 : 2];
const allRules = [...rules, ...kvRules];
const mutants = (isText ? [...allRules, ...workerRules] : inWorkerd ? workerRules : allRules)
  .map(([rule, file, from, to, files, tests], number) => ({ number, rule, file, from, to, files: files.split("|"), tests }))
  .filter(({ rule }) => !only || rule.includes(only));

const filesBelow = (name) =>
  statSync(name).isFile() ? [name] : readdirSync(name, { recursive: true }).map((path) => `${name}/${path}`).filter((path) => statSync(path).isFile());
// What is copied, to be changed or to be built in its own place, and what is found where it is; where it is built, and what of it
// has mostly been built by the tests that ran before.
const CRATE = {
  copied: ["src", "Cargo.toml", "Cargo.lock"],
  linked: ["tests", "examples", "counter", "template", "benches", "docs", "migrations", "README.md"],
  built: "built",
  seeds: ["debug"],
};
const ROUTES = "tests/worker/routes";
const WORKERS = {
  copied: [...CRATE.copied, "wrangler.toml", "counter/src", "counter/Cargo.toml", ...["src", "Cargo.toml", "wrangler.toml"].map((name) => `${ROUTES}/${name}`)],
  linked: [...CRATE.linked.filter((name) => !["tests", "counter"].includes(name)), "www", ...filesBelow("tests").filter((path) => !path.startsWith(ROUTES))],
  built: "target",
  seeds: ["release", "wasm32-unknown-unknown/release"],
};
const LAYOUT = inWorkerd ? WORKERS : CRATE;
// What is built in one go, and what is built by itself: a change of one has nothing of the other built again.
const [TOGETHER, ALONE] = ["together", "alone"].map((name) => `target/mutants/${inWorkerd ? `in-workerd-${name}` : name}`);

// Quick to fail; and a future that holds many bodies is large.
const env = { ...process.env, ...(inWorkerd ? {} : { CARGO_TARGET_DIR: CRATE.built }), RUST_MIN_STACK: String(256 << 20), RUST_BACKTRACE: "0", SIMULATION_SEEDS: "2000", TAKEN_OUT: "" };
// What is taken out may be the end of a loop.
const TEST_SECONDS = 400;
const BUILD_SECONDS = 1800;

const children = new Set();

function run(folder, seconds, [command, ...args], more) {
  return new Promise((resolve) => {
    const options = { cwd: folder, env: { ...env, ...more }, stdio: ["ignore", "pipe", "pipe"] };
    const child = spawn("timeout", ["-k", "5", String(seconds), command, ...args], options);
    children.add(child.pid);
    let [output, said] = ["", ""];
    child.stdout.on("data", (data) => (output += data));
    child.stderr.on("data", (data) => (said += data));
    child.on("close", (code) => {
      children.delete(child.pid);
      resolve({ code, output, said });
    });
  });
}

// A file is written only where it changes, so that cargo builds only what did.
function write(path, text) {
  if (!existsSync(path) || readFileSync(path, "utf8") !== text) writeFileSync(path, text);
}

// The crate with these of its files changed.
function prepare(folder, changed) {
  const { copied, linked, built, seeds } = LAYOUT;
  if (!existsSync(`${folder}/${built}`)) {
    // What was broken off is begun anew.
    const begun = `${folder}/${built}.begun`;
    rmSync(begun, { recursive: true, force: true });
    mkdirSync(begun, { recursive: true });
    for (const name of seeds.flatMap((seed) => [".fingerprint", "build", "deps"].map((name) => `${seed}/${name}`))) {
      if (existsSync(`target/${name}`)) cpSync(`target/${name}`, `${begun}/${name}`, { recursive: true, preserveTimestamps: true });
    }
    renameSync(begun, `${folder}/${built}`);
  }
  for (const name of linked) {
    const link = `${folder}/${name}`;
    rmSync(link, { force: true });
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(relative(dirname(link), name), link);
  }
  for (const path of existsSync(`${folder}/src`) ? readdirSync(`${folder}/src`, { recursive: true }) : []) {
    if (!existsSync(`src/${path}`)) rmSync(`${folder}/src/${path}`, { recursive: true, force: true });
  }
  for (const path of copied.flatMap(filesBelow)) {
    mkdirSync(dirname(`${folder}/${path}`), { recursive: true });
    write(`${folder}/${path}`, changed.get(path) ?? readFileSync(path, "utf8"));
  }
}

// How each of a test's files is built. Those that play thousands of runs are optimised a little.
const CORE = ["--no-default-features", "--features", "conformance"];
const WAYS = [
  { has: (file) => ["explorer", "simulation"].includes(file), features: CORE, more: { CARGO_PROFILE_DEV_OPT_LEVEL: "1" } },
  { has: (file) => file === "axum", features: ["--all-features"], more: {} },
  { has: () => true, features: CORE, more: {} },
];

// Builds these files' tests, and says where the programs are, or what is wrong.
async function build(folder, files) {
  return inWorkerd ? buildWorkers(folder) : buildTests(folder, files, WAYS);
}

// The Workers that are changed, and the tests as they are.
async function buildWorkers(folder) {
  for (const worker of [".", ROUTES]) {
    const command = [`${process.cwd()}/node_modules/.bin/wrangler`, "deploy", "--dry-run", "--cwd", worker, "--outdir", "dist"];
    if ((await run(folder, BUILD_SECONDS, command)).code === 0) continue;
    // Wrangler says it among much else.
    const { output, said } = await run(`${folder}/${worker === "." ? "counter" : worker}`, BUILD_SECONDS, ["worker-build", "--release"]);
    return { error: `${rulesAt(folder, said)} does not compile:\n${(output + said).slice(-6000)}` };
  }
  return buildTests(".", ["worker"], [{ has: () => true, features: ["--no-default-features"], more: {} }]);
}

async function buildTests(folder, files, ways) {
  const programs = new Map();
  for (const way of ways) {
    const some = [...new Set(files)].filter((file) => ways.find(({ has }) => has(file)) === way);
    if (some.length === 0) continue;
    const which = some.flatMap((file) => (file === "lib" ? ["--lib"] : ["--test", file]));
    const command = ["cargo", "test", "--no-run", "--message-format=json-render-diagnostics", ...way.features, ...which];
    const { code, output, said } = await run(folder, BUILD_SECONDS, command, way.more);
    if (code !== 0) return { error: `${rulesAt(folder, said)} does not compile:\n${said.slice(-6000)}` };
    for (const line of output.split("\n").filter((line) => line.startsWith("{"))) {
      const { executable, target } = JSON.parse(line);
      if (executable) programs.set(target.kind.includes("lib") ? "lib" : target.name, executable);
    }
  }
  return { programs };
}

// The mutants that the compiler speaks of.
function rulesAt(folder, said) {
  const places = [...said.matchAll(/ --> (src\/\S+):(\d+):/g)].map(([, file, line]) => {
    const above = readFileSync(`${folder}/${file}`, "utf8").split("\n").slice(0, line);
    return above.findLast((text) => text.startsWith(MARK))?.slice(MARK.length);
  });
  return [...new Set(places)].filter(Boolean).join("; ") || "it";
}

// Runs the tests that are to notice, by the programs, and says what became of it.
async function runTests(folder, programs, { files, tests }, more = {}) {
  const isExplorer = files.includes("explorer");
  const names = isExplorer ? ["the_promises_hold"] : tests.split("|");
  const outcomes = [];
  for (const file of files) {
    outcomes.push(await run(folder, TEST_SECONDS, [programs.get(file), ...names], { ...more, ...(isExplorer ? { EXPLORER_ONLY: tests } : {}) }));
  }
  const output = outcomes.map(({ output, said }) => output + said).join("\n");
  if (outcomes.some(({ code, output }) => code !== 0 && /test result: FAILED/.test(output))) return { found: true };
  if (outcomes.some(({ code, output }) => code === 124 && /\nrunning [1-9]/.test(output))) return { found: true, hangs: true };
  const isPassed = outcomes.every(({ code }) => code === 0) && /\nrunning [1-9]/.test(output);
  return { found: false, wrong: isPassed ? null : output.slice(-3000) };
}

// A rule that was written anew has its text in the list written anew, too.
const texts = new Map([...new Set(["src/lib.rs", ...mutants.map(({ file }) => file)])].map((file) => [file, readFileSync(file, "utf8")]));
const timesOf = ({ file, from }) => texts.get(file).split(from).length - 1;
const lost = mutants.filter((mutant) => timesOf(mutant) !== 1);
for (const mutant of lost) console.error(`UNTESTED  without: ${mutant.rule}: its text stands ${timesOf(mutant)} times in ${mutant.file}`);
if (isText || lost.length > 0) {
  console.log(`mutants: the text of ${mutants.length - lost.length} stands once, ${lost.length} not`);
  process.exit(lost.length > 0 || mutants.length === 0 ? 1 : 0);
}

// Another run would build its own in the same place.
const RUNNING = "target/mutants/running";
function isAlive(id) {
  try {
    return id > 0 && process.kill(id, 0);
  } catch {
    return false;
  }
}
const other = existsSync(RUNNING) ? Number(readFileSync(RUNNING, "utf8")) : 0;
if (isAlive(other)) {
  console.error(`Process ${other} runs the mutants already. If it is another program, remove ${RUNNING}.`);
  process.exit(1);
}
mkdirSync("target/mutants", { recursive: true });
writeFileSync(RUNNING, String(process.pid));
process.on("exit", () => rmSync(RUNNING, { force: true }));
// `timeout` leads a group of its own, which a terminal does not reach.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    for (const id of children) if (isAlive(id)) process.kill(-id);
    process.exit(1);
  });
}

let passed = 0;
const failures = [];
function report(mutant, { found, hangs, wrong }) {
  const verdict = found ? "caught" : wrong ? "UNTESTED" : "SURVIVES";
  console.log(`${verdict}  without: ${mutant.rule}${hangs ? " (its test does not end)" : ""}`);
  if (found) passed += 1;
  else failures.push(`${mutant.rule}: ${wrong || `passes without it: ${mutant.tests}, in ${mutant.files.join(" and ")}`}`);
}

// All that can be in one build.
const changed = new Map();
const woven = new Set();
for (const [file, text] of [...texts].filter(([file]) => file.endsWith(".rs"))) {
  const { text: changedText, numbers } = weave(text, mutants.filter((mutant) => mutant.file === file));
  changed.set(file, changedText);
  for (const number of numbers) woven.add(number);
}
changed.set("src/lib.rs", changed.get("src/lib.rs") + WHICH);
const [together, alone] = [true, false].map((isWoven) => mutants.filter(({ number }) => woven.has(number) === isWoven));

// What is wrong with the tests of some with nothing taken out.
const wrongs = new Map();
const testsOf = ({ files, tests }) => `${files} ${tests}`;

async function runTogether() {
  prepare(TOGETHER, changed);
  const { programs, error } = await build(TOGETHER, mutants.flatMap(({ files }) => files));
  if (error) return failures.push(error);
  // `make test` has played the simulation for longer before it comes to all of these: it is seen only that this build is the crate.
  const seeds = only ? {} : { SIMULATION_SEEDS: "50" };
  const each = [...new Map(mutants.map((mutant) => [testsOf(mutant), mutant])).values()];
  // Workers that are started once for all of them.
  const controls = inWorkerd ? [{ files: ["worker"], tests: each.map(({ tests }) => tests).join("|") }] : each;
  await eachOf(controls, async (mutant) => {
    const { found, wrong } = await runTests(TOGETHER, programs, mutant, seeds);
    const what = found ? `fails with nothing taken out: ${mutant.tests}` : wrong && `does not run: ${mutant.tests}\n${wrong}`;
    for (const one of inWorkerd ? each : [mutant]) if (what) wrongs.set(testsOf(one), what);
  });
  await eachOf(together, async (mutant) => {
    const wrong = wrongs.get(testsOf(mutant));
    report(mutant, wrong ? { found: false, wrong } : await runTests(TOGETHER, programs, mutant, { TAKEN_OUT: String(mutant.number) }));
  });
}

// As many at a time as there are cores; what is done in workerd mostly waits.
async function eachOf(items, act) {
  const queue = [...items];
  const work = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) await act(next);
  };
  await Promise.all(Array.from({ length: availableParallelism() * (inWorkerd ? 3 : 1) }, work));
}

async function runAlone(mutant) {
  prepare(ALONE, new Map([[mutant.file, texts.get(mutant.file).replace(mutant.from, () => mutant.to)]]));
  const { programs, error } = await build(ALONE, mutant.files);
  const wrong = wrongs.get(testsOf(mutant)) ?? error;
  report(mutant, wrong ? { found: false, wrong } : await runTests(ALONE, programs, mutant));
}

if (mutants.length === 0) failures.push(`no rule's text contains: ${only}`);
else console.log(`${mutants.length} mutants, ${alone.length} in a build of its own; a minute or two to build the others`);
if (mutants.length > 0) await runTogether();
for (const mutant of alone) await runAlone(mutant);
for (const failure of failures) console.log(`\n${failure}`);
console.log(`mutants: ${passed} passed, ${failures.length} failed`);
process.exit(failures.length > 0 || passed === 0 ? 1 : 0);
