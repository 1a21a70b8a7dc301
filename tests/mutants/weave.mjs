// Many mutants in one build: a function that mutants change has its body once for each of them, and once as it stands, and asks
// at run time which of them it is to run. A mutant of anything else, of a constant say, is a build of its own.

// The body of the innermost function around these offsets, as offsets, by the layout that rustfmt gives all of it: what opens it
// ends its line, and what closes it is a line of the same depth.
function bodyAround(text, start, end) {
  const lines = text.split("\n");
  const begins = [];
  for (let offset = 0, number = 0; number < lines.length; offset += lines[number].length + 1, number += 1) begins.push(offset);
  let number = begins.findLastIndex((offset) => offset <= start);
  for (; number >= 0; number -= 1) {
    const header = /^( *)(?:pub(?:\([a-z]+\))? )?(const )?(?:async )?fn \w/.exec(lines[number]);
    if (!header) continue;
    const [, depth, isConst] = header;
    const isAtDepth = (line) => line.startsWith(depth) && /^\S/.test(line.slice(depth.length));
    const opens = lines.findIndex((line, at) => at >= number && isAtDepth(line) && /[{;]$/.test(line));
    if (opens < 0 || !lines[opens].endsWith("{")) continue;
    const closes = lines.findIndex((line, at) => at > opens && line === `${depth}}`);
    const [from, to] = [begins[opens] + lines[opens].length, begins[closes]];
    if (end > to) continue;
    if (start < from) return null;
    // A constant function cannot ask, and an `impl Trait` is of one type for all bodies.
    if (isConst || /\) -> [^,]*\bimpl /.test(lines.slice(number, opens + 1).join("\n"))) return null;
    return { from, to };
  }
  return null;
}

// Stands before the rule of each.
export const MARK = "// mutant: ";

// What `text` becomes with these of its mutants, each `{ number, rule, from, to }`, and which of them are in it.
export function weave(text, mutants) {
  const bodies = new Map();
  for (const mutant of mutants) {
    const start = text.indexOf(mutant.from);
    const body = bodyAround(text, start, start + mutant.from.length);
    if (!body) continue;
    const one = bodies.get(body.from) ?? bodies.set(body.from, { ...body, mutants: [] }).get(body.from);
    one.mutants.push(mutant);
  }
  const numbers = [];
  let output = "";
  let done = 0;
  for (const { from, to, mutants } of [...bodies.values()].sort((a, b) => a.from - b.from)) {
    // It lies within the one before: its mutants are built by themselves.
    if (from < done) continue;
    const body = text.slice(from, to);
    output += text.slice(done, from);
    output += "\n#[allow(unused)]\nmatch crate::taken_out() {\n";
    for (const { number, rule, from, to } of mutants) {
      output += `${MARK}${rule}\n${number} => {${body.replace(from, () => to)}}\n`;
      numbers.push(number);
    }
    output += `_ => {${body}}\n}\n`;
    done = to;
  }
  return { text: output + text.slice(done), numbers };
}

// The function that they ask: the environment has the number of the mutant that is to run. A Worker's is its variables.
export const WHICH = `
#[allow(missing_docs, clippy::all)]
pub(crate) fn taken_out() -> usize {
    thread_local! {
        static NUMBER: usize = variable().and_then(|number| number.parse().ok()).unwrap_or(usize::MAX);
    }
    #[cfg(not(target_arch = "wasm32"))]
    fn variable() -> Option<String> {
        std::env::var("TAKEN_OUT").ok()
    }
    #[cfg(target_arch = "wasm32")]
    fn variable() -> Option<String> {
        use wasm_bindgen::prelude::{JsValue, wasm_bindgen};
        #[wasm_bindgen(module = "cloudflare:workers")]
        extern "C" {
            #[wasm_bindgen(thread_local_v2, js_name = env)]
            static ENV: JsValue;
        }
        ENV.with(|env| ::worker::js_sys::Reflect::get(env, &"TAKEN_OUT".into())).ok()?.as_string()
    }
    NUMBER.with(|number| *number)
}
`;
